"""Runs on real workers: what they count, and what they make of trouble."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.chassis.errors import MalformedRequest, MeshbusError, OperationReused
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from tests.testbed import loopback
from tests.testbed.backends import Backend, Backends
from tests.testbed.perfrigs import ACK_WAIT_S, Rig, rigged, smp
from tests.testbed.waiting import eventually

DELAY_S = 0.01


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    with Backends() as running:
        yield running


@pytest.fixture(scope="module")
def shared(backends: Backends) -> Backend:
    return backends.add("target", delay_s=DELAY_S)


@pytest.fixture
def target(shared: Backend) -> Backend:
    """A server that answers after 10 ms, with its count at zero."""
    shared.requests.clear()
    shared.delay_s, shared.fails_every = DELAY_S, 0
    return shared


@pytest.fixture(scope="module")
async def trio(built: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Three workers that stay."""
    targets = "127.0.0.0/8,*.invalid"
    async with rigged(tmp_path_factory.mktemp("trio"), workers=3, perf_targets=targets) as rig:
        yield rig


@pytest.fixture(scope="module")
async def hurried(built: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Three workers of which one that conducts does not wait long for others."""
    folder = tmp_path_factory.mktemp("hurried")
    async with rigged(folder, workers=3, perf_start_within="4s") as rig:
        yield rig


def url(backend: Backend, path: str = "/") -> str:
    return f"http://{loopback.HOST}:{backend.port}{path}"


def counted(measurement: Measurement) -> int:
    return sum(measurement.tally.durations.counts)


def generators(backend: Backend) -> list[int]:
    """Process ids of load generators that are aimed at `backend`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended meanwhile
            if b"fortio" in words and f":{backend.port}".encode() in words:
                found.append(int(folder.name))
    return found


# --- what a run counts ---------------------------------------------------------------------------


async def test_the_totals_are_those_of_the_server(trio: Rig, target: Backend) -> None:
    measurement = await trio.measured(smp(url(target), rps=90, duration="3s", connections=6))
    assert counted(measurement) == 270 == target.requests.total()
    assert measurement.tally.codes == {"200": 270}
    assert measurement.workers == 3
    assert measurement.is_complete
    # How close that is to 90 is the machine's; see test_meshes.
    assert measurement.actual_rate == pytest.approx(270 / measurement.duration_s, rel=0.01)
    assert measurement.duration_s > 2.9
    assert Histogram.of(measurement.tally.durations).least_us >= DELAY_S * 1e6
    assert sum(sum(i.codes.values()) for i in measurement.tally.intervals) == 270
    assert len(measurement.tally.intervals) in (3, 4)


async def test_fewer_requests_than_workers(trio: Rig, target: Backend) -> None:
    measurement = await trio.measured(smp(url(target), rps=3, duration="1s", connections=8))
    assert counted(measurement) == 3 == target.requests.total()


async def test_targets_share_by_weight(trio: Rig, target: Backend, backends: Backends) -> None:
    other = backends.add("other")
    body = smp(
        url(target),
        rps=80,
        duration="2s",
        targets=[{"url": url(target), "weight": 3}, {"url": url(other), "weight": 1}],
    )
    measurement = await trio.measured(body)
    assert (target.requests.total(), other.requests.total()) == (120, 40)
    assert [sum(t.tally.durations.counts) for t in measurement.targets] == [120, 40]


async def test_stages_follow_each_other(trio: Rig, target: Backend) -> None:
    stages = [{"rate": rate, "durationSeconds": 1} for rate in (20, 60, 40)]
    measurement = await trio.measured(smp(url(target), stages=stages))
    assert [sum(stage.tally.durations.counts) for stage in measurement.stages] == [20, 60, 40]
    assert target.requests.total() == 120
    assert max(interval.index for interval in measurement.tally.intervals) >= 2


async def test_the_search_finds_where_the_target_saturates(trio: Rig, target: Backend) -> None:
    """Two connections and 50 ms a request: no more than 40 requests a second go through."""
    target.delay_s = 0.05
    body = smp(
        url(target),
        connections=2,
        workers=1,
        saturation={"lowest": 10, "highest": 160, "stepSeconds": 2, "precision": 0.4},
        objective={"p90Ms": 150, "rateRatio": 0.9},
    )
    measurement = await trio.measured(body, within_s=120)
    # A busy machine holds less, which is then what the stages tell.
    held = [stage.rate for stage in measurement.stages if stage.holds]
    assert measurement.saturation_rate == max(held) <= 44
    assert not all(stage.holds for stage in measurement.stages)


async def test_half_of_the_answers_are_errors(trio: Rig, target: Backend) -> None:
    target.fails_every = 2
    measurement = await trio.measured(smp(url(target), rps=60, duration="2s"))
    assert measurement.tally.codes == {"200": 60, "503": 60}
    assert sum(measurement.tally.failures.counts) == 60
    assert any("60 requests failed (50.00%)" in line for line in measurement.warnings)


async def test_runs_side_by_side_do_not_mix(trio: Rig, backends: Backends) -> None:
    servers = [backends.add(f"own-{number}") for number in range(3)]
    found = await asyncio.gather(
        *(
            trio.measured(smp(url(server), rps=20 + 10 * n, duration="2s", workers=1))
            for n, server in enumerate(servers)
        )
    )
    for measurement, server, asked in zip(found, servers, (40, 60, 80), strict=True):
        assert counted(measurement) == server.requests.total()
        # Fewer where the machine was too busy, which the result then says.
        assert counted(measurement) == asked or measurement.warnings


async def test_a_run_asked_for_twice_is_made_once(trio: Rig, target: Backend) -> None:
    body = smp(url(target), rps=20, duration="1s")
    run = await trio.start(body, run="twice")
    await trio.until(run, "done")
    await trio.start(body, run="twice")
    await trio.measured(smp(url(target), rps=20, duration="1s"))
    assert target.requests.total() == 40


# --- forms of results ----------------------------------------------------------------------------


async def test_every_form_of_the_result_can_be_read(trio: Rig, target: Backend) -> None:
    canary = "canary-3f9a1c"
    body = smp(
        url(target, f"/?key={canary}"),
        rps=30,
        duration="2s",
        client={"headers": {"Authorization": f"Bearer {canary}"}, "body": canary},
    )
    measurement = await trio.measured(body)
    run = measurement.run
    texts = [measurement.model_dump_json()]
    fortio = await trio.ask("results", run=run)
    assert fortio["DurationHistogram"]["Count"] == 60
    assert sum(bucket["Count"] for bucket in fortio["DurationHistogram"]["Data"]) == 60
    smp_form = await trio.ask("results", run=run, format="smp")
    p50 = Histogram.of(measurement.tally.durations).percentile_us(50) / 1000
    assert smp_form["latencies_ms"]["p50"] == pytest.approx(p50)
    for form in ("hdr", "hgrm", "html", "png"):
        answer = await trio.ask("results", run=run, format=form)
        assert answer[form]
        texts.append(str(answer[form]))
    keys = (await asyncio.to_thread(trio.stack.nats_cli, "kv", "ls", "perf", user="admin")).split()
    kept = [key for key in keys if run in key]
    assert len(kept) == 2  # the run and its step
    for key in kept:
        texts.append(
            await asyncio.to_thread(trio.stack.nats_cli, "kv", "get", "perf", key, "--raw")
        )
    cli = await asyncio.to_thread(
        trio.stack.nats_cli,
        *("object", "get", "perf", f"results/{run}.json", "--force", "--output=/dev/stdout"),
        user="admin",
    )
    assert '"DurationHistogram"' in cli
    for page in (f"runs/{run}", f"runs/{run}.png", f"runs/{run}.json", f"runs/{run}.hdr", "runs"):
        fetched = await asyncio.to_thread(
            loopback.fetch, f"{trio.stack.health_url('perf-1')}/{page}", timeout_s=30.0
        )
        assert fetched
        texts.append(fetched.decode(errors="replace"))
    assert f'href="/runs/{run}"' in texts[-1]
    texts += [str(fortio), str(smp_form), cli, trio.stack.log_text()]
    assert [text[:80] for text in texts if canary in text] == []


async def test_a_baseline_keeps_what_is_like_it_and_follows_no_regression(
    trio: Rig, target: Backend
) -> None:
    def body(*, anew: bool = False) -> str:
        return smp(url(target), rps=100, duration="3s", baseline="nightly", replaceBaseline=anew)

    first = [await trio.measured(body())]
    first += [await trio.measured(smp(url(target), rps=100, duration="3s")) for _ in range(2)]
    # So much that it is seen on a busy machine as well, where single runs differ by half.
    target.delay_s = DELAY_S * 20
    slower = [await trio.measured(body()) for _ in range(3)]
    sides = [[run.run for run in side] for side in (first, slower)]
    alone = await trio.ask("compare", before="baseline:nightly", after=slower[0].run)
    assert alone["before"] == sides[0][:1], "the baseline followed a regression"
    assert alone["verdict"] == "inconclusive", alone["told"]
    found = await trio.ask("compare", before=sides[0], after=sides[1], paired=True)
    assert found["verdict"] == "regression", found["told"]
    back = await trio.ask("compare", before=sides[1], after=sides[0])
    assert back["verdict"] == "improvement", back["told"]
    anew = await trio.measured(body(anew=True))

    async def is_kept() -> bool:
        kept = await trio.ask("compare", before="baseline:nightly", after=slower[0].run)
        return bool(kept["before"] == [anew.run])

    # A run has ended before what becomes of it is decided.
    await eventually(is_kept, what="the new baseline")


# --- trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("http://127.0.0.1:{free}/", "MB-6004"),
        ("http://no-such-host.invalid/", "MB-6005"),
        ("https://127.0.0.1:{plain}/", "MB-6006"),
    ],
    ids=["down", "name", "tls"],
)
async def test_a_target_that_cannot_be_tested_says_why(
    address: str, code: str, trio: Rig, target: Backend
) -> None:
    address = address.format(free=loopback.take_port(), plain=target.port)
    error = await trio.refused(smp(address, rps=20, duration="2s"))
    assert error["code"] == code, error
    assert error["cause"]
    assert error["remedy"]


async def test_a_target_that_never_answers(trio: Rig, target: Backend) -> None:
    target.delay_s = 30
    error = await trio.refused(
        smp(url(target), rps=10, duration="2s", connections=4, timeoutSeconds=1)
    )
    assert error["code"] == "MB-6007", error


@pytest.mark.parametrize("field", ["run", "cluster"])
async def test_an_id_that_is_none_is_refused_and_harms_nobody(
    field: str, trio: Rig, target: Backend
) -> None:
    for value in ("x" * 5000, "a b", ">", "a.b"):
        with pytest.raises(MalformedRequest, match=f"{field} is no id"):
            await trio.start(smp(url(target)), **{field: value})
    for verb in ("results", "status", "cancel"):
        with pytest.raises(MalformedRequest):
            await trio.ask(verb, run="x" * 5000)
    page = f"{trio.stack.health_url('perf-1')}/runs/{'x' * 5000}"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        await asyncio.to_thread(loopback.fetch, page, timeout_s=10.0)
    assert len((await trio.ask("status"))["runs"]) >= 0


async def test_an_id_names_one_test(trio: Rig, target: Backend) -> None:
    await trio.start(smp(url(target), rps=20, duration="1s"), run="reused")
    with pytest.raises(OperationReused):
        await trio.start(smp(url(target), rps=30, duration="1s"), run="reused")
    await trio.until("reused", "done")
    assert target.requests.total() == 20


async def test_the_test_may_be_json(trio: Rig, target: Backend) -> None:
    """As the guide has it: the file alone, whatever its form."""
    flags = ("--raw", "--timeout=30s", "--force-stdin", "--no-templates")
    text = smp(url(target), rps=20, duration="1s")
    answer = await asyncio.to_thread(
        trio.stack.nats_cli, "req", *flags, "mesh.perf.run", stdin=text
    )
    await trio.until(json.loads(answer)["run"], "done")
    assert target.requests.total() == 20


async def test_a_run_that_found_no_workers_leaves_none_of_them_busy(
    hurried: Rig, target: Backend
) -> None:
    error = await hurried.refused(smp(url(target), duration="1h", connections=20, workers=20))
    assert error["code"] == "MB-6008"
    assert counted(await hurried.measured(smp(url(target), rps=30, duration="1s"))) == 30


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"rps": -5}, "rps"),
        ({"duration": "soon"}, "duration"),
        ({"connections": 0}, "connections"),
        ({"client": {"endpoint_urls": ["ftp://a"]}}, "endpoint_urls"),
        ({"client": {"rpz": 5}}, "rpz"),
        ({"workers": -1}, "workers"),
        ({"client": {"load_generator": "siege"}}, "load_generator"),
    ],
)
async def test_nonsense_is_refused_at_once(
    broken: dict[str, object], word: str, trio: Rig, target: Backend
) -> None:
    with pytest.raises(MeshbusError) as raised:
        await trio.start(smp(url(target), **broken))  # type: ignore[arg-type]
    assert word in str(raised.value)
    assert target.requests.total() == 0


async def test_too_few_workers(hurried: Rig, target: Backend) -> None:
    error = await hurried.refused(smp(url(target), connections=5, workers=5), within_s=60)
    assert error["code"] == "MB-6008"
    assert "2 of 5" in error["summary"]


@pytest.mark.alone
async def test_cancelling_leaves_no_load(trio: Rig, target: Backend) -> None:
    run = await trio.start(smp(url(target), rps=60, duration="60s"))
    await eventually(lambda: target.requests.total() > 30, what="load", within_s=60)
    assert generators(target)
    began = time.monotonic()
    answer = await trio.ask("cancel", run=run)
    assert answer["cancelling"]
    await eventually(lambda: not generators(target), what="no generator", within_s=60)
    took = time.monotonic() - began
    assert took < 1.0
    record = await trio.until(run, "cancelled")
    assert record["error"]["code"] == "MB-2008"
    left = target.requests.total()
    await trio.measured(smp(url(target), rps=20, duration="1s"))
    assert target.requests.total() == left + 20


async def test_a_queued_run_is_cancelled_before_it_begins(
    built: None, tmp_path: Path, target: Backend
) -> None:
    """Its only conductor is full; when that is free again, no load is made for it."""
    async with rigged(tmp_path, workers=1, perf_runs="1") as rig:
        first = await rig.start(smp(url(target), rps=20, duration="3s"))
        await eventually(lambda: target.requests.total() > 0, what="load", within_s=60)
        second = await rig.start(smp(url(target), rps=20, duration="3s"))
        assert (await rig.status(second))["state"] == "queued"
        assert (await rig.ask("cancel", run=second))["cancelling"]
        await rig.until(first, "done")
        await rig.until(second, "cancelled")
        assert target.requests.total() == 60


async def test_two_runs_that_want_all_workers_both_end(trio: Rig, target: Backend) -> None:
    """Each counts on the same free workers; they share them."""
    body = smp(url(target), rps=30, duration="3s", connections=6)
    found = await asyncio.gather(trio.measured(body), trio.measured(body))
    assert [counted(measurement) for measurement in found] == [90, 90]
    assert target.requests.total() == 180


@pytest.mark.full
async def test_a_search_goes_on_without_a_worker_that_died(
    built: None, tmp_path: Path, target: Backend
) -> None:
    target.delay_s = 0.05
    async with rigged(tmp_path, workers=3) as rig:
        body = smp(
            url(target),
            connections=6,
            saturation={"lowest": 20, "highest": 320, "stepSeconds": 3, "precision": 0.4},
            objective={"p90Ms": 400, "rateRatio": 0.8},
        )
        run = await _killed(rig, target, body, conductor=False)
        await rig.until(run, "done", within_s=150)
        measurement = await rig.measurement(run)
        assert measurement.saturation_rate is not None
        assert 40 <= measurement.saturation_rate <= 160


async def test_an_outage_of_nats_that_outlasts_the_claim(
    built: None, tmp_path: Path, target: Backend
) -> None:
    """The conductor loses its claim and the load runs on; whoever goes on collects it."""
    async with rigged(tmp_path, workers=2) as rig:
        run = await rig.start(smp(url(target), rps=40, duration="8s"))
        await eventually(lambda: target.requests.total() > 40, what="load", within_s=60)
        await asyncio.to_thread(rig.stack.nats.kill)
        await eventually(
            lambda: target.requests.total() >= 300, what="load without NATS", within_s=60
        )
        await asyncio.to_thread(rig.stack.nats.start)
        await rig.until(run, "done", within_s=120)
        measurement = await rig.measurement(run)
        assert counted(measurement) == 320 == target.requests.total()
        assert measurement.rerun == []


async def test_a_run_goes_on_over_a_restart_of_nats(
    built: None, tmp_path: Path, target: Backend
) -> None:
    """And for longer than the ack wait: nobody takes the shards a second time."""
    async with rigged(tmp_path, workers=2) as rig:
        run = await rig.start(smp(url(target), rps=40, duration=f"{4 * ACK_WAIT_S}s"))
        await eventually(lambda: target.requests.total() > 40, what="load", within_s=60)
        await asyncio.to_thread(rig.stack.nats.kill)
        await asyncio.to_thread(rig.stack.nats.start)
        await rig.until(run, "done", within_s=90)
        measurement = await rig.measurement(run)
        assert counted(measurement) == 160 * ACK_WAIT_S == target.requests.total()
        assert measurement.rerun == []


# --- workers that die ----------------------------------------------------------------------------


async def _killed(rig: Rig, backend: Backend, body: str, *, conductor: bool) -> str:
    """Kills one worker of a run in the middle of its load; returns the run."""
    run = await rig.start(body)
    await eventually(lambda: backend.requests.total() > 60, what="load", within_s=60)
    leads = await _conductor(rig, run)
    victim = leads if conductor else next(n for n in rig.stack.processes if n != leads)
    rig.stack.processes[victim].kill()
    return run


async def _conductor(rig: Rig, run: str) -> str:
    stored = await asyncio.to_thread(rig.stack.nats_cli, "kv", "get", "ops", f"{run}.none", "--raw")
    return str(json.loads(stored)["worker"])


async def test_a_killed_workers_shard_runs_again(
    built: None, tmp_path: Path, target: Backend
) -> None:
    async with rigged(tmp_path, workers=3) as rig:
        body = smp(url(target), rps=60, duration="6s", connections=6)
        run = await _killed(rig, target, body, conductor=False)
        await rig.until(run, "done", within_s=90)
        measurement = await rig.measurement(run)
        assert counted(measurement) == 360
        assert len(measurement.rerun) == 1
        assert measurement.is_complete
        assert any("ran again" in line for line in measurement.warnings)
        assert 360 < target.requests.total() < 480  # the lost ones were sent, and are not counted


async def test_a_killed_workers_shard_is_told_as_missing(
    built: None, tmp_path: Path, target: Backend
) -> None:
    async with rigged(tmp_path, workers=3) as rig:
        body = smp(url(target), rps=60, duration="6s", connections=6, onLostWorker="report")
        run = await _killed(rig, target, body, conductor=False)
        await rig.until(run, "done", within_s=90)
        measurement = await rig.measurement(run)
        assert counted(measurement) == 240
        [hole] = measurement.missing
        assert "not counted" in hole.reason


async def test_a_killed_conductor_is_replaced(built: None, tmp_path: Path, target: Backend) -> None:
    async with rigged(tmp_path, workers=3) as rig:
        body = smp(url(target), rps=60, duration="6s", connections=6)
        run = await _killed(rig, target, body, conductor=True)
        await rig.until(run, "done", within_s=90)
        measurement = await rig.measurement(run)
        assert counted(measurement) == 360
        assert len(measurement.rerun) == 1


async def test_a_worker_that_is_asked_to_stop_ends_its_shard(
    built: None, tmp_path: Path, target: Backend
) -> None:
    """Scaling down takes no part of a run away."""
    async with rigged(tmp_path, workers=3) as rig:
        run = await rig.start(smp(url(target), rps=60, duration="5s", connections=6))
        await eventually(lambda: target.requests.total() > 60, what="load", within_s=60)
        leads = await _conductor(rig, run)
        other = next(name for name in rig.stack.processes if name != leads)
        await asyncio.to_thread(rig.remove, other)
        await rig.until(run, "done", within_s=60)
        measurement = await rig.measurement(run)
        assert counted(measurement) == 300 == target.requests.total()
        assert measurement.rerun == []


async def test_a_worker_that_comes_later_takes_part(
    built: None, tmp_path: Path, target: Backend
) -> None:
    """Scaling up while a run waits for its workers."""
    async with rigged(tmp_path, workers=1, perf_start_within="30s") as rig:
        run = await rig.start(smp(url(target), rps=40, duration="2s", workers=2))
        await rig.until(run, "waiting")
        await asyncio.to_thread(rig.add, 1, first=2)
        await rig.until(run, "done", within_s=60)
        assert (await rig.measurement(run)).workers == 2
        assert target.requests.total() == 80
