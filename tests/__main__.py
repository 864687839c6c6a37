"""`make test` and `make test-full`: the whole run, with the bed built beside what needs none of it.

A few tests that failed beside others run once more, one after the other: a machine of two cores is
now and then too busy for a lease or a rate. Only what fails again is a failure, and the names are
printed, because a test that needs this twice has a race to be mended.

`python -m tests [--full] [pytest's own arguments]` ends with pytest's summary and status. The
number of workers is `MESHBUS_TEST_WORKERS`, by default one more than there are cores and at most
eight: tests wait half of their time, for a rollout or a lease.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.testbed import building, packages
from tests.testbed.recipe import PACKAGES, PROGRAMS
from tests.testbed.scheduling import FAILED_FILE

_MOST_WORKERS = 8
_MOST_AGAIN = 10
"""More failures than this are no accident."""
_TYPICAL = "about 20 minutes on two cores"
_TYPICAL_FULL = "about 40 minutes on two cores"


def main(arguments: list[str]) -> int:
    """Runs everything; returns the status for the shell."""
    workers = os.environ.get("MESHBUS_TEST_WORKERS") or str(
        min(_MOST_WORKERS, (os.cpu_count() or 1) + 1)
    )
    _explain(full="--full" in arguments, workers=workers)
    building.install_packages()
    builder = _start_building()
    command = [sys.executable, "-m", "pytest", f"--numprocesses={workers}", "--dist=loadgroup"]
    folder = tempfile.TemporaryDirectory(prefix="meshbus-tests-")
    failed = Path(folder.name) / "failed"
    run = subprocess.Popen(
        # Groups begin in the order that the plugin gave them, not by their number of tests.
        [*command, "--no-loadscope-reorder", *arguments],
        env={**os.environ, FAILED_FILE: str(failed)},
    )
    try:
        if builder is not None and builder.wait() != 0:
            run.terminate()
            run.wait()
            return 1
        status = run.wait()
        return _again(failed) if status == pytest.ExitCode.TESTS_FAILED else status
    except KeyboardInterrupt:
        # The terminal has told pytest and the build as well.
        return run.wait()
    finally:
        folder.cleanup()
        if builder is not None and builder.poll() is None:
            builder.terminate()
            builder.wait()


def _again(failed: Path) -> int:
    """Runs the failed tests once more, alone; returns the status for the shell."""
    names = failed.read_text().splitlines() if failed.exists() else []
    if not 0 < len(names) <= _MOST_AGAIN:
        return int(pytest.ExitCode.TESTS_FAILED)
    _say(f"{len(names)} tests failed beside others and run once more, alone:")
    for name in names:
        print(f"  {name}", flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", "--full", *names]).returncode


def _explain(*, full: bool, workers: str) -> None:
    missing_packages = [p for p in PACKAGES if not packages.is_there(p)]
    if missing_packages:
        names = " and ".join(p.name for p in missing_packages)
        seconds = sum(p.typical_seconds for p in missing_packages)
        _say(f"first Debian's {names} are installed (about {seconds} s, once)")
    missing = [p for p in PROGRAMS if not building.is_built(p)]
    if missing:
        minutes = sum(p.typical_seconds for p in missing) / 60
        _say(
            f"{len(missing)} programs of the bed are built (about {minutes:.0f} min, once), beside "
            "the tests that need none of them"
        )
    typical = _TYPICAL_FULL if full else _TYPICAL
    _say(f"the tests take {typical} once all is built; {workers} workers run them")


def _start_building() -> subprocess.Popen[bytes] | None:
    """The build in a process of its own, which prints how far it is; None when all is there."""
    if building.is_complete():
        building.build_all()
        return None
    return subprocess.Popen([sys.executable, "-m", "tests.testbed.building"])


def _say(text: str) -> None:
    print(f"tests: {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (building.BuildError, packages.PackageMissing) as error:
        sys.exit(f"tests: {error}")
