"""`make profile`: works are repeated, looked into, and told as tables."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.profiles import Profile
from tests.testbed.stack import ROOT

_FOLDED = """\
main (/x/tests/bench/works.py);read (/w/services/chassis/reading/yamls.py:10) 6
main (/x/tests/bench/works.py);read (/w/services/chassis/reading/yamls.py:10);f (/l/enum.py) 2
main (/x/tests/bench/works.py);read (/w/services/perf/runs/wire.py:1);g (/l/site-packages/a/b.py) 4
"""


def test_time_is_charged_to_who_spends_it() -> None:
    profile = Profile.of(_FOLDED)
    assert profile.samples == 12
    # What Python's own library does is done for its caller; a library answers for itself.
    assert profile.places == {"chassis.reading": 8, "a": 4}
    assert profile.functions == {
        "services.chassis.reading.yamls.read": 8,
        "services.perf.runs.wire.read": 4,
    }


def _profile(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.profiles", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_work_is_looked_into() -> None:
    told = _profile("merge", "--seconds", "1")
    assert "s of the processor" in told
    if os.geteuid() == 0:
        assert "`perf.measurements.tallies.merged`" in told


def test_the_memory_of_a_work_is_looked_into() -> None:
    assert "histograms.py" in _profile("merge", "--memory")


def test_the_imports_of_a_service_are_looked_into() -> None:
    assert "| `services.chassis` |" in _profile("start-perf")
