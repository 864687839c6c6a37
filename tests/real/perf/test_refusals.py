"""A relay for load: what strangers would have perf workers send, and where to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from services.chassis.errors import LoadRefused, LoadTestMalformed, TargetRefused
from tests.testbed import loopback
from tests.testbed.backends import Backend, Backends
from tests.testbed.perfrigs import Rig, rigged, smp


@pytest.fixture(scope="module")
def target() -> Iterator[Backend]:
    with Backends() as running:
        yield running.add("target")


@pytest.fixture(scope="module")
async def rig(built: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A worker in a cluster: nothing that it reaches by its own loopback is a target."""
    folder = tmp_path_factory.mktemp("refusals")
    async with rigged(folder, workers=1, addresses_denied="127.0.0.0/8,::1/128") as rig:
        yield rig


def url(backend: Backend) -> str:
    return f"http://{loopback.HOST}:{backend.port}/"


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "nats:8222", "kubernetes.default.svc", "a.example"]
)
async def test_targets_that_are_not_listed_are_refused_at_once(rig: Rig, host: str) -> None:
    with pytest.raises(TargetRefused) as refused:
        await rig.start(smp(f"http://{host}/"))
    assert "MESHBUS_PERF_TARGETS" in refused.value.remedy


async def test_a_day_at_a_hundred_thousand_a_second_is_refused(rig: Rig, target: Backend) -> None:
    with pytest.raises(LoadRefused, match="100000 requests per second"):
        await rig.start(smp(url(target), rps=100_000, duration="24h"))


async def test_a_prometheus_of_the_tests_choice_is_not_asked(rig: Rig, target: Backend) -> None:
    with pytest.raises(LoadTestMalformed) as refused:
        await rig.start(smp(url(target), prometheus=url(target)))
    assert "MESHBUS_PERF_PROMETHEUS" in refused.value.remedy
    assert not target.requests


async def test_a_worker_judges_where_a_listed_target_is(rig: Rig, target: Backend) -> None:
    for listed in (url(target), f"http://localhost:{target.port}/"):
        error = await rig.refused(smp(listed, duration="1s"))
        assert error["code"] == "MB-6013"
        assert "MESHBUS_ADDRESSES_DENIED" in error["summary"]
    assert not target.requests


async def test_a_run_that_names_a_cluster_needs_one(
    built: None, tmp_path_factory: pytest.TempPathFactory, target: Backend
) -> None:
    async with rigged(tmp_path_factory.mktemp("made-up"), workers=1) as rig:
        run = await rig.start(smp(url(target), duration="1s"), cluster="madeup")
        record = await rig.until(run, "done", "failed", "cancelled")
        assert record["state"] == "failed"
        assert record["error"]["code"] in ("MB-2012", "MB-2005")
    assert not target.requests
