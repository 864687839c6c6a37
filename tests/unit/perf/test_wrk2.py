"""wrk2's command line, and the reading of its output.

No package carries wrk2, so the texts under `recorded/` were not captured from it: they follow its
`printf` formats and the iteration of its HdrHistogram (wrk.c, hdr_histogram.c) line by line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.errors import LoadTestMalformed
from services.perf.definitions.loads import Load, Protocol, Target
from services.perf.generators import wrk2
from services.perf.measurements.tallies import Tally

RECORDED = Path(__file__).with_name("recorded")


def output(name: str) -> wrk2.Output:
    return wrk2.Output.read((RECORDED / f"wrk2-{name}.txt").read_text())


def tally(name: str, *, asked: int) -> Tally:
    counted = Tally()
    output(name).count(counted, asked=asked, offset_s=100.0)
    return counted


def load(target: Target | None = None, *, rate: float = 99.6, duration_s: float = 30.0) -> Load:
    return Load(
        target=target or Target(url="http://shop/"),
        rate=rate,
        duration_s=duration_s,
        requests=round(rate * duration_s),
        connections=16,
    )


def test_the_command_has_whole_numbers_only() -> None:
    target = Target(url="http://shop/a", headers={"X-User": "me"}, timeout_s=2.5)
    assert wrk2.command(load(target), program="/opt/wrk") == [
        *("/opt/wrk", "-t", "1", "-c", "16", "-R", "100", "-d", "30s", "--latency", "--u_latency"),
        *("--timeout", "3s", "-H", "X-User: me", "http://shop/a"),
    ]
    assert wrk2.command(load(rate=1_234_567), program="wrk")[6] == "1234567"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"protocol": Protocol.HTTP2}, "HTTP/1.1"),
        ({"protocol": Protocol.GRPC}, "HTTP/1.1"),
        ({"protocol": Protocol.TCP}, "HTTP/1.1"),
        ({"body": "x"}, "body"),
        ({"url": "https://shop/"}, "certificate"),
        ({"url": "https://shop/", "insecure": True, "ca_certificate": "pem"}, "certificate"),
    ],
)
def test_what_wrk2_cannot_do_is_refused(changes: dict[str, object], word: str) -> None:
    target = Target.model_validate({"url": "http://shop/", **changes})
    with pytest.raises(LoadTestMalformed, match=word):
        wrk2.check(load(target))


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_a_rate_below_one_is_refused(rate: float) -> None:
    with pytest.raises(LoadTestMalformed, match=r"rate|whole"):
        wrk2.check(load(rate=rate))


@pytest.mark.parametrize("url", ["http://shop/", "https://shop/"])
def test_the_rest_is_taken(url: str) -> None:
    wrk2.check(load(Target(url=url, insecure=True)))


def test_a_steady_run_keeps_both_spectra() -> None:
    """10 000 latencies after the calibration stand for 14 998 requests."""
    found = tally("steady", asked=15_000)
    assert (found.requests, found.responses.count, found.failed) == (14_998, 14_998, 0)
    assert found.codes == {wrk2.ANSWERED: 14_998}
    assert found.durations.percentile_us(50) == pytest.approx(1400, rel=0.02)
    assert found.durations.mean_us == pytest.approx(1482, abs=1)
    assert found.durations.deviation_us == pytest.approx(528, abs=1)
    assert found.responses.percentile_us(50) > found.durations.percentile_us(50) + 300
    assert found.bytes_received == round(3.29 * 1024**2)
    assert found.intervals == {}


@pytest.mark.parametrize("name", ["steady", "failing", "overloaded", "latency-only"])
def test_percentiles_are_those_that_wrk2_tells(name: str) -> None:
    text = (RECORDED / f"wrk2-{name}.txt").read_text()
    table = text.partition("(HdrHistogram - Recorded Latency)\n")[2].partition("\n\n")[0]
    counted = tally(name, asked=0)
    for line in table.splitlines():
        percent, told = line.split()
        factor = 1_000_000 if told[-2].isdigit() else 1000
        told_us = float(told.rstrip("mus")) * (1 if told.endswith("us") else factor)
        found_us = counted.responses.percentile_us(float(percent.rstrip("%")))
        # A spectrum has steps: the value of the next one stands for those below it.
        assert told_us * 0.99 <= found_us + 10 <= told_us * 1.12 + 20


def test_failures_are_counted_up_to_what_was_asked_for() -> None:
    found = tally("failing", asked=2_000)
    assert found.codes == {wrk2.ANSWERED: 995, wrk2.REFUSED: 995, wrk2.NO_ANSWER: 10}
    assert (found.requests, found.failed) == (2_000, 1_005)
    assert found.responses.count == 2_000
    few = tally("failing", asked=1_993)
    assert few.codes[wrk2.NO_ANSWER] == 3
    assert tally("failing", asked=1_000).codes[wrk2.NO_ANSWER] == 0


def test_an_overloaded_target_shows_in_the_response_times() -> None:
    found = tally("overloaded", asked=12_000)
    assert found.durations.percentile_us(99) < 60_000
    assert found.responses.percentile_us(99) > 4_500_000
    assert found.requests == 5_996
    assert found.ended_s == pytest.approx(160, abs=0.1)


def test_without_uncorrected_latencies_both_get_the_recorded_ones() -> None:
    found = tally("latency-only", asked=2_500)
    assert found.durations.counts == found.responses.counts
    assert found.requests == 2_500


def test_no_answer_at_all() -> None:
    found = output("silent")
    assert (found.requests, found.has_latencies, found.complaint()) == (0, False, "timeout")


def test_a_merge_adds_up() -> None:
    whole = tally("steady", asked=15_000)
    whole.merge(tally("failing", asked=2_000))
    assert whole.requests == 16_998


def test_a_cut_off_output_is_empty() -> None:
    text = (RECORDED / "wrk2-steady.txt").read_text()
    assert wrk2.Output.read(text[:900]).requests == 0
    assert wrk2.Output.read("").requests == 0
