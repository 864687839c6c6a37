"""How an operation completes: its terminal record, then its final event, then its credential's end.

The order makes a crash harmless: the record holds the final event, so the next worker that finds
the record can publish the event again, and the credential goes when no step needs it any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.chassis.bus.publishing import Publisher
from services.chassis.errors import (
    InternalError,
    LeaseLost,
    MeshbusError,
    OperationCancelled,
)
from services.chassis.messages import (
    Command,
    ErrorReport,
    Event,
    OperationRecord,
    OperationState,
    Phase,
    Severity,
)
from services.chassis.operations.claims import Claims
from services.chassis.operations.progress import Progress
from services.chassis.telemetry import metrics


@dataclass(frozen=True, slots=True)
class Result:
    """The text and numbers of a successful operation's final event."""

    summary: str
    details: str = ""
    numbers: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Completes operations for one worker."""

    publisher: Publisher
    claims: Claims
    service: str
    metrics: metrics.Metrics
    forget: Callable[[Command], Awaitable[None]]
    """Deletes the credential that came with the operation."""

    async def complete(
        self, command: Command, progress: Progress, final: Event, error: MeshbusError | None
    ) -> None:
        """Stores and publishes the end; raises `Abandon` when a later attempt has taken over."""
        state = OperationState.SUCCEEDED if error is None else OperationState.FAILED
        if isinstance(error, OperationCancelled):
            state = OperationState.CANCELLED
        record = OperationRecord(
            operation=command.operation,
            kind=command.kind,
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            state=state,
            attempt=progress.attempt,
            worker=self.claims.worker,
            summary=final.summary,
            error=final.error,
            final=final,
        )
        await self.claims.close(record)
        await self.publisher.event(final)
        self.metrics.count(metrics.EVENTS, final.phase)
        await self.forget(command)

    async def repeat(self, command: Command, stored: OperationRecord) -> None:
        """Publishes the final event of an operation that had ended before once more.

        An end that another service wrote is published by that service, on a subject of its own.
        """
        if stored.final is not None and stored.final.service == self.service:
            await self.publisher.event(stored.final)
        await self.forget(command)


def first_error(raised: BaseException) -> MeshbusError:
    """The error behind an exception; of a group a lost claim counts first."""
    if isinstance(raised, MeshbusError):
        return raised
    if isinstance(raised, BaseExceptionGroup):
        errors = [first_error(inner) for inner in raised.exceptions]
        lost = [error for error in errors if isinstance(error, LeaseLost)]
        known = [error for error in errors if not isinstance(error, InternalError)]
        return (lost or known or errors)[0]
    return InternalError(f"the operation met an unexpected {type(raised).__name__}")


def success_event(progress: Progress, result: Result) -> Event:
    return progress.compose(
        Phase.DONE, result.summary, result.details, numbers=dict(result.numbers)
    )


def failure_event(progress: Progress, error: MeshbusError, *, doing: str, applied: str) -> Event:
    """The final event of a failed operation, with the changes that it had made until then.

    `doing` completes the adapter's words for a failure, "Error while …"; it must not say that
    something is gone.
    """
    cancelled = isinstance(error, OperationCancelled)
    parts = [f"Error: {error.summary}."]
    if applied:
        parts.append(applied)
    return progress.compose(
        Phase.CANCELLED if cancelled else Phase.FAILED,
        f"{'Cancelled while' if cancelled else 'Error while'} {doing}",
        " ".join(parts),
        severity=Severity.WARN if cancelled else Severity.ERROR,
        error=ErrorReport.of(error),
    )
