"""`make test` and `make test-full`: the whole run, with the bed built beside what needs none of it.

`python -m tests [--full] [pytest's own arguments]` ends with pytest's summary and status. The
number of workers is `MESHBUS_TEST_WORKERS`, by default one more than there are cores and at most
eight: tests wait half of their time, for a rollout or a lease.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.testbed import building, packages
from tests.testbed.recipe import PACKAGES, PROGRAMS

_MOST_WORKERS = 8
_TYPICAL = "about 15 minutes on two cores"
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
    # Groups begin in the order that the plugin gave them, not by their number of tests.
    run = subprocess.Popen([*command, "--no-loadscope-reorder", *arguments])
    try:
        if builder is not None and builder.wait() != 0:
            run.terminate()
            run.wait()
            return 1
        return run.wait()
    except KeyboardInterrupt:
        # The terminal has told pytest and the build as well.
        return run.wait()
    finally:
        if builder is not None and builder.poll() is None:
            builder.terminate()
            builder.wait()


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
