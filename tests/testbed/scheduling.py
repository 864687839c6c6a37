"""The order of a test run over its workers (a pytest plugin, named in pyproject.toml).

pytest-xdist gives each worker whole groups of tests. A group is what shares an expensive bed (one
stack, one mesh), else one file; long groups begin first, and those that need no program of the bed
fill the time in which a fresh machine builds it. Tests that judge a time carry
the mark `alone` and run while no other test does. What is slow because it is a matrix carries the
mark `full` and runs in `make test-full`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.testbed import building, obstacles, packages, processes, shipped

BEDS = ("real_cluster", "istio_cluster", "stack", "topology_stack", "mesh")
"""Fixtures whose tests stay together on one worker, the longest first: they share what is dear."""

LONG = (
    "system/test_multicluster",
    "system/test_rollouts",
    "faults/test_rollouts",
    "faults/test_region",
    "real/deploy/test_up",
    "system/test_ambient",
    "system/test_tutorial",
    "system/demo/test_demo",
    "faults/test_upgrade",
    "faults/test_install_survives",
    "faults/test_registration",
    "faults/test_dead_letters",
    "real/topology/test_console",
    "real/topology/test_console_acts",
    "real/topology/test_sharing",
    "real/topology/test_drift",
    "real/gateway/test_operations",
    "real/topology/test_signing_in",
    "real/topology/test_page",
    "testbed/test_bed",
)
"""Groups of half a minute and more that share no bed: what begins late ends alone, and what mostly
waits leaves the processor to what computes."""

PACED = (
    "real/chassis/bus",
    "faults/test_topology.py",
    "real/perf",
    "real/topology/test_found_prometheus.py",
    "real/topology/test_console_performance_live.py",
)
"""What makes load at a rate, or waits for leases: it takes little of the processor, but needs that
at once. A whole run has a lane of its own for it, before which the others step back. Load comes
after its first minutes, in which clusters start and the code is checked."""

TURNS_FILE = "MESHBUS_TEST_TURNS"
"""Variable with the path of the lock by which tests that run alone find their turn, where a run has
more than one lane."""

FAILED_FILE = "MESHBUS_TEST_FAILED"
COUNTED = ".counted"
"""Ends the name of the file beside it that has the number of tests by what became of them."""
OUTCOMES = ("failed", "passed", "skipped", "xfailed", "xpassed", "error")
"""Variable with the path of a file that gets the names of failed tests, a line each."""

_ALONE = "alone"
_ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="also the long matrices that `make test` leaves out"
    )

    parser.addoption(
        "--lane", choices=("paced", "others"), help="only the tests of one lane of a whole run"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: judges a time; runs while no other test does")
    config.addinivalue_line("markers", "full: a long matrix; runs with --full only")
    config.addinivalue_line("markers", "services(name, …): what a test's own stack runs")
    config.addinivalue_line("markers", "leaves_whole: shares a stack, since it breaks no process")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Groups and sorts the tests; leaves out the long ones without --full, and other lanes'."""
    if not config.getoption("full"):
        _leave_out(config, items, lambda item: item.get_closest_marker("full") is not None)
    if lane := config.getoption("lane"):
        _leave_out(config, items, lambda item: _is_paced(item) != (lane == "paced"))
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_group_of(item), []).append(item)
    for name, members in groups.items():
        for item in members:
            item.add_marker(pytest.mark.xdist_group(name))
    items[:] = [
        item for name in sorted(groups, key=lambda n: _place(n, groups[n])) for item in groups[name]
    ]


def _leave_out(
    config: pytest.Config, items: list[pytest.Item], is_out: Callable[[pytest.Item], bool]
) -> None:
    left_out = [item for item in items if is_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_paced(item: pytest.Item) -> bool:
    """Tests that run alone come last, after those of all lanes."""
    place = item.path.relative_to(_ROOT)
    is_named = any(place.is_relative_to(each) for each in PACED)
    return is_named and not item.get_closest_marker(_ALONE)


def _group_of(item: pytest.Item) -> str:
    """Name of the tests that one worker runs one after the other."""
    if item.get_closest_marker("alone"):
        return _ALONE
    place = item.path.relative_to(_ROOT)
    fixtures = getattr(item, "fixturenames", ())
    bed = next((name for name in BEDS if name in fixtures), None)
    return f"{bed} of {place.parent}" if bed else str(place.with_suffix(""))


def _place(group: str, members: Sequence[pytest.Item]) -> tuple[bool, bool, int, str]:
    """Sorts the groups of a run."""
    waits_for_build = not building.is_complete() and any(map(_needs_bed, members))
    bed, is_shared, shared_by = group.partition(" of ")
    place = shared_by or group
    paced = [n for n, where in enumerate(PACED) if place.startswith(where.removesuffix(".py"))]
    if paced:
        rank = paced[0]
    elif is_shared:
        rank = BEDS.index(bed)
    elif group in LONG:
        rank = len(BEDS) + LONG.index(group)
    else:
        rank = len(BEDS) + len(LONG) + group.startswith("unit/")
    return group == _ALONE, waits_for_build, rank, group


def _needs_bed(item: pytest.Item) -> bool:
    return "built" in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Before a test's time limit begins: waits for the bed's programs, and for its turn."""
    if _needs_bed(item):
        _build_once()
    if "nodes_built" in getattr(item, "fixturenames", ()):
        _build_nodes_once()
    if "images_built" in getattr(item, "fixturenames", ()):
        _build_images_once()
    with _turn(item):
        return (yield)


@cache
def _build_once() -> None:
    # What went wrong is told by the fixture `built`, as a test's error.
    with contextlib.suppress(building.BuildError):
        building.build_all()


@cache
def _build_nodes_once() -> None:
    if not obstacles.obstacle():
        with contextlib.suppress(building.BuildError, packages.PackageMissing):
            building.build_nodes()


@cache
def _build_images_once() -> None:
    if not obstacles.obstacle():
        with contextlib.suppress(packages.PackageMissing, processes.BedError):
            shipped.archives()


@contextlib.contextmanager
def _turn(item: pytest.Item) -> Iterator[None]:
    """Holds the run's lock: shared, or exclusively for a test that runs alone."""
    named, worker = os.environ.get(TURNS_FILE), getattr(item.config, "workerinput", None)
    if named:
        file = Path(named)
    elif worker is not None:
        base: Path = item.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        file = base.parent / f"turn-{worker['testrunuid']}.lock"
    else:
        yield
        return
    mode = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with file.open("w") as lock:
        fcntl.flock(lock, mode)
        yield


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says last how to repeat just what failed."""
    reports = terminalreporter.getreports("failed") + terminalreporter.getreports("error")
    names = dict.fromkeys(report.nodeid.rpartition("@")[0] or report.nodeid for report in reports)
    if file := os.environ.get(FAILED_FILE):
        Path(file).write_text("".join(f"{name}\n" for name in names))
        counts = {name: len(terminalreporter.getreports(name)) for name in OUTCOMES}
        Path(f"{file}{COUNTED}").write_text(json.dumps(counts))
    if names:
        terminalreporter.section("to repeat just what failed")
    for name in names:
        terminalreporter.write_line(f".venv/bin/python -m pytest '{name}'")
