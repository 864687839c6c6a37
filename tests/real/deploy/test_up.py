"""`make up`: from an empty folder to a ready gateway, a child's death, an end and a kill."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.local.installations import ROOT, SERVICES
from deploy.local.probing import fetch
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.real.deploy.launches import Launched, free_offset, is_alive
from tests.testbed.clusters import Cluster
from tests.testbed.generations import Generation, GenerationClient
from tests.testbed.waiting import eventually


@pytest.fixture
def launched(built: None, tmp_path: Path) -> Iterator[Launched]:
    launched = Launched(tmp_path / "up", offset=free_offset())
    yield launched
    launched.close()


def with_files(cluster: Cluster, folder: Path) -> Path:
    """The cluster's kubeconfig as minikube writes it: certificates in files beside it."""
    document = yaml.safe_load(cluster.kubeconfig_text)
    config = parse_kubeconfig(cluster.kubeconfig_text)
    for name, content in (
        ("ca.crt", config.ca_pem),
        ("user.crt", config.client_certificate_pem),
        ("user.key", config.client_key_pem),
    ):
        (folder / name).write_bytes(content)
    document["clusters"][0]["cluster"].pop("certificate-authority-data")
    document["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    document["users"][0]["user"] = {"client-certificate": "user.crt", "client-key": "user.key"}
    file = folder / "config"
    file.write_text(yaml.safe_dump(document))
    return file


async def test_it_starts_mends_itself_ends_and_comes_back(
    launched: Launched, cluster: Cluster, tmp_path: Path
) -> None:
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    config = with_files(cluster, tmp_path)

    await asyncio.to_thread(launched.start)
    addresses = launched.addresses
    assert {"gateway", "console", "nats", "operator_nkey", "kube"} <= set(addresses)
    assert addresses["kube"] == []
    for words in (addresses["gateway"], "ADAPTER_URLS", "nats context save", "1.31.0"):
        assert words in launched.text
    await _answers(addresses["gateway"])
    _is_private(launched.folder)
    assert b"<html" in await asyncio.to_thread(fetch, addresses["console"])

    # Once more in the same folder: it says so, and takes a cluster for the one that runs.
    second = await asyncio.to_thread(launched.run, "up", "--cluster", f"{config}:{cluster.name}")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "already" in second.stdout
    assert f"cluster {cluster.name} is registered" in second.stdout
    assert [entry["cluster"] for entry in launched.addresses["kube"]] == [token]

    await _doctor_finds_it_well(launched, cluster)
    before = launched.children()
    assert set(before) == {*SERVICES, "nats-server"}
    os.kill(before["perf"], signal.SIGKILL)
    await asyncio.to_thread(launched.hear, "perf was killed (signal 9)", "started again in 0.5 s")
    await asyncio.to_thread(launched.hear, "perf is ready again")
    assert launched.children()["perf"] != before["perf"]

    os.kill(launched.children()["perf"], signal.SIGSTOP)
    ill = await asyncio.to_thread(launched.run, "doctor")
    assert ill.returncode == 1
    assert re.search(r"fail +perf +none answers", ill.stdout), ill.stdout
    assert "python -m services.perf" in ill.stdout

    # An end in order, and the same once more: keys and clusters are those of before.
    assert await asyncio.to_thread(launched.end, signal.SIGTERM) == 0
    assert "ended; the state stays" in launched.text
    assert not any(map(is_alive, before.values()))
    assert not (launched.folder / "addresses.json").exists()
    launched.lines.clear()
    await asyncio.to_thread(launched.start)
    assert [entry["cluster"] for entry in launched.addresses["kube"]] == [token]
    assert launched.addresses["operator_nkey"] == addresses["operator_nkey"]

    # Killed, it can tell nobody: its children end all the same.
    children = launched.children()
    await asyncio.to_thread(launched.end, signal.SIGKILL)
    await eventually(
        lambda: not any(map(is_alive, children.values())), what="the children to end", within_s=20
    )


CONFIG_MAP = """apiVersion: v1
kind: ConfigMap
metadata: {name: applied-by-make, namespace: default}
"""


async def test_an_operation_is_followed_to_its_end_over_a_kill_of_everything(
    launched: Launched, cluster: Cluster, tmp_path: Path
) -> None:
    config = with_files(cluster, tmp_path)
    body = tmp_path / "body.yaml"
    body.write_text(CONFIG_MAP)
    cluster_at, named = f"--cluster={config}", f"--body={body}"
    nowhere = await asyncio.to_thread(launched.run, "apply", "custom", cluster_at)
    assert (nowhere.returncode, "`make up` starts it" in nowhere.stderr) == (1, True)

    await asyncio.to_thread(launched.start)
    unknown = await asyncio.to_thread(launched.run, "apply", "isito", cluster_at)
    assert unknown.returncode == 1
    assert "MB-1002" in unknown.stderr
    # It cannot end before everything is killed.
    os.kill(launched.children()["lifecycle"], signal.SIGSTOP)
    with subprocess.Popen(
        launched.command("apply", "custom", cluster_at, named, "--namespace=default"),
        cwd=ROOT,
        env=launched.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        accepted = await asyncio.to_thread(following.stdout.readline)
        assert "is accepted as operation" in accepted
        await asyncio.to_thread(launched.end, signal.SIGKILL)
        launched.lines.clear()
        await asyncio.to_thread(launched.start)
        told = await asyncio.to_thread(following.stdout.read)
    assert following.returncode == 0, told
    assert "the gateway is back" in told
    assert f"custom on {cluster.name}: succeeded" in told

    gone = await asyncio.to_thread(
        launched.run, "apply", "custom", cluster_at, named, "--namespace=default", "--delete"
    )
    assert gone.returncode == 0, gone.stdout + gone.stderr


async def _doctor_finds_it_well(launched: Launched, cluster: Cluster) -> None:
    """All is as it should be, the rights in the cluster among it; from outside as well."""
    looked = await asyncio.to_thread(launched.run, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(looked.stdout)}
    assert looked.returncode == 0, looked.stdout + looked.stderr
    for name in ("NATS", "NATS' clock", "keys", "key operator", "streams", "disk", *SERVICES):
        assert checks[name]["verdict"] == "ok", checks[name]
    assert checks[f"cluster {cluster.name}: rights"]["verdict"] == "ok"
    assert re.search(r", \d+\.\d+\.\d+$", checks["NATS"]["text"])
    assert checks[f"cluster {cluster.name}: clock"]["verdict"] == "ok"
    assert "1.31.0" in checks["Istio releases"]["text"]
    addresses = launched.addresses
    elsewhere = await asyncio.to_thread(
        launched.run,
        *("doctor", "--nats", addresses["nats"], "--nkey", addresses["operator_nkey"]),
        *("--gateway", addresses["gateway"], "--prometheus", "http://127.0.0.1:1"),
    )
    assert elsewhere.returncode == 1
    [refused] = [line for line in elsewhere.stdout.splitlines() if line.startswith("fail")]
    assert "Prometheus" in refused


async def _answers(address: str) -> None:
    async with GenerationClient(Generation.G, address) as client:
        assert (await client.call("MeshName", {})).name


def _is_private(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_what_is_in_the_way_is_told(launched: Launched, tmp_path: Path) -> None:
    absent = launched.run("doctor")
    assert absent.returncode == 1
    assert "does not run" in absent.stdout
    refused = launched.run("up", "--cluster", str(tmp_path / "none"))
    assert refused.returncode == 1
    assert "no such kubeconfig" in refused.stderr
    assert not launched.folder.exists()
