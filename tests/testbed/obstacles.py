"""Why this machine cannot have a real node, found out before anything is built for one."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.testbed import cgroups

_PROGRAMS = ("unshare", "nsenter", "ip", "mount", "hostname", "apt-get", "dpkg-deb")
_LOADER = Path("/lib64/ld-linux-x86-64.so.2")
_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_PROCESSORS = 2
"""A mesh and an application with sidecars want one and a half."""
_TRY_TIMEOUT_S = 20.0
_NETLINK_NETFILTER = 12
_NFT_MSG_GETGEN = 10 << 8 | 16
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2


@cache
def obstacle() -> str:
    """Why this machine cannot have a real node; "" when it can. Builds and changes nothing."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or not _LOADER.exists():
        return "its images are made for Linux on x86-64, from this machine's glibc"
    if os.geteuid() != 0:
        return "only root may make its namespaces"
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            return f"there is no {program} on PATH"
    if (os.cpu_count() or 1) < _PROCESSORS:
        return f"its pods ask for {_PROCESSORS} processors"
    if found := cgroups.obstacle():
        return found
    if not _BRIDGED.exists():
        return "the kernel's module br_netfilter is not loaded (`modprobe br_netfilter`)"
    if not _has_nftables():
        return "the kernel has no nftables"
    return _kernel_obstacle()


def _kernel_obstacle() -> str:
    """Tries what the kernel may not have, in namespaces that end with the try."""
    with tempfile.TemporaryDirectory(prefix="meshbus-node-") as folder:
        for part in ("low", "over", "work"):
            (Path(folder) / part).mkdir()
        tries = (
            ("namespaces", "true"),
            ("overlays", f"mount -n -t overlay overlay -o {_over(folder)} {folder}/low"),
            ("bridges", "ip link add meshbus0 type bridge"),
        )
        for what, command in tries:
            unshare = ("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork")
            done = subprocess.run(
                (*unshare, "--kill-child", "/bin/sh", "-c", command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TRY_TIMEOUT_S,
                check=False,
            )
            if done.returncode != 0:
                return f"the kernel gives no {what}: {' '.join(done.stderr.split())[:200]}"
    return ""


def _has_nftables() -> bool:
    """Asks the kernel for the number of its rules' generation; no program is needed for that."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
            kernel.settimeout(_TRY_TIMEOUT_S)
            header = (struct.calcsize("=IHHIIBBH"), _NFT_MSG_GETGEN, _NLM_F_REQUEST, 1, 0)
            kernel.send(struct.pack("=IHHIIBBH", *header, 0, 0, 0))
            _, answer = struct.unpack_from("=IH", kernel.recv(4096))
    except OSError:
        return False
    return bool(answer != _NLMSG_ERROR)


def _over(folder: str) -> str:
    return f"lowerdir={folder}/low,upperdir={folder}/over,workdir={folder}/work"
