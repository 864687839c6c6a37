"""Our results beside those that fortio itself writes of the same requests."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.measurements import Measurement, StageResult, TargetResult
from services.perf.measurements.tallies import Tally
from services.perf.results.fortio import fortio_result
from tests.testbed.backends import Backends
from tests.testbed.building import binary

CALLS = 200
OURS_ALONE = {"BytesReceived", "BytesSent", "load-generator", "meshbus"}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """fortio's form and ours of the same requests, a tenth of which fail."""
    log = tmp_path_factory.mktemp("forms") / "access.log"
    with Backends() as backends:
        backend = backends.add("odd", delay_s=0.003, fails_every=10)
        url = f"http://127.0.0.1:{backend.port}/"
        command = f"load -quiet -json - -c 4 -qps 200 -n {CALLS} -allow-initial-errors"
        words = [*command.split(), "-access-log-file", str(log), "-log-errors=false"]
        done = subprocess.run(
            [str(binary("fortio")), *words, "-p", "50,75,90,99,99.9", url],
            capture_output=True,
            check=True,
            timeout=60,
        )
    theirs: dict[str, Any] = json.loads(done.stdout)
    return theirs, fortio_result(_measured(log, theirs, url))


def _measured(log: Path, theirs: dict[str, Any], url: str) -> Measurement:
    tally = Tally()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    began_ns = min(entry["timestamp"] for entry in entries)
    for entry in entries:
        tally.request(
            at_s=(entry["timestamp"] - began_ns) / 1e9,
            duration_us=round(entry["latency"] * 1e6),
            late_us=0,
            code=entry["details"],
            is_ok=entry["ok"],
        )
    message = tally.message()
    seconds = theirs["ActualDuration"] / 1e9
    return Measurement(
        run="r",
        generator=GeneratorName.FORTIO,
        protocol=Protocol.HTTP1,
        started=datetime.fromtimestamp(began_ns / 1e9, timezone.utc),
        duration_s=seconds,
        requested_duration_s=1.0,
        requested_rate=200.0,
        connections=4,
        workers=1,
        stages=[StageResult(rate=200, duration_s=1, actual_rate=1, tally=message)],
        targets=[TargetResult(url=url, weight=1, tally=message)],
        tally=message,
    )


def test_our_fields_are_fortios_and_of_its_types(
    forms: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    theirs, ours = forms
    assert set(ours) - set(theirs) == OURS_ALONE
    for name in set(ours) - OURS_ALONE:
        assert isinstance(ours[name], _number_or_type(theirs[name])), name
    for name in ("DurationHistogram", "ErrorsDurationHistogram"):
        assert set(ours[name]) == set(theirs[name])
        assert set(ours[name]["Data"][0]) == set(theirs[name]["Data"][0])
        assert set(ours[name]["Percentiles"][0]) == set(theirs[name]["Percentiles"][0])
    datetime.fromisoformat(ours["StartTime"])


def _number_or_type(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (int, float) if is_number else type(value)


def test_counts_codes_and_rates_are_fortios(forms: tuple[dict[str, Any], dict[str, Any]]) -> None:
    theirs, ours = forms
    assert sum(theirs["RetCodes"].values()) == CALLS
    for name in ("RetCodes", "RunType", "RequestedQPS", "NumThreads", "Resolution", "URL"):
        assert ours[name] == theirs[name], name
    assert ours["ActualQPS"] == pytest.approx(theirs["ActualQPS"], rel=0.001)
    assert ours["ErrorsDurationHistogram"]["Count"] == theirs["ErrorsDurationHistogram"]["Count"]


@pytest.mark.parametrize("name", ["DurationHistogram", "ErrorsDurationHistogram"])
def test_histograms_are_fortios(name: str, forms: tuple[dict[str, Any], dict[str, Any]]) -> None:
    theirs, ours = (form[name] for form in forms)
    assert ours["Count"] == theirs["Count"]
    for figure in ("Min", "Max", "Avg", "StdDev"):
        # Ours are in whole microseconds.
        assert ours[figure] == pytest.approx(theirs[figure], abs=2e-6), figure
    assert ours["Sum"] == pytest.approx(theirs["Sum"], abs=CALLS * 1e-6)
    # Bounds differ by less than the width of a slot, so at most a request or two changes sides.
    mine = {round(bucket["End"], 3): bucket["Count"] for bucket in ours["Data"][:-1]}
    for bucket in theirs["Data"][:-1]:
        assert abs(mine.get(round(bucket["End"], 3), 0) - bucket["Count"]) <= 3
    for our, their in zip(ours["Percentiles"], theirs["Percentiles"], strict=True):
        assert our["Percentile"] == their["Percentile"]
        # fortio interpolates within its bucket.
        holding = [b for b in theirs["Data"] if b["Start"] <= their["Value"] <= b["End"]]
        width = max(bucket["End"] - bucket["Start"] for bucket in holding)
        assert our["Value"] == pytest.approx(their["Value"], abs=width + 1e-5)
