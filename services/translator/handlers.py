"""Makes what an operation of the translator works with.

The operation's record stays untouched until the operation ends: a translation has no effect, so a
redelivered command is translated again and the same command published, which the stream drops by
its message id and lifecycle by the operation's record.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.messages import Command
from services.chassis.operations.progress import Progress
from services.chassis.operations.running import Attempt
from services.translator.work import Cluster, Definitions, Follows, Work

SERVICE = "translator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Handles the messages of `cmd.translator.>`."""

    definitions: Definitions
    cluster_of: Callable[[Command, Progress], Cluster]
    now: Callable[[], datetime]
    follows: Follows = field(default_factory=Follows)

    @asynccontextmanager
    async def work(self, attempt: Attempt) -> AsyncIterator[Work]:
        yield Work(
            command=attempt.command,
            progress=attempt.progress,
            cluster=self.cluster_of(attempt.command, attempt.progress),
            definitions=self.definitions,
            now=self.now,
            follows=self.follows,
        )


def changes(_work: Work | None) -> str:
    """A translation writes nothing."""
    return "Nothing was changed."
