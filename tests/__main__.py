"""`make test` and `make test-full`: the whole run, while the bed is built and the code is checked.

A few tests that failed beside others run once more, one after the other: a machine of two cores is
now and then too busy for a lease or a rate. Only what fails again is a failure, and the names are
printed, because a test that needs this twice has a race to be mended.

A whole run has three lanes. The workers have most of the tests. Those that make load at a rate or
wait for leases (`PACED`) run one after the other beside them, and have the processor before them.
Those that need no program (`tests/unit`) only compute, and take what the others leave. What the
lanes beside the workers' have found comes last.

`python -m tests [--full] [--check] [pytest's own arguments]` ends with pytest's summary and status;
with `--check`, `make check` runs beside the tests, and its first refusal ends them. The
number of workers is `MESHBUS_TEST_WORKERS`, by default one more than there are cores and at most
eight: tests wait half of their time, for a rollout or a lease. Its last line is the sum of all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.testbed import building, obstacles, packages
from tests.testbed.recipe import PACKAGES
from tests.testbed.scheduling import COUNTED, FAILED_FILE, OUTCOMES, PACED, TURNS_FILE

_MOST_WORKERS = 8
_MOST_AGAIN = 10
"""More failures than this are no accident."""
_CHECK = "--check"
_POLL_S = 0.2
# Whoever keeps Python from writing bytecode would have some hundred processes compile every module.
_COMPILED_ONCE = {"PYTHONDONTWRITEBYTECODE": ""}
_ASIDE = "tests/unit"
_SECOND_TRY = "again"
_BAD = ("failed", "error")
_NO_REPORT = "--junit-xml="
"""Keeps a second run from writing over the report that somebody has asked the first one for."""
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 12 << 30
"""A run writes three gigabytes, and its processes have five."""
_STEPS_BACK = ("nice", "-n", "4")
_WHEN_IDLE = ("nice", "-n", "19")
_TYPICAL = "about 20 minutes on two cores"
_TYPICAL_FULL = "about an hour on two cores"


@dataclass(frozen=True, slots=True)
class _Lane:
    """One run of pytest beside the one whose output is seen; its own is told last."""

    name: str
    process: subprocess.Popen[bytes]
    told: Path

    def over(self) -> int:
        """Waits for its end and tells of it, in full where it failed; returns its status."""
        status = self.process.wait()
        text = self.told.read_text(errors="replace").strip()
        if status:
            print(text, flush=True)
        _say(f"{self.name}: {text.rpartition(chr(10))[2].strip('= ')}")
        return status


def main(arguments: list[str]) -> int:
    """Runs everything; returns the status for the shell."""
    began = time.monotonic()
    own = [argument for argument in arguments if argument != _CHECK]
    workers = os.environ.get("MESHBUS_TEST_WORKERS") or str(
        min(_MOST_WORKERS, (os.cpu_count() or 1) + 1)
    )
    _explain(full="--full" in own, workers=workers)
    building.install_packages()
    # Groups begin in the order that the plugin gave them, not by their number of tests.
    spread = [f"--numprocesses={workers}", "--dist=loadgroup", "--no-loadscope-reorder"]
    with tempfile.TemporaryDirectory(prefix="meshbus-", dir=_in_memory()) as name:
        folder = Path(name)
        builder = _start_building()
        check = _start_check(folder / "check") if _CHECK in arguments else None
        if check is not None:
            _say("`make check` runs beside them")
        helpers = [helper for helper in (builder, check) if helper is not None]
        lanes: list[_Lane] = []
        # Whoever names a part has that part in one run, and its whole output before him.
        if all(argument.startswith("-") for argument in own):
            paced = [*(f"tests/{place}" for place in PACED), "--lane=paced", *own]
            lanes.append(_start_lane("paced tests", paced, folder))
            lanes.append(_start_lane(_ASIDE, [_ASIDE, *own], folder, under=_WHEN_IDLE))
            own = ["--lane=others", f"--ignore={_ASIDE}", *own]
            _say(f"{' and '.join(lane.name for lane in lanes)} run beside them, and are told last")
        run = subprocess.Popen(
            [*(_STEPS_BACK if lanes else ()), sys.executable, "-m", "pytest", *spread, *own],
            env=_environment(folder, "others"),
        )
        processes = [run, *(lane.process for lane in lanes), *helpers]
        try:
            if not _all_go_well(run, helpers):
                if check is not None and check.poll():
                    print((folder / "check").read_text(errors="replace"), end="")
                    _say("`make check` refuses the code; the tests were ended")
                return 1
            ends = [run.returncode, *(lane.over() for lane in lanes)]
            # Where a choice (`-k=…`) leaves a lane no tests, the other ones count.
            ends = [end for end in ends if end != pytest.ExitCode.NO_TESTS_COLLECTED] or ends[:1]
            if not set(ends) <= {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
                return next(end for end in ends if end)
            status = _again(folder) if any(ends) else 0
            if lanes:
                _sum_up(folder, seconds=time.monotonic() - began)
            return status
        except KeyboardInterrupt:
            # The terminal has told pytest and those beside it as well.
            return run.wait()
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
                    process.wait()


def _start_lane(
    name: str, arguments: Sequence[str], folder: Path, *, under: Sequence[str] = ()
) -> _Lane:
    told = folder / f"told-{len(list(folder.iterdir()))}"
    with told.open("wb") as file:
        process = subprocess.Popen(
            [*under, sys.executable, "-m", "pytest", _NO_REPORT, *arguments],
            # What takes only what is left disturbs nobody who runs alone.
            env=_environment(folder, told.name, has_turns=not under),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return _Lane(name, process, told)


def _environment(folder: Path, lane: str, *, has_turns: bool = True) -> dict[str, str]:
    """Of one run: where it names what failed, and the lock by which tests have a turn alone."""
    turns = {TURNS_FILE: str(folder / "turns")} if has_turns else {}
    failed = {FAILED_FILE: str(folder / f"failed-{lane}")}
    return {**os.environ, **_COMPILED_ONCE, **_place_of(folder), **failed, **turns}


def _in_memory() -> Path | None:
    """A file system in memory, where there is room for a run's.

    Four NATS servers sync each message to the disk, and beside each other one of them waits ten
    milliseconds for that, a tenth of the time 35. What a test kills is a process and no machine, so
    what it has written is there afterwards as well.
    """
    try:
        free = shutil.disk_usage(_MEMORY).free
        is_noexec = os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
        told = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    available = next((line for line in told.splitlines() if line.startswith("MemAvailable:")), "")
    kib = int(available.split()[1]) if available else 0
    is_roomy = min(free, kib * 1024) >= _ROOM_BYTES
    return _MEMORY if is_roomy and not is_noexec else None


def _place_of(folder: Path) -> dict[str, str]:
    """Has tests write into the run's folder where that is in memory, which it ends with."""
    return {"TMPDIR": str(folder)} if folder.is_relative_to(_MEMORY) else {}


def _all_go_well(run: subprocess.Popen[bytes], helpers: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Waits for the end of all; False as soon as one beside the run has failed."""
    while any(process.poll() is None for process in (run, *helpers)):
        if any(helper.poll() for helper in helpers):
            break
        time.sleep(_POLL_S)
    return not any(helper.poll() for helper in helpers)


def _again(folder: Path) -> int:
    """Runs the failed tests once more, alone; returns the status for the shell."""
    told = [file for file in sorted(folder.glob("failed-*")) if file.suffix != COUNTED]
    names = [name for file in told for name in file.read_text().splitlines()]
    if not 0 < len(names) <= _MOST_AGAIN:
        return int(pytest.ExitCode.TESTS_FAILED)
    _say(f"{len(names)} tests failed beside others and run once more, alone:")
    for name in names:
        print(f"  {name}", flush=True)
    command = [sys.executable, "-m", "pytest", "--full", _NO_REPORT, *names]
    return subprocess.run(command, env=_environment(folder, _SECOND_TRY)).returncode


def _sum_up(folder: Path, *, seconds: float) -> None:
    """One line for all runs, as pytest ends one: what its own summaries say, added up. Of a test
    that ran twice the second time counts."""
    counts = Counter[str]()
    for file in folder.glob(f"failed-*{COUNTED}"):
        counts.update(json.loads(file.read_text()))
    second = folder / f"failed-{_SECOND_TRY}{COUNTED}"
    if second.exists():
        # All that failed ran again.
        again = json.loads(second.read_text())
        counts = Counter({**counts, **{name: again[name] for name in _BAD}})
    told = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])
    line = f" {told} in {seconds:.2f}s ({timedelta(seconds=int(seconds))}) "
    print(line.center(80, "="), flush=True)


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
