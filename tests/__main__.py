"""`make test` and `make test-full`: the whole run, while the bed is built and the code is checked.

A few tests that failed beside others run once more, one after the other: a machine of two cores is
now and then too busy for a lease or a rate. Only what fails again is a failure, and the names are
printed, because a test that needs this twice has a race to be mended.

The tests that need no program (`tests/unit`) only compute. They run beside the others in a process
that gets what those leave of the processor, and its summary comes last.

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
_ASIDE = "tests/unit"
_NO_REPORT = "--junit-xml="
"""Keeps a second run from writing over the report that somebody has asked the first one for."""
_WHEN_IDLE = ("nice", "-n", "19")
_TYPICAL = "about 17 minutes on two cores"
_TYPICAL_FULL = "about 40 minutes on two cores"


def main(arguments: list[str]) -> int:
    """Runs everything; returns the status for the shell."""
    own = [argument for argument in arguments if argument != _CHECK]
    workers = os.environ.get("MESHBUS_TEST_WORKERS") or str(
        min(_MOST_WORKERS, (os.cpu_count() or 1) + 1)
    )
    # Whoever names a part has that part in one run, and its whole output before him.
    is_whole = all(argument.startswith("-") for argument in own)
    _explain(full="--full" in own, workers=workers)
    building.install_packages()
    # Groups begin in the order that the plugin gave them, not by their number of tests.
    spread = [f"--numprocesses={workers}", "--dist=loadgroup", "--no-loadscope-reorder"]
    with tempfile.TemporaryDirectory(prefix="meshbus-tests-") as folder:
        told, told_aside = Path(folder) / "check", Path(folder) / "aside"
        failed = [Path(folder) / "failed", Path(folder) / "failed-aside"]
        builder = _start_building()
        check = _start_check(told) if _CHECK in arguments else None
        if check is not None:
            _say("`make check` runs beside them")
        helpers = [helper for helper in (builder, check) if helper is not None]
        aside = None
        if is_whole:
            spread.append(f"--ignore={_ASIDE}")
            aside = _start_aside(own, told=told_aside, failed=failed[1])
            _say(f"{_ASIDE} runs beside them, and is told of last")
        run = subprocess.Popen(
            [sys.executable, "-m", "pytest", *spread, *own],
            env={**os.environ, **_COMPILED_ONCE, FAILED_FILE: str(failed[0])},
        )
        try:
            if not _all_go_well(run, helpers):
                if check is not None and check.poll():
                    print(told.read_text(errors="replace"), end="")
                    _say("`make check` refuses the code; the tests were ended")
                return 1
            ends = [run.returncode]
            if aside is not None:
                ends.append(aside.wait())
                _tell_aside(told_aside, in_full=bool(ends[-1]))
            # Where a choice (`-k=…`) leaves one of the two runs no tests, the other one counts.
            ends = [end for end in ends if end != pytest.ExitCode.NO_TESTS_COLLECTED] or ends[:1]
            if set(ends) <= {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
                return _again(failed) if any(ends) else 0
            return next(end for end in ends if end)
        except KeyboardInterrupt:
            # The terminal has told pytest and those beside it as well.
            return run.wait()
        finally:
            for process in (run, aside, *helpers):
                if process is not None and process.poll() is None:
                    process.terminate()
                    process.wait()


def _all_go_well(run: subprocess.Popen[bytes], helpers: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Waits for the end of all; False as soon as one beside the run has failed."""
    while any(process.poll() is None for process in (run, *helpers)):
        if any(helper.poll() for helper in helpers):
            break
        time.sleep(_POLL_S)
    return not any(helper.poll() for helper in helpers)


def _again(failed: Sequence[Path]) -> int:
    """Runs the failed tests once more, alone; returns the status for the shell."""
    names = [name for file in failed if file.exists() for name in file.read_text().splitlines()]
    if not 0 < len(names) <= _MOST_AGAIN:
        return int(pytest.ExitCode.TESTS_FAILED)
    _say(f"{len(names)} tests failed beside others and run once more, alone:")
    for name in names:
        print(f"  {name}", flush=True)
    command = [sys.executable, "-m", "pytest", "--full", _NO_REPORT, *names]
    return subprocess.run(command).returncode


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


def _start_aside(own: Sequence[str], *, told: Path, failed: Path) -> subprocess.Popen[bytes]:
    """The tests that only compute, at the lowest priority; what they print goes to a file."""
    with told.open("wb") as file:
        return subprocess.Popen(
            [*_WHEN_IDLE, sys.executable, "-m", "pytest", _ASIDE, _NO_REPORT, *own],
            env={**os.environ, **_COMPILED_ONCE, FAILED_FILE: str(failed)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def _tell_aside(told: Path, *, in_full: bool) -> None:
    text = told.read_text(errors="replace").strip()
    if in_full:
        print(text, flush=True)
    _say(f"{_ASIDE}: {text.rpartition(chr(10))[2].strip('= ')}")


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
