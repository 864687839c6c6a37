"""A cluster whose node is real: pods run, webhooks are called, and sidecars carry requests.

It is the bed's control plane without kwok, in the network of a node of `nodes.py`. The machine
needs no route for it: it reaches the API server at the node's address, and pods only through that.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.testbed import building, pki
from tests.testbed.clusters import Cluster
from tests.testbed.nodes import Node
from tests.testbed.processes import Process

NODE = "node"
"""Name of the node's folder in the cluster's."""


class RealCluster(Cluster):
    """One cluster with one real node, in one folder; several can stand side by side."""

    def __init__(self, folder: Path, *, name: str = "real", detached: bool = False) -> None:
        self.folder, self._detached = folder.resolve(), detached
        self.node = Node(self.folder / NODE, starter=self._runs)
        super().__init__(folder, name=name, detached=detached)
        self._node_names = [self.node.name]

    @property
    def processes(self) -> tuple[Process, ...]:
        first, *others = self.node.processes
        return first, *self._control_plane, *others

    @property
    def _control_plane(self) -> tuple[Process, ...]:
        return self.etcd, self.apiserver, self.controller_manager, self.scheduler

    def stop(self, *, keep_data: bool = False) -> None:
        # The node's network lives as long as one of these is in it.
        super().stop(keep_data=keep_data)
        self.node.stop()

    @property
    def _host(self) -> str:
        return self.node.address

    def _process(self, program: str, flags: list[str]) -> Process:
        return self._runs(program, self.node.in_network([str(building.binary(program)), *flags]))

    def _start_control_plane(self) -> None:
        self.node.start_namespaces()
        # The images are taken in while the API server starts.
        with ThreadPoolExecutor(1) as pool:
            images = pool.submit(self.node.start_containerd)
            super()._start_control_plane()
            images.result()

    def _start_nodes(self) -> None:
        self.node.start_services(
            kubeconfig=self.kubeconfig,
            node_kubeconfig=self._write_node_kubeconfig(),
            keys=self._keys,
        )

    def _etcd_is_healthy(self) -> bool:
        # It listens on the loopback of another network; the API server waits for it as well.
        return self.etcd.is_running

    def _issue(self, authority: pki.Authority) -> None:
        super()._issue(authority)
        user = f"system:node:{self.node.name}"
        authority.issue_client(user, groups=["system:nodes"]).write(self._keys, "node")
        hosts = (self.node.name, self.node.address)
        authority.issue_server(self.node.name, hosts).write(self._keys, "kubelet")

    def _write_node_kubeconfig(self) -> Path:
        file = self.folder / "node.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(self._kubeconfig(self._user("node"), server_url=self.server_url))
        return file

    def _flags_for_nodes(self) -> list[str]:
        return [
            f"--kubelet-client-certificate={self._keys / 'admin.crt'}",
            f"--kubelet-client-key={self._keys / 'admin.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            # The controller that lifts a fresh node's taint is off, as in every cluster here.
            "--disable-admission-plugins=TaintNodesByCondition",
        ]
