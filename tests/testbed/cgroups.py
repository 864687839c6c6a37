"""Control groups of a node: one group in each hierarchy, below which kubelet puts its pods."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from tests.testbed.processes import BedError, Identity

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("cpu", "cpuset", "memory", "pids")
_SETS = ("cpuset.cpus", "cpuset.mems")
_PREFIX = "meshbus-node-"
_POLL_S = 0.05
# Processes of a node that was killed are in the kernel's hands for about a second.
_EMPTY_WITHIN_S = 15.0


def obstacle() -> str:
    """Why no node can have groups here; "" when it can."""
    if _is_unified():
        delegated = (_ROOT / "cgroup.controllers").read_text().split()
        missing = [name for name in _NEEDED if name not in delegated]
        if missing:
            return f"the control groups (v2) are not delegated: {', '.join(missing)} missing"
        return ""
    missing = [name for name in _NEEDED if not (_ROOT / name).is_dir()]
    return f"there are no control groups for {', '.join(missing)}" if missing else ""


def make(pid: int) -> str:
    """Makes the groups of the node whose first process is `pid`; returns kubelet's name of them."""
    name = f"{_PREFIX}{pid}"
    if _is_unified():
        _delegate(_ROOT)
        (_ROOT / name).mkdir(exist_ok=True)
        _delegate(_ROOT / name)
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in _SETS:
            # An empty set, which a new group of v1 has, lets no process in.
            if (group / setting).exists():
                (group / setting).write_text((hierarchy / setting).read_text())
    return f"/{name}"


def remove(pid: int) -> None:
    """Removes the groups of a node that has ended, as soon as the kernel has let go of them."""
    deadline = time.monotonic() + _EMPTY_WITHIN_S
    while left := _left(pid):
        for group in left:
            # What goes meanwhile, by another run that looks for dead nodes, is passed over.
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)
        if time.monotonic() > deadline:
            raise BedError(f"control groups of a node that ended are still in use: {left[0]}")
        time.sleep(_POLL_S)


def remove_dead() -> None:
    """Removes what nodes left behind whose runs were killed; those that run are left alone."""
    for hierarchy in _hierarchies():
        for group in hierarchy.glob(f"{_PREFIX}*"):
            number = group.name.removeprefix(_PREFIX)
            if number.isdecimal() and not _runs(int(number)):
                remove(int(number))


def _runs(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be reaped has let go of all."""
    try:
        return Identity.of(pid, name=f"node {pid}").is_running
    except BedError:
        return False


def _left(pid: int) -> list[Path]:
    return [
        hierarchy / f"{_PREFIX}{pid}"
        for hierarchy in _hierarchies()
        if (hierarchy / f"{_PREFIX}{pid}").is_dir()
    ]


def _is_unified() -> bool:
    return (_ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    if _is_unified():
        return [_ROOT]
    return [path for path in sorted(_ROOT.iterdir()) if path.is_dir()]


def _delegate(group: Path) -> None:
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _NEEDED))
