"""What the chart's Jobs run, as real processes under the chart's own ServiceAccounts: the keys, the
server that is configured by them, its streams, and the registration of the cluster itself."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from services.chassis.bus.connection import connect
from services.chassis.bus.credentials import Opener
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.subjects import registered_credential, watching_credential
from services.chassis.errors import ClusterForbidden
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import ClusterRecord
from services.chassis.settings import ChassisSettings
from tests.real.deploy.charts import RELEASE, Helm, Object, of_kind
from tests.testbed.buses import NatsServer
from tests.testbed.clusters import Cluster
from tests.testbed.processes import BedError, wait_until
from tests.testbed.stack import ROOT


@dataclass(frozen=True, slots=True)
class Installed:
    """The chart's objects in a namespace of the real cluster, without its pods."""

    cluster: Cluster
    namespace: str
    objects: list[Object]
    folder: Path

    def account(self, name: str) -> Path:
        """A folder as Kubernetes mounts it into the pod of an account: the hook's."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{name}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self.cluster.api.request("POST", path, asked)["status"]["token"]
        return self._mounted(name, {"token": token.encode(), "ca.crt": self._authority()})

    def token_secret(self, name: str) -> Path:
        """The same of a Secret that Kubernetes fills with an account's token."""
        wait_until(
            lambda: "token" in self.secret(name),
            timeout_s=60.0,
            what=f"Secret {name} to have its token",
            processes=[self.cluster.controller_manager],
        )
        return self._mounted(name, {k: v.encode() for k, v in self.secret(name).items()})

    def secret(self, name: str) -> dict[str, str]:
        found = self.cluster.api.request(
            "GET", f"/api/v1/namespaces/{self.namespace}/secrets/{name}"
        )
        return {key: b64decode(value).decode() for key, value in found.get("data", {}).items()}

    def run(self, job: str, *more: str, environment: Mapping[str, str] | None = None) -> str:
        """What the Job's container runs, with further arguments; its output."""
        [container] = of_kind(self.objects, "Job")[job]["spec"]["template"]["spec"]["containers"]
        python, *arguments = container["args"]
        assert python == "python3"
        done = subprocess.run(
            [sys.executable, *arguments, *more],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **(environment or {})},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _authority(self) -> bytes:
        config = yaml.safe_load(self.cluster.kubeconfig_text)
        return b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])

    def _mounted(self, name: str, files: Mapping[str, bytes]) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return folder


@pytest.fixture
def installed(cluster: Cluster, namespace: str, helm: Helm, tmp_path: Path) -> Iterator[Installed]:
    objects = helm.rendered({}, namespace=namespace)
    wanted = [
        each
        for each in objects
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding", "Secret")
        or each["kind"].startswith("ClusterRole")
    ]
    text = yaml.safe_dump_all(wanted)
    cluster.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=text)
    yield Installed(cluster, namespace, objects, tmp_path)
    cluster.kubectl(
        "delete", f"--namespace={namespace}", "--ignore-not-found", "--filename=-", stdin=text
    )


def make_keys(installed: Installed) -> tuple[dict[str, str], dict[str, str]]:
    """Runs the hook; the services' Secret and the server's."""
    job = f"{RELEASE}-make-keys"
    account = installed.account(job)
    server = installed.cluster.server_url
    installed.run(job, f"--account={account}", f"--server={server}")
    return installed.secret(f"{RELEASE}-keys"), installed.secret(f"{RELEASE}-nats-keys")


def test_keys_are_made_once_and_completed(installed: Installed) -> None:
    first = make_keys(installed)
    assert make_keys(installed) == first
    keys, server = first
    assert not any(value in server.values() for name, value in keys.items() if "nkey" in name)

    # As after an upgrade that brought a service, and one whose server's Secret was lost.
    installed.cluster.kubectl(
        "patch",
        "secret",
        f"{RELEASE}-keys",
        f"--namespace={installed.namespace}",
        "--type=json",
        '--patch=[{"op": "remove", "path": "/data/nkey-perf"}]',
    )
    again, known = make_keys(installed)
    assert {name for name in keys if again[name] != keys[name]} == {"nkey-perf"}
    assert {name for name in server if known[name] != server[name]} == {"MESHBUS_NKEY_PERF"}

    # The hook's account can do nothing else, not even read the namespace's other Secrets.
    may = _may(installed, f"{RELEASE}-make-keys")
    assert may("get", f"secrets/{RELEASE}-keys")
    assert not may("get", "secrets/other")
    assert not may("list", "secrets")
    assert not may("delete", f"secrets/{RELEASE}-keys")
    assert not may("get", "pods")


def _may(installed: Installed, account: str) -> Callable[[str, str], bool]:
    """Asks the API server what an account may do."""
    options = (
        f"--namespace={installed.namespace}",
        f"--as=system:serviceaccount:{installed.namespace}:{account}",
    )

    def may(verb: str, thing: str) -> bool:
        try:
            return "yes" in installed.cluster.kubectl("auth", "can-i", verb, thing, *options)
        except BedError as error:
            # It says no by its status as well.
            if "with 1: no" not in str(error):
                raise
            return False

    return may


async def test_the_cluster_is_registered_by_accounts_of_its_own(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, of_server = make_keys(installed)
    config = of_kind(installed.objects, "ConfigMap")[f"{RELEASE}-nats"]["data"]["nats.conf"]
    for variable, value in of_server.items():
        monkeypatch.setenv(variable, value)
    # The server refuses to be told twice where its store is.
    config = config.replace('  store_dir: "/data"\n', "")
    with NatsServer(tmp_path / "nats", config=config) as nats:
        environment = {
            "MESHBUS_NATS_URL": nats.url,
            "MESHBUS_NATS_SEED": keys["nkey-admin"],
            "MESHBUS_SEALING_PUBLIC_KEYS": keys["sealing-public"],
        }
        applied = installed.run(f"{RELEASE}-streams-1", environment=environment)
        assert "applied CMD" in applied
        folders = {
            "writing": installed.token_secret(f"{RELEASE}-lifecycle-token"),
            "reading": installed.token_secret(f"{RELEASE}-topology-token"),
        }
        more = [f"--{option}={folder}" for option, folder in folders.items()]
        for _ in range(2):
            said = installed.run(
                f"{RELEASE}-register-1",
                *more,
                f"--server={installed.cluster.server_url}",
                environment=environment,
            )
        cluster = said.split()[-1]
        assert said == f"registered home as {cluster}\n"

        for service, key in (
            ("lifecycle", registered_credential(cluster)),
            ("topology", watching_credential(cluster)),
        ):
            settings = ChassisSettings.model_validate(
                {
                    "nats_url": nats.url,
                    "nats_seed": keys[f"nkey-{service}"],
                    "sealing_public_keys": keys["sealing-public"],
                    "sealing_private_key": keys[f"sealing-{service}"],
                }
            )
            bus = await connect(settings, service=service)
            try:
                text = await Opener(Bucket(bus, "credentials")).get(key)
                stored = await Records(Bucket(bus, "clusters"), ClusterRecord).get(cluster)
            finally:
                await bus.close()
            assert stored is not None
            assert stored[0].has_reader
            await _tries(text, installed.namespace, may_write=service == "lifecycle")


async def _tries(kubeconfig: str, namespace: str, *, may_write: bool) -> None:
    """Writes by the credential: lifecycle's may, topology's may not, nor read a Secret."""
    body = b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a"}}'
    path = f"/api/v1/namespaces/{namespace}"
    async with KubeClient(parse_kubeconfig(kubeconfig)) as client:
        await client.get(f"{path}/services")
        if may_write:
            await client.request("POST", f"{path}/configmaps", body=body)
            return
        with pytest.raises(ClusterForbidden):
            await client.request("POST", f"{path}/configmaps", body=body)
        with pytest.raises(ClusterForbidden):
            await client.get(f"{path}/secrets/{RELEASE}-keys")
