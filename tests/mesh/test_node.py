"""The real node itself: what the mesh stands on must hold, and go when its run goes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import urllib.parse
from pathlib import Path

import pytest
import yaml

from tests.testbed import cgroups, images
from tests.testbed.bed import run_command
from tests.testbed.callers import Caller
from tests.testbed.processes import Identity, wait_until
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import IMAGES

_REPOSITORY = Path(__file__).resolve().parents[2]
_LINKS = Path("/sys/class/net")
_GROUPS = Path("/sys/fs/cgroup")

_PARENT = """
import sys
from pathlib import Path
from tests.testbed.nodes import Node
from tests.testbed.processes import Process
folder = Path(sys.argv[1])
log = folder / "log"
node = Node(folder, starter=lambda name, command: Process(name, command, log=log))
node.start_namespaces()
print(node.number, flush=True)
sys.stdin.read()
"""


_CONNECT = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10.0).close()
"""


def test_pods_reach_services_by_name_and_the_api_server(real_cluster: RealCluster) -> None:
    caller = Caller(real_cluster, namespace="default")
    caller.start()
    caller.wait_ready()
    real_cluster.kubectl(
        "create", "deployment", "web", "--image=docker.io/mccutchen/go-httpbin:v2.15.0"
    )
    real_cluster.kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
    real_cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    try:
        reached = caller.get("http://web.default.svc.cluster.local/status/204")
        refused = caller.get("https://kubernetes.default.svc.cluster.local/readyz")

        assert reached.counts == {"204": 1}
        # The server answered, with a certificate that the caller has no authority for.
        assert "certificate" in next(iter(refused.counts))
        assert "listening" in real_cluster.kubectl("logs", "deployment/web").lower()
    finally:
        real_cluster.kubectl("delete", "deployment/web", "deployment/caller", "service/web")
        real_cluster.kubectl("delete", "serviceaccount/caller")


def test_a_killed_run_leaves_no_node(nodes_built: None, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path / "node")],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        link = _LINKS / f"meshbus{parent.stdout.readline().strip()}"
        first = Identity.read(tmp_path / "node" / "init.json")
        assert first.is_running
        assert link.exists()

        parent.send_signal(signal.SIGKILL)

    wait_until(lambda: not first.is_running, timeout_s=20.0, what="the node to be gone")
    wait_until(lambda: not link.exists(), timeout_s=20.0, what="its interface to be gone")
    # Empty groups are all that stays, and the next node removes them.
    cgroups.remove_dead()
    assert not list(_GROUPS.glob(f"**/meshbus-node-{first.pid}"))


@pytest.mark.full
def test_the_command_brings_up_two_clusters_that_reach_each_other(
    nodes_built: None, tmp_path: Path
) -> None:
    folder = tmp_path / "bed"
    try:
        assert "2 cluster(s) ready" in run_command(
            "up", "--real", "--clusters=2", f"--folder={folder}"
        )
        kubeconfigs = [folder / "kubeconfig", folder / "kubeconfig-2"]
        [server] = yaml.safe_load(kubeconfigs[1].read_text())["clusters"]
        address = urllib.parse.urlsplit(server["cluster"]["server"])
        groups = {Identity.read(record) for record in folder.glob("cluster-*/node/init.json")}
        first = (folder / "cluster-1" / "node" / "pid").read_text().strip()
        look = ["nsenter", f"--net=/proc/{first}/ns/net", sys.executable, "-c", _CONNECT]
        done = subprocess.run([*look, str(address.hostname), str(address.port)])
        assert done.returncode == 0
    finally:
        run_command("down", f"--folder={folder}")

    assert not folder.exists()
    assert len(groups) == 2
    for node in groups:
        assert not node.is_running
        assert not list(_GROUPS.glob(f"**/meshbus-node-{node.pid}"))


def test_the_archive_has_every_image_once(nodes_built: None) -> None:
    with tarfile.open(images.archive()) as archive:
        names = archive.getnames()
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        told = json.load(manifest)

    assert len(names) == len(set(names))
    assert [image["RepoTags"] for image in told] == [[image.name] for image in IMAGES]
    assert {layer for image in told for layer in image["Layers"]} < set(names)
