"""How the workers of a run speak with each other; `adapters.channels` does it over NATS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.perf.runs.wire import ReadyAnswer, ReadyQuestion, Report, RollAnswer, ShardCommand


class Channels(Protocol):
    """The control subjects of runs."""

    @property
    def is_connected(self) -> bool: ...

    async def roll_call(self) -> list[RollAnswer]:
        """Asks all workers for their free slots; takes a moment, as their number is unknown."""

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
