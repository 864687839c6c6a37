"""The load tests of a rollout with a real perf worker, asked under lifecycle's own rights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from services.chassis.bus.connection import connect
from services.chassis.errors import GateBroken
from services.lifecycle.adapters.questions import asking
from services.lifecycle.manifests.work import Work
from services.lifecycle.rollouts.options import PerformanceGateOptions
from services.lifecycle.rollouts.proving import LoadTests
from tests.testbed import loopback
from tests.testbed.backends import Backends
from tests.testbed.perfrigs import rigged, smp

_OBJECTIVE = {"errorRatio": 0.5, "rateRatio": 0.0}
"""That no busy machine breaks."""


class Quiet:
    """A fence that stands, and progress that nobody reads."""

    def check(self) -> None:
        """Holds."""

    def note(self, _summary: str, _details: str = "") -> None:
        """Tells nobody."""

    def warn(self, summary: str, _details: str = "") -> None:
        raise AssertionError(summary)


async def test_a_cluster_that_does_worse_is_found_out(built: None, tmp_path: Path) -> None:
    with Backends() as backends:
        shop = backends.add("shop")
        url = f"http://{loopback.HOST}:{shop.port}/{{cluster}}"
        options = PerformanceGateOptions(
            test=smp(url, rps=20, duration="1s", connections=1, objective=_OBJECTIVE), runs=1
        )
        command = SimpleNamespace(cluster="abcdefghijklmnop", cluster_name="shop-eu")
        work = SimpleNamespace(command=command, fence=Quiet(), progress=Quiet())
        async with rigged(tmp_path / "rig", workers=1) as rig:
            bus = await connect(rig.stack.settings("lifecycle"), service="lifecycle")
            try:
                tests = LoadTests(
                    ask=asking(bus, "perf"), work=cast(Work, work), options=options, rollout="r"
                )
                await tests.before()
                before = sum(shop.requests.values())
                assert before > 0
                assert {path for _, path in shop.requests} == {"/shop-eu"}
                # Whoever takes the step over finds the run.
                await tests.before()
                assert sum(shop.requests.values()) == before
                shop.fails_every = 1
                with pytest.raises(GateBroken, match="objective does not hold any more"):
                    await tests.after()
            finally:
                await bus.close()
