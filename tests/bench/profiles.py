"""`make profile WORK=…`: where the time of one work goes, or with `MEMORY=1` its memory.

Works of `tests/bench/works.py` run alone in a process; `start-SERVICE` is the import of a service;
the others are driven on a bed, and the services that they keep busy are looked at. py-spy looks a
few hundred times a second from outside, so that nothing runs otherwise than it does anyway; it
needs root, or `kernel.yama.ptrace_scope=0`. memray follows each allocation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measuring import circumstances, cpu_seconds
from tests.bench.works import WORKS
from tests.testbed.stack import ROOT, SERVICES, Stack

STARTS = {f"start-{service}": service for service in SERVICES}
_BIN = Path(sys.executable).parent
_SPY = _BIN / "py-spy"
_RATE = 250
_MOST_ROWS = 12
_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]+?)(?::\d+)?\)")
_LIBRARY = re.compile(r"site-packages/(?P<name>[^/]+)")
_OURS = re.compile(r"(?:^|/)(?P<path>(?:services|proto)/.+)\.py$")


@dataclass(frozen=True, slots=True)
class Frame:
    """A function, and where it is."""

    function: str
    place: str
    """A module of ours, or the library's name; `python` for the rest."""
    is_ours: bool

    @classmethod
    def of(cls, text: str) -> Frame:
        match = _FRAME.fullmatch(text)
        if match is None:
            return cls(text, "python", False)
        file = match["file"]
        if ours := _OURS.search(file):
            return cls(match["function"], ours["path"].replace("/", "."), True)
        if library := _LIBRARY.search(file):
            return cls(match["function"], library["name"].removesuffix(".py"), False)
        return cls(match["function"], "python", False)


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples of one process: how often each place was on top, and each function of ours below."""

    samples: int
    places: Counter[str]
    functions: Counter[str]

    @classmethod
    def of(cls, folded: str) -> Profile:
        """Reads py-spy's form: frames from the outermost to the innermost, then how often."""
        places: Counter[str] = Counter()
        functions: Counter[str] = Counter()
        for line in folded.splitlines():
            stack, _, count = line.rpartition(" ")
            frames = [Frame.of(text) for text in stack.split(";")]
            times = int(count)
            places[_charged(frames)] += times
            for name in {f"{f.place}.{f.function}" for f in frames if f.is_ours}:
                functions[name] += times
        return cls(places.total(), places, functions)

    def rows(self) -> Iterator[str]:
        """Two tables: what ran, and for the sake of which functions."""
        if not self.samples:
            yield "Nothing ran."
            return
        yield "| what runs | share |"
        yield "|---|---|"
        for place, count in self.places.most_common(_MOST_ROWS):
            yield f"| `{place}` | {100 * count / self.samples:.0f} % |"
        yield ""
        yield "| function, with all that it calls | share |"
        yield "|---|---|"
        for name, count in self.functions.most_common(2 * _MOST_ROWS):
            yield f"| `{name.removeprefix('services.')}` | {100 * count / self.samples:.0f} % |"


def _charged(frames: list[Frame]) -> str:
    """The innermost frame's place; Python's own library counts for the library that called it,
    and modules of ours by their folder."""
    for frame in reversed(frames):
        if frame.is_ours:
            return frame.place.rpartition(".")[0].removeprefix("services.")
        if frame.place != "python":
            return frame.place
    return "python"


# --- looking at a process ------------------------------------------------------------------------


@contextmanager
def spied(pid: int, folder: Path) -> Iterator[Callable[[], Profile]]:
    """Looks at a process for the block; what it returns reads what was seen, after the block."""
    output = folder / f"{pid}.folded"
    command = [str(_SPY), "record", "--pid", str(pid), "--format", "raw", "--output", str(output)]
    command += ["--function", "--full-filenames", "--rate", str(_RATE), "--duration", "unlimited"]
    spy = subprocess.Popen(
        [*command, "--nonblocking"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield lambda: Profile.of(output.read_text())
    finally:
        spy.send_signal(signal.SIGINT)
        _, complaint = spy.communicate(timeout=30)
        if not output.exists():
            print(f"py-spy saw nothing: {complaint.strip()[-300:]}", file=sys.stderr)
            output.write_text("")


def alone(name: str, *, folder: Path, seconds: float, size: float) -> list[str]:
    """A work in a process of its own."""
    found, profile = _repeated(name, folder=folder, seconds=seconds, size=size)
    used = f"{found['cpu_s']:.3f} s of the processor"
    held = f", at most {1000 * found['held_s']:.0f} ms at a time" if found["held_s"] else ""
    return [
        f"## {name}: {WORKS[name].about}",
        "",
        f"{used}{held}; peak {found['peak_mib']:.0f} MiB; {found['turns']} turns.",
        "",
        *profile.rows(),
    ]


def _repeated(
    name: str, *, folder: Path, seconds: float, size: float
) -> tuple[dict[str, float], Profile]:
    command = [sys.executable, "-m", "tests.bench.works", name, str(seconds), "--size", str(size)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", f"{name} could not be prepared"
        with spied(process.pid, folder) as seen:
            process.stdin.write("\n")
            process.stdin.flush()
            found: dict[str, float] = json.loads(process.stdout.readline())
    return found, seen()


def growth(*, folder: Path, seconds: float) -> list[str]:
    """How each work grows: the time of a part of it, beside that of one at the table's size."""
    lines = [
        "| work | times the size | processor | of each part, size 1 being 1 | at a time | peak |",
        "|---|---|---|---|---|---|",
    ]
    for name, work in WORKS.items():
        first = 0.0
        for size in work.sizes:
            found, _ = _repeated(name, folder=folder, seconds=seconds, size=size)
            first = first or found["cpu_s"]
            held = f"{1000 * found['held_s']:.0f} ms" if found["held_s"] else ""
            lines.append(
                f"| {name} | {size:g} | {found['cpu_s']:.3f} s "
                f"| {found['cpu_s'] / size / first:.2f} | {held} | {found['peak_mib']:.0f} MiB |"
            )
    return lines


def start(service: str) -> list[str]:
    """The import of a service. Its parts are told by the interpreter, which knows them exactly."""
    command = [sys.executable, "-X", "importtime", "-c", f"import services.{service}.__main__"]
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr
    places: Counter[str] = Counter()
    for line in told.splitlines():
        own, _, name = (part.strip() for part in line.removeprefix("import time:").split("|"))
        if not own.isdigit():
            continue
        parts = name.split(".")
        place = ".".join(parts[:2]) if parts[0] == "services" else parts[0]
        is_library = place in sys.stdlib_module_names or place.startswith("_")
        places["python" if is_library else place] += int(own)
    total = places.total()
    return [
        f"## start-{service}: its imports",
        "",
        f"{total / 1e6:.2f} s.",
        "",
        "| package | share |",
        "|---|---|",
        *(
            f"| `{place}` | {100 * own / total:.0f} % |"
            for place, own in places.most_common(_MOST_ROWS)
        ),
    ]


# --- works on a bed ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Driven:
    """A work of services on a bed; what drives it is a part of `make bench`."""

    about: str
    services: tuple[str, ...]
    turns: int


Driver = Callable[[str, int], Awaitable[None]]
"""Does a work so often."""

DRIVEN = {
    "accept": Driven("ApplyOperation of one ConfigMap, to its end", ("gateway", "lifecycle"), 200),
    "process-oam": Driven(
        "ProcessOAM of one VirtualService", ("gateway", "translator", "lifecycle"), 100
    ),
    "events": Driven("one event, from a worker to one client's stream", ("gateway",), 5000),
    "install": Driven("install of Istio and its removal", ("lifecycle",), 4),
}


async def driven(names: Sequence[str], *, folder: Path) -> list[str]:
    """Drives works on one bed, one after the other, and looks at the services meanwhile."""
    lines: list[str] = []
    async with _bed(folder) as (stack, turn):
        for name in names:
            lines += ["", *await _driven(name, stack, turn, folder=folder)]
    return lines[1:]


async def _driven(name: str, stack: Stack, turns: Driver, *, folder: Path) -> list[str]:
    work = DRIVEN[name]
    await turns(name, 1)
    pids = {service: stack.processes[service].pid for service in work.services}
    before = {service: cpu_seconds(pid) for service, pid in pids.items()}
    began = time.monotonic()
    with ExitStack() as spies:
        seen = {s: spies.enter_context(spied(pid, folder)) for s, pid in pids.items()}
        await turns(name, work.turns)
        took_s = time.monotonic() - began
    used = {service: cpu_seconds(pid) - before[service] for service, pid in pids.items()}
    lines = [f"## {name}: {work.about}", "", f"{work.turns} in {took_s:.1f} s.", ""]
    for service, profile in seen.items():
        each = 1000 * used[service] / work.turns
        lines += [f"### {service}: {each:.2f} ms of the processor each", ""]
        lines += [*profile().rows(), ""]
    return lines[:-1]


@asynccontextmanager
async def _bed(folder: Path) -> AsyncIterator[tuple[Stack, Driver]]:
    from tests.bench.__main__ import Bench
    from tests.bench.scales import SHORT
    from tests.testbed.clusters import Cluster
    from tests.testbed.meshery import Meshery

    with Cluster(folder / "cluster") as cluster, Stack(folder / "stack") as stack:
        meshery = Meshery(stack.gateway_address, [cluster.kubeconfig_text])
        async with meshery.connected():
            bench = Bench(cluster, stack, meshery, SHORT, folder)
            yield stack, bench.turns


# --- memory --------------------------------------------------------------------------------------


def memory(name: str, *, folder: Path, size: float) -> list[str]:
    """The places that hold most when a work needs most, by memray."""
    record = folder / f"{name}.bin"
    run = [str(_BIN / "memray"), "run", "--quiet", "--output", str(record)]
    run += ["-m", "tests.bench.works", name, "0", "--size", str(size)]
    subprocess.run(run, cwd=ROOT, check=True, input="\n", text=True, stdout=subprocess.DEVNULL)
    told = subprocess.run(
        # By what each place itself holds.
        [str(_BIN / "memray"), "summary", "-s", "4", "-r", str(_MOST_ROWS), str(record)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "160"},
        check=True,
        capture_output=True,
        text=True,
    )
    return [f"## {name}: {WORKS[name].about}: memory", "", "```", told.stdout.strip(), "```"]


PAGE = ROOT / "docs" / "reference" / "profiles.md"
_METHOD = (
    "`make profile WORK=all` writes this page, `WORK=…` tells of a single work. Processor "
    "seconds of the process, without waiting for others. A share of a function holds all that it "
    "calls, so the second tables do not add up to a hundred. `At a time` is how long a work "
    "held its event loop at most; where that grows with the size it is Python's garbage collector, "
    "which walks through all that there is each time that it has grown by a quarter."
)
_PART_S = 5.0
"""Of each work on the page."""


def page(*, folder: Path) -> list[str]:
    """Everything: how works grow, and where the time of each goes."""
    lines = ["# Where the time goes", "", "<!-- Written by `make profile`; do not edit. -->", ""]
    lines += [f"{circumstances()}.", "", _METHOD, "", "## Growth", ""]
    lines += growth(folder=folder, seconds=_PART_S)
    for name in WORKS:
        lines += ["", *alone(name, folder=folder, seconds=_PART_S, size=1)]
    for service in SERVICES:
        lines += ["", *start(service)]
    lines += ["", *asyncio.run(driven([*DRIVEN], folder=folder))]
    return lines


def told(given: argparse.Namespace, *, folder: Path) -> list[str]:
    """What was asked for."""
    name = given.work
    if given.memory:
        return memory(name, folder=folder, size=given.size)
    if name == GROWTH:
        return growth(folder=folder, seconds=given.seconds)
    if name in WORKS:
        return alone(name, folder=folder, seconds=given.seconds, size=given.size)
    if name in STARTS:
        return start(STARTS[name])
    if name in DRIVEN:
        return asyncio.run(driven([name], folder=folder))
    return page(folder=folder)


ALL, GROWTH = "all", "growth"


def main() -> int:
    names = [*WORKS, *STARTS, *DRIVEN, GROWTH, ALL]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profiles", description=__doc__)
    parser.add_argument("work", choices=names, help=f"{ALL} writes the page")
    parser.add_argument("--memory", action="store_true", help="memory instead of time")
    parser.add_argument("--seconds", type=float, default=10, help="how long it is repeated")
    parser.add_argument("--size", type=float, default=1, help="times the size of the table")
    given = parser.parse_args()
    if given.memory and given.work not in WORKS:
        parser.error(f"memory is told of {', '.join(WORKS)}")
    folder = ROOT / ".run" / f"profile-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        text = "\n".join(told(given, folder=folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.work == ALL:
        PAGE.write_text(f"{text}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
