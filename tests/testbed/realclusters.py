"""A cluster whose nodes are real: pods run, webhooks are called, and sidecars carry requests.

It is the bed's control plane without kwok, in the network of a node of `nodes.py`. The machine
needs no route for it: it reaches the API server at that node's address, and pods only through that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from pathlib import Path

from tests.testbed import building, pki
from tests.testbed.clusters import Cluster
from tests.testbed.nodes import Node, link
from tests.testbed.processes import Process

NODE = "node"
"""Name of the first node's folder in the cluster's."""


class RealCluster(Cluster):
    """One cluster with real nodes, in one folder; several can stand side by side.

    The control plane is in the first node's network, and cables lead from there to the others. The
    pods of all reach each other.
    """

    def __init__(
        self, folder: Path, *, name: str = "real", nodes: int = 1, detached: bool = False
    ) -> None:
        self.folder, self._detached = folder.resolve(), detached
        self.node = Node(self.folder / NODE, starter=self._runs)
        self.nodes = [self.node, *(self._further(number) for number in range(2, nodes + 1))]
        super().__init__(folder, name=name, detached=detached)
        self._node_names = [node.name for node in self.nodes]

    @property
    def processes(self) -> tuple[Process, ...]:
        firsts = [node.processes[0] for node in self.nodes]
        others = [process for node in self.nodes for process in node.processes[1:]]
        return *firsts, *self._control_plane, *others

    @property
    def _control_plane(self) -> tuple[Process, ...]:
        return self.etcd, self.apiserver, self.controller_manager, self.scheduler

    def take_in(self, *archives: Path) -> None:
        """Gives all nodes the images of these archives."""
        for archive in archives:
            self._on_all(methodcaller("take_in", archive))

    def stop(self, *, keep_data: bool = False) -> None:
        # The node's network lives as long as one of these is in it.
        super().stop(keep_data=keep_data)
        for node in self.nodes:
            node.stop()

    def enforce_policies(self) -> None:
        """Has NetworkPolicies hold on all nodes; without it the bed's bridges let all through."""
        for node in self.nodes:
            node.start_policies(kubeconfig=self.kubeconfig)

    def _further(self, number: int) -> Node:
        def starter(name: str, command: Sequence[str]) -> Process:
            return self._runs(f"{name}-{number}", command)

        return Node(self.folder / f"{NODE}-{number}", starter=starter)

    def _on_all(self, task: Callable[[Node], None]) -> None:
        """Does it on all nodes at once."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(task, self.nodes))

    @property
    def _host(self) -> str:
        return self.node.address

    def _process(self, program: str, flags: list[str]) -> Process:
        return self._runs(program, self.node.in_network([str(building.binary(program)), *flags]))

    def _start_control_plane(self) -> None:
        for node in self.nodes:
            node.start_namespaces()
        for one, other in itertools.combinations(self.nodes, 2):
            link(one, other)
        # The images are taken in while the API server starts.
        with ThreadPoolExecutor(1) as pool:
            images = pool.submit(self._on_all, Node.start_containerd)
            super()._start_control_plane()
            images.result()

    def _start_nodes(self) -> None:
        for node in self.nodes:
            node.start_services(
                kubeconfig=self.kubeconfig,
                node_kubeconfig=self._write_node_kubeconfig(node),
                keys=self._keys,
            )

    def _etcd_is_healthy(self) -> bool:
        # It listens on the loopback of another network; the API server waits for it as well.
        return self.etcd.is_running

    def _issue(self, authority: pki.Authority) -> None:
        super()._issue(authority)
        for node in self.nodes:
            user = f"system:node:{node.name}"
            authority.issue_client(user, groups=["system:nodes"]).write(self._keys, node.name)
            hosts = (node.name, node.address)
            authority.issue_server(node.name, hosts).write(self._keys, node.serving)

    def _write_node_kubeconfig(self, node: Node) -> Path:
        file = self.folder / f"{node.name}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(self._kubeconfig(self._user(node.name), server_url=self.server_url))
        return file

    def _flags_for_nodes(self) -> list[str]:
        return [
            f"--kubelet-client-certificate={self._keys / 'admin.crt'}",
            f"--kubelet-client-key={self._keys / 'admin.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            # The controller that lifts a fresh node's taint is off, as in every cluster here.
            "--disable-admission-plugins=TaintNodesByCondition",
        ]
