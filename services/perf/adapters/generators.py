"""The load generators as processes."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from services.chassis.errors import GeneratorMissing
from services.chassis.operations.completion import first_error
from services.perf.adapters.processes import Ended, Limits, Pipe, carried_out, in_memory
from services.perf.definitions.loads import Load
from services.perf.generators import failures, fortio, wrk2
from services.perf.generators.fortio import LogReader
from services.perf.measurements.tallies import Tally

_SLACK_S = 1.0
_SLACK = 0.1
"""A load that its target cannot keep up with may take so much longer than planned. Then it is asked
to end: what was sent until then is counted, and the run tells how much of it was not sent."""


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
    """Implements `runs.worker.Generator`. Intervals begin with the call of `run`."""

    program: str

    @property
    def is_installed(self) -> bool:
        return shutil.which(self.program) is not None

    def check(self, load: Load) -> None:
        _found(self.program)
        fortio.check(load)

    async def run(self, load: Load, tally: Tally, *, offset_s: float = 0.0) -> None:
        self.check(load)
        began_ns = time.time_ns()
        readers = [LogReader(part, tally, began_ns, offset_s) for part in fortio.processes(load)]
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._process(reader)) for reader in readers]
        except ExceptionGroup as raised:
            raise first_error(raised) from raised
        ends = [task.result() for task in running]
        complaints = [reader.complaint for reader in readers if reader.complaint]
        complaints += [line for ended in ends for line in fortio.unread(ended.stderr.splitlines())]
        if not any(reader.answered for reader in readers):
            _refuse_unanswered(load, ends, complaints)
        for reader, ended in zip(readers, ends, strict=True):
            calls = fortio.add_summary(tally, ended.output)
            _refuse_unfinished(load, ended, complaints)
            if calls != reader.counted:
                what = f"fortio made {calls} requests, and {reader.counted} were read of"
                raise failures.failed(complaints, what=what, target=load.target)

    async def _process(self, reader: LogReader) -> Ended:
        with Pipe(reader.feed) as pipe, _inherited(reader.load) as files:
            paths = {name: _path(descriptor) for name, descriptor in files.items()}
            return await carried_out(
                fortio.command(
                    reader.load,
                    program=_found(self.program),
                    paths=fortio.Paths(log=_path(pipe.writing), **paths),
                ),
                limits=_limits(reader.load),
                pipe=pipe,
                files=list(files.values()),
            )


@dataclass(frozen=True, slots=True)
class Wrk2Generator:
    """Implements `runs.worker.Generator`; the tally is filled when wrk2 has ended."""

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
        output = wrk2.Output.read(ended.output.decode(errors="replace"))
        complaints = ended.stderr.splitlines()
        if not output.requests:
            if not ended.status:
                complaints.append(output.complaint())
            _refuse_unanswered(load, [ended], complaints)
        _refuse_unfinished(load, ended, complaints)
        if not output.has_latencies:
            what = "wrk2 tells no latencies: the test ended while it calibrated itself"
            raise failures.failed(complaints, what=what, target=load.target)
        output.count(tally, asked=load.requests, offset_s=offset_s)


@contextmanager
def _inherited(load: Load) -> Iterator[dict[str, int]]:
    """Body and authorities as files in memory: they are on no command line and on no disk."""
    wanted = {"ca": load.target.ca_certificate, "body": load.target.body}
    with ExitStack() as opened:
        yield {
            name: opened.enter_context(in_memory(content))
            for name, content in wanted.items()
            if content
        }


def _path(descriptor: int) -> str:
    return f"/dev/fd/{descriptor}"


def _refuse_unanswered(load: Load, ends: list[Ended], complaints: list[str]) -> None:
    if not complaints:
        if any(ended.was_overdue for ended in ends):
            raise failures.silent(load.target)
        for ended in ends:
            _refuse_unfinished(load, ended, complaints)
    raise failures.unanswered(complaints, target=load.target)


def _refuse_unfinished(load: Load, ended: Ended, complaints: list[str]) -> None:
    """Raises when the generator did not come to its end; single failed requests are counted."""
    if ended.was_overdue:
        what = "the generator did not end in time, with requests that were not answered"
    elif ended.status:
        what = f"the generator ended with status {ended.status}"
    else:
        return
    raise failures.failed(complaints, what=what, target=load.target)
