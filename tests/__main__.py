"""`make test` and `make test-full`: the whole run, while the bed is built and the code is checked.

A few tests that failed beside others run once more, one after the other: a machine of two cores is
now and then too busy for a lease or a rate. Only what fails again is a failure, and the names are
printed, because a test that needs this twice has a race to be mended.

`python -m tests [--full] [--check] [pytest's own arguments]` ends with pytest's summary and status;
with `--check`, `make check` runs beside the tests, and its first refusal ends them. The
number of workers is `MESHBUS_TEST_WORKERS`, by default one more than there are cores and at most
eight: tests wait half of their time, for a rollout or a lease.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.testbed import building, obstacles, packages
from tests.testbed.recipe import PACKAGES
from tests.testbed.scheduling import FAILED_FILE

_MOST_WORKERS = 8
_MOST_AGAIN = 10
"""More failures than this are no accident."""
_CHECK = "--check"
_POLL_S = 0.2
# Whoever keeps Python from writing bytecode would have some hundred processes compile every module.
_COMPILED_ONCE = {"PYTHONDONTWRITEBYTECODE": ""}
_TYPICAL = "about 20 minutes on two cores"
_TYPICAL_FULL = "about 40 minutes on two cores"


def main(arguments: list[str]) -> int:
    """Runs everything; returns the status for the shell."""
    own = [argument for argument in arguments if argument != _CHECK]
    workers = os.environ.get("MESHBUS_TEST_WORKERS") or str(
        min(_MOST_WORKERS, (os.cpu_count() or 1) + 1)
    )
    _explain(full="--full" in own, workers=workers)
    building.install_packages()
    command = [sys.executable, "-m", "pytest", f"--numprocesses={workers}", "--dist=loadgroup"]
    with tempfile.TemporaryDirectory(prefix="meshbus-tests-") as folder:
        failed, told = Path(folder) / "failed", Path(folder) / "check"
        builder = _start_building()
        check = _start_check(told) if _CHECK in arguments else None
        if check is not None:
            _say("`make check` runs beside them")
        helpers = [helper for helper in (builder, check) if helper is not None]
        run = subprocess.Popen(
            # Groups begin in the order that the plugin gave them, not by their number of tests.
            [*command, "--no-loadscope-reorder", *own],
            env={**os.environ, **_COMPILED_ONCE, FAILED_FILE: str(failed)},
        )
        try:
            if not _all_go_well(run, helpers):
                if check is not None and check.poll():
                    print(told.read_text(errors="replace"), end="")
                    _say("`make check` refuses the code; the tests were ended")
                return 1
            status = run.returncode
            return _again(failed) if status == pytest.ExitCode.TESTS_FAILED else status
        except KeyboardInterrupt:
            # The terminal has told pytest and those beside it as well.
            return run.wait()
        finally:
            for process in (run, *helpers):
                if process.poll() is None:
                    process.terminate()
                    process.wait()


def _all_go_well(run: subprocess.Popen[bytes], helpers: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Waits for the end of all; False as soon as one beside the run has failed."""
    while any(process.poll() is None for process in (run, *helpers)):
        if any(helper.poll() for helper in helpers):
            break
        time.sleep(_POLL_S)
    return not any(helper.poll() for helper in helpers)


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
    if why := obstacles.obstacle():
        _say(f"tests/mesh is left out, for this machine cannot have a real node: {why}")
    missing = [p for p in building.wanted() if not building.is_built(p)]
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


def _start_check(told: Path) -> subprocess.Popen[bytes]:
    """`make check` in a process of its own, which tells what it finds to a file: pytest's dots stay
    in lines."""
    with told.open("wb") as file:
        return subprocess.Popen(
            ["make", "--no-print-directory", "check"], stdout=file, stderr=subprocess.STDOUT
        )


def _say(text: str) -> None:
    print(f"tests: {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (building.BuildError, packages.PackageMissing) as error:
        sys.exit(f"tests: {error}")
