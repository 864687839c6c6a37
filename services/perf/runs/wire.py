"""Messages between perf workers about the shards of a run, and the channels that carry them.

Commands are stored in the stream CMD. Starts and reports are core messages, which a restart of NATS
may swallow: a start is asked for again until it is given, and a report repeats what the result will
hold anyway. Results are objects, because a long run's counts do not fit a message.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pydantic import AwareDatetime, Field

from services.chassis.messages import ErrorReport
from services.chassis.messages.models import Message
from services.perf.definitions.loads import GeneratorName, Shard
from services.perf.measurements.measurements import Part
from services.perf.measurements.tallies import IntervalMessage


class ShardCommand(Message):
    """One shard of a run, for any free worker: the body of `cmd.perf.<run>.<token>`."""

    run: str
    token: str
    """Names this attempt at the shard; another attempt has another one."""
    shard: Shard
    generator: GeneratorName
    interval_s: float
    deadline: AwareDatetime
    """A shard that was not begun by then is dropped."""


class ReadyQuestion(Message):
    """A worker has a shard and asks when to start; asked again until the answer says it."""

    token: str
    worker: str


class ReadyAnswer(Message):
    """The conductor's answer to a worker that is ready."""

    now: float
    """The conductor's clock, in Unix seconds: the common clock of the run."""
    start_at: float | None = None
    """By that clock; None as long as others are not ready."""
    is_over: bool = False
    """The shard is not wanted any more, or another worker has it."""


class Report(Message):
    """How far a shard is, each second."""

    token: str
    worker: str
    requests: int
    failed: int
    intervals: list[IntervalMessage] = Field(default_factory=list)
    """Those that changed since the last report, whole."""
    has_ended: bool = False
    """The result is stored."""


class ShardResult(Message):
    """The counts of a shard: the object `shards/<run>/<token>`."""

    token: str
    worker: str
    seconds: float
    """From the first request to the last answer."""
    parts: list[Part]
    error: ErrorReport | None = None
    """Why it ended early; the parts hold what was counted until then."""


class RollAnswer(Message):
    """A worker's answer to the roll call."""

    worker: str
    free: int
    """Shards that it could take now."""
    generators: list[str]
    """Those that are installed there."""
    region: str = ""
    """Whose shards it takes."""


class Channels(Protocol):
    """The control subjects of runs."""

    @property
    def is_connected(self) -> bool: ...

    async def roll_call(self) -> list[RollAnswer]:
        """Asks the region's workers for their free slots; takes a moment, as their number is
        unknown."""

    async def publish(self, command: ShardCommand) -> None:
        """Queues a shard for a free worker."""

    def conduct(
        self,
        run: str,
        *,
        on_ready: Callable[[ReadyQuestion], ReadyAnswer],
        on_report: Callable[[Report], None],
    ) -> AbstractAsyncContextManager[None]:
        """Answers and hears the workers of a run for the block."""

    async def stop(self, run: str) -> None:
        """Tells all shards of a run to end at once."""

    async def ready(self, run: str, question: ReadyQuestion) -> ReadyAnswer | None:
        """Asks the conductor for the start; None when it does not answer."""

    async def report(self, run: str, report: Report) -> None:
        """Sends the conductor a report; it may get lost."""

    def stopping(self, run: str, on_stop: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Calls `on_stop` for a run that is to end, for the block."""
