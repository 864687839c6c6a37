"""A real node without an engine: containerd, kubelet, kube-proxy and CoreDNS, in namespaces.

A node is one set of namespaces under one first process. What belongs to it (mounts, bridges,
rules, containers) is the kernel's to remove when that process ends, and it ends with the process
that started it. The machine gets two things: a network interface, which goes with the namespaces,
and control groups, which `stop` removes, or the next start when the run was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.testbed import building, cgroups, images
from tests.testbed.processes import BedError, Identity, Process, wait_until
from tests.testbed.recipe import SANDBOX_IMAGE, SERVICE_RANGE, SOURCES

# Of the range for measurements between networks (RFC 2544): no network of the machine has it.
_NETWORK = "198.18"
NETWORK = f"{_NETWORK}.0.0/16"
"""Where all nodes are."""
_LINK = "meshbus"
_NUMBERS = range(1, 250)
_SOCKET = "/run/containerd/containerd.sock"
_DOMAIN = "cluster.local"
_ALL_NAMESPACES = "--mount --net --pid --ipc --uts"
_OTHER_SNAPSHOTTERS = ("snapshotter.v1.blockfile", "snapshotter.v1.erofs")
_START_TIMEOUT_S = 30.0
_GONE_WITHIN_S = 15.0
_IMPORT_TIMEOUT_S = 180.0

Starter = Callable[[str, Sequence[str]], Process]
"""Makes a process of a name and a command, on a leash or with a record."""

_locks: list[int] = []
"""Descriptors of the numbers that this process has taken, held until it ends."""


class Node:
    """One node of one cluster. Its namespaces come first: the control plane is in its network."""

    def __init__(self, folder: Path, *, starter: Starter) -> None:
        """Chooses the node's number on the machine; nothing runs before a start."""
        self.folder = folder.resolve()
        self.number = _take_number()
        self.name = f"node-{self.number}"
        self.address = f"{_NETWORK}.{self.number}.2"
        self.pod_range = f"10.244.{self.number}.0/24"
        self._starter = starter
        self._etc = self.folder / "etc"
        self._cgroup = ""
        unshare = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
        first = ["/bin/sh", str(SOURCES / "node.sh"), str(self.folder)]
        self.namespaces = starter(
            "node",
            [_program("unshare"), *unshare, *first, str(building.node_tools()), self.name],
        )
        self.containerd = starter(
            "containerd", self._inside("containerd", self._containerd_flags())
        )
        self.kube_proxy = starter("kube-proxy", self._inside("kube-proxy", self._proxy_flags()))
        self.coredns = starter("coredns", self._inside("coredns", self._dns_flags()))
        self.kubelet = starter("kubelet", self._inside("kubelet", self._kubelet_flags()))
        services = (self.kube_proxy, self.coredns, self.kubelet)
        self.processes: tuple[Process, ...] = (self.namespaces, self.containerd, *services)
        """In the order of their start; all others end with the first."""

    def in_network(self, command: Sequence[str]) -> list[str]:
        """The command line of a program in the node's network, and else on the machine."""
        enter = f'exec nsenter --net="/proc/$(cat {self._pid_file})/ns/net" "$@"'
        return ["/bin/sh", "-c", enter, "sh", *command]

    @property
    def serving(self) -> str:
        """Name of the pair of keys by which its kubelet is known to whoever asks it."""
        return f"kubelet-{self.name}"

    # --- start and end ----------------------------------------------------------------------------

    def start_namespaces(self) -> None:
        """Makes namespaces, the machine's interface to them, and the control groups."""
        cgroups.remove_dead()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ready").unlink(missing_ok=True)
        self.namespaces.start()
        wait_until(
            (self.folder / "ready").exists,
            timeout_s=_START_TIMEOUT_S,
            what="the node's namespaces",
            processes=[self.namespaces],
        )
        Identity.of(self._pid, name="node-init").write(self._record)
        self._connect()
        self._cgroup = cgroups.make(self._pid)

    def start_containerd(self) -> None:
        """Starts containerd and gives it all images of the bed."""
        _write(self._etc / "cni" / "10-bed.conflist", self._cni())
        (self._etc / "containerd.toml").write_text(self._containerd_config())
        self.containerd.start()
        wait_until(
            lambda: self._ctr("version").returncode == 0,
            timeout_s=_START_TIMEOUT_S,
            what="containerd to answer",
            processes=[self.namespaces, self.containerd],
        )
        self.take_in(images.archive())

    def take_in(self, archive: Path) -> None:
        """Gives containerd the images of an archive, under the names that stand in it."""
        done = self._ctr("images", "import", str(archive))
        if done.returncode != 0:
            raise BedError(f"the node does not take its images: {done.stderr.strip()[-500:]}")

    def kill_container(self, ident: str) -> None:
        """SIGKILL for all processes of a container, whose id Kubernetes tells in a pod's status."""
        done = self._ctr("tasks", "kill", "--signal=SIGKILL", "--all", ident)
        if done.returncode != 0:
            raise BedError(f"{ident} could not be killed: {done.stderr.strip()}")

    def start_policies(self, *, kubeconfig: Path) -> None:
        """Has NetworkPolicies decide what reaches the node's pods, and what these reach; the node
        must be registered. Before this everything is let through."""
        flags = [str(kubeconfig), self.name, SERVICE_RANGE]
        policies = self._starter("network-policies", self._inside("network-policies", flags))
        policies.start()
        self.processes = (*self.processes, policies)

    def start_services(self, *, kubeconfig: Path, node_kubeconfig: Path, keys: Path) -> None:
        """Starts what works against an API server that is ready; kubelet registers the node."""
        (self._etc / "resolv.conf").touch()
        _write(self._etc / "kubelet.yaml", self._kubelet_config(keys))
        _write(self._etc / "kube-proxy.yaml", self._proxy_config(kubeconfig))
        (self._etc / "Corefile").write_text(self._dns_config(kubeconfig))
        self._kubeconfig_link.unlink(missing_ok=True)
        self._kubeconfig_link.symlink_to(node_kubeconfig)
        for process in (self.kube_proxy, self.coredns, self.kubelet):
            process.start()

    def stop(self) -> None:
        """Ends everything of the node and removes its folder."""
        # The others are only their commands' way in; they end with the first process.
        self.namespaces.kill()
        for process in self.processes:
            process.kill()
        forget(self.folder)

    @property
    def _pid(self) -> int:
        return int(self._pid_file.read_text())

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def _record(self) -> Path:
        return self.folder / "init.json"

    @property
    def _kubeconfig_link(self) -> Path:
        return self._etc / "node.kubeconfig"

    def _connect(self) -> None:
        """Puts the node at one end of a cable and the machine at the other.

        There is no route to the world, so that what a pod asks of it is refused at once. Services
        need one, although their addresses are changed before a packet would take it.
        """
        link = f"{_LINK}{self.number}"
        gateway = f"{_NETWORK}.{self.number}.1"
        inside = ("nsenter", f"--net=/proc/{self._pid}/ns/net", "ip")
        peer = ("peer", "name", "eth0", "netns", str(self._pid))
        for command in (
            ("ip", "link", "add", link, "type", "veth", *peer),
            ("ip", "address", "add", f"{gateway}/30", "dev", link),
            ("ip", "link", "set", link, "up"),
            (*inside, "address", "add", f"{self.address}/30", "dev", "eth0"),
            (*inside, "link", "set", "eth0", "up"),
            (*inside, "route", "add", SERVICE_RANGE, "via", gateway),
        ):
            _require(*command)

    def _inside(self, program: str, flags: list[str]) -> list[str]:
        """The command line of a program in all of the node's namespaces."""
        binary = building.binary(program)
        path = f"PATH={binary.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        enter = f'exec nsenter --target="$(cat {self._pid_file})" {_ALL_NAMESPACES} "$@"'
        return ["/bin/sh", "-c", enter, "sh", _program("env"), path, str(binary), *flags]

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        client = (str(building.binary("ctr")), f"--address={_SOCKET}", "--namespace=k8s.io")
        return self._enter(*client, *arguments)

    def _enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        target = f"--target={self._pid}"
        return _run("nsenter", target, *_ALL_NAMESPACES.split(), *command)

    # --- configuration ----------------------------------------------------------------------------

    def _containerd_flags(self) -> list[str]:
        return [f"--config={self._etc / 'containerd.toml'}"]

    def _containerd_config(self) -> str:
        runtime = "plugins.'io.containerd.cri.v1.runtime'"
        pictures = "plugins.'io.containerd.cri.v1.images'"
        left_out = ("internal.v1.tracing", "nri.v1.nri", *_OTHER_SNAPSHOTTERS)
        return "\n".join(
            (
                "version = 3",
                'root = "/var/lib/containerd"',
                'state = "/run/containerd"',
                f"disabled_plugins = {[f'io.containerd.{name}' for name in left_out]}",
                "[grpc]",
                f'address = "{_SOCKET}"',
                f"[{pictures}]",
                'snapshotter = "overlayfs"',
                f"[{pictures}.pinned_images]",
                f'sandbox = "{SANDBOX_IMAGE}"',
                f"[{runtime}]",
                # Where the machine keeps CAP_SYS_RESOURCE, no pod could begin otherwise.
                "restrict_oom_score_adj = true",
                f"[{runtime}.cni]",
                'bin_dirs = ["/usr/lib/cni"]',
                f'conf_dir = "{self._etc / "cni"}"',
                f"[{runtime}.containerd.runtimes.runc]",
                'runtime_type = "io.containerd.runc.v2"',
                f"[{runtime}.containerd.runtimes.runc.options]",
                "SystemdCgroup = false",
                "",
            )
        )

    def _cni(self) -> dict[str, Any]:
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni",
                "ranges": [[{"subnet": self.pod_range}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "1.0.0", "name": "bed", "plugins": [bridge, ports]}

    def _kubelet_flags(self) -> list[str]:
        return [
            f"--config={self._etc / 'kubelet.yaml'}",
            f"--kubeconfig={self._kubeconfig_link}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            "--root-dir=/var/lib/kubelet",
        ]

    def _kubelet_config(self, keys: Path) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "healthzPort": 0,
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self._cgroup,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            # No image is ever pulled again, so none may be collected.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi"},
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(keys / "ca.crt")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(keys / f"{self.serving}.crt"),
            "tlsPrivateKeyFile": str(keys / f"{self.serving}.key"),
            "clusterDNS": [self.address],
            "clusterDomain": _DOMAIN,
            "resolvConf": str(self._etc / "resolv.conf"),
            "podLogsDir": str(self.folder / "pods"),
            "maxPods": 100,
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
        }

    def _proxy_flags(self) -> list[str]:
        return [f"--config={self._etc / 'kube-proxy.yaml'}"]

    def _proxy_config(self, kubeconfig: Path) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": self.pod_range,
            "hostnameOverride": self.name,
            "bindAddress": self.address,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # Otherwise it sets limits that hold for the whole machine.
            "conntrack": {"maxPerCore": 0, "min": 0},
            "nftables": {"minSyncPeriod": "50ms"},
        }

    def _dns_flags(self) -> list[str]:
        return ["-conf", str(self._etc / "Corefile")]

    def _dns_config(self, kubeconfig: Path) -> str:
        return f"""{_DOMAIN}:53 {{
    bind {self.address}
    errors
    kubernetes {_DOMAIN} {{
        kubeconfig {kubeconfig}
        ttl 2
    }}
}}
"""


def forget(folder: Path) -> None:
    """Removes what a node leaves whose processes were ended: its control groups and its folder.

    Does nothing where there was no node.
    """
    record = folder / "init.json"
    if record.exists():
        first = Identity.read(record)
        first.end(grace_s=0.0)
        wait_until(
            lambda: not first.is_running, timeout_s=_GONE_WITHIN_S, what="the node to be gone"
        )
        cgroups.remove(first.pid)
    shutil.rmtree(folder, ignore_errors=True)


def link(one: Node, other: Node) -> None:
    """Lays a cable between two nodes, so that their pods and API servers reach each other.

    Its ends need no addresses: each node answers on it for the one that it has.
    """
    name = f"cable{one.number}-{other.number}"
    peer = ("peer", "name", name, "netns", str(other._pid))
    _require("ip", "link", "add", name, "netns", str(one._pid), "type", "veth", *peer)
    for node, far in ((one, other), (other, one)):
        inside = ("nsenter", f"--net=/proc/{node._pid}/ns/net", "ip")
        there = ("via", far.address, "dev", name, "onlink")
        for command in (
            ("link", "set", name, "up"),
            ("route", "add", far.address, "dev", name, "src", node.address),
            ("route", "add", far.pod_range, *there, "src", node.address),
        ):
            _require(*inside, *command)


def _take_number() -> int:
    """A number that no other node of the machine has, for its addresses and its interface.

    The lock keeps two starts apart; a node that outlived its starter is known by its interface.
    """
    folder = Path(tempfile.gettempdir()) / f"meshbus-nodes-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in random.sample(_NUMBERS, len(_NUMBERS)):
        if Path(f"/sys/class/net/{_LINK}{number}").exists():
            continue
        descriptor = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        _locks.append(descriptor)
        return number
    raise BedError("no number is free for a node; are old ones still running?")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BedError(f"a real node needs {name}, and there is none on PATH")
    return found


def _require(*command: str) -> None:
    done = _run(*command)
    if done.returncode != 0:
        raise BedError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_IMPORT_TIMEOUT_S,
        check=False,
    )


def _write(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML, and what CNI reads is JSON alone.
    file.write_text(json.dumps(document, indent=1))
