"""How an operation completes: its result or its error, and the final event that says so."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.errors import (
    InternalError,
    LeaseLost,
    MeshbusError,
    OperationCancelled,
)
from services.chassis.messages import (
    ErrorReport,
    Event,
    Phase,
    Severity,
)
from services.chassis.operations.progress import Progress


@dataclass(frozen=True, slots=True)
class Result:
    """The text and numbers of a successful operation's final event."""

    summary: str
    details: str = ""
    numbers: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Parked:
    """The outcome of a command that waits for something else: it is done with, and its operation
    is not. Whoever has parked it queues it again."""


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
