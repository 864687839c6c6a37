"""istioctl as lifecycle runs it: what becomes of it when processes are ended around it."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.errors import RenderFailed
from services.lifecycle.adapters.istioctl import Distributions
from tests.testbed.building import distributions_folder
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.usefixtures("built")

OVERLAY = b"apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: minimal}\n"


async def rendering() -> tuple[asyncio.Task[str], int]:
    """A render under way, and the pid of its istioctl."""
    distributions = Distributions(distributions_folder(), timeout=timedelta(minutes=1))
    task = asyncio.create_task(distributions.render(ISTIO_VERSION, OVERLAY))
    found: list[int] = []

    def has_begun() -> bool:
        found[:] = [pid for pid in _children() if _name(pid) == "istioctl"]
        return bool(found)

    await eventually(has_begun, what="istioctl to run")
    return task, found[0]


def _children() -> list[int]:
    own = Path(f"/proc/{os.getpid()}/task")
    return [int(pid) for task in own.iterdir() for pid in (task / "children").read_text().split()]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def test_what_is_sent_to_the_services_group_does_not_reach_it() -> None:
    """As Ctrl-C does, or process 1 of a container: in the drain of a node that ended installs."""
    task, pid = await rendering()
    assert os.getpgid(pid) != os.getpgid(0)
    assert "kind: Deployment" in await task


async def test_one_that_is_killed_is_told_as_that() -> None:
    task, pid = await rendering()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RenderFailed, match="signal 9") as told:
        await task
    assert "memory" in told.value.cause
    assert "repeat" in told.value.remedy
