"""The load generators as processes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from services.chassis.errors import GeneratorMissing
from services.perf.adapters.processes import Ended, Limits, carried_out, in_memory
from services.perf.generators import failures, fortio, wrk2
from services.perf.loads import Load
from services.perf.tallies import Tally

_SLACK_S = 1.0
_SLACK = 0.1
"""A load that its target cannot keep up with may take so much longer than planned."""


def _limits(load: Load) -> Limits:
    interrupt_after_s = load.duration_s * (1 + _SLACK) + _SLACK_S
    return Limits(
        interrupt_after_s=interrupt_after_s,
        kill_after_s=interrupt_after_s + load.target.timeout_s + _SLACK_S,
    )


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise GeneratorMissing(f"there is no program {program}")
    return path


@dataclass(frozen=True, slots=True)
class FortioGenerator:
    """Implements `generators.ports.Generator`."""

    program: str

    @property
    def is_installed(self) -> bool:
        return shutil.which(self.program) is not None

    def check(self, load: Load) -> None:
        _found(self.program)
        fortio.check(load)

    async def run(self, load: Load, tally: Tally, *, offset_s: float = 0.0) -> None:
        self.check(load)
        reader = fortio.LogReader(load, tally, time.time_ns(), offset_s)
        reading, writing = os.pipe()
        with _inherited(load) as files:
            ended = await carried_out(
                fortio.command(
                    load,
                    program=_found(self.program),
                    paths=fortio.Paths(log=_path(writing), **files),
                ),
                limits=_limits(load),
                heard=reader.feed,
                pipe=(reading, writing),
                files=[int(path.rpartition("/")[2]) for path in files.values()],
            )
        fortio.add_summary(tally, ended.output)
        _judge(load, ended, answered=reader.answered, counted=reader.counted)


@dataclass(frozen=True, slots=True)
class Wrk2Generator:
    """Implements `generators.ports.Generator`."""

    program: str

    @property
    def is_installed(self) -> bool:
        return shutil.which(self.program) is not None

    def check(self, load: Load) -> None:
        _found(self.program)
        wrk2.check(load)

    async def run(self, load: Load, tally: Tally, *, offset_s: float = 0.0) -> None:
        self.check(load)
        ended = await carried_out(
            wrk2.command(load, program=_found(self.program)), limits=_limits(load)
        )
        answered = wrk2.read(ended.output.decode(errors="replace"), tally, offset_s=offset_s)
        _judge(load, ended, answered=answered, counted=answered)


@contextmanager
def _inherited(load: Load) -> Iterator[dict[str, str]]:
    """What stands on no command line and on no disk: body and authorities, by their paths."""
    target = load.target
    wanted = {"ca": target.ca_certificate, "body": target.body}
    with ExitStack() as opened:
        yield {
            name: _path(opened.enter_context(in_memory(content)))
            for name, content in wanted.items()
            if content
        }


def _path(descriptor: int) -> str:
    return f"/dev/fd/{descriptor}"


def _judge(load: Load, ended: Ended, *, answered: int, counted: int) -> None:
    """Raises why a load failed as a whole; single requests that failed are only counted."""
    words = fortio.unread(ended.stderr.splitlines())
    if not answered:
        raise failures.unanswered(words, host=fortio.host_of(load))
    if ended.status > 0 and counted < load.requests:
        raise failures.failed(words, what=f"the generator ended with status {ended.status}")
