"""Events: the progress and the results of operations."""

from __future__ import annotations

from datetime import datetime, timezone
from enum import StrEnum

from pydantic import Field

from services.chassis.errors import InternalError, MeshbusError, of_code
from services.chassis.messages.models import Message


class Severity(StrEnum):
    """How much an event asks for; one of a later version reads as a warning."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"

    @classmethod
    def _missing_(cls, value: object) -> Severity | None:
        return cls.WARN if isinstance(value, str) else None


class Phase(StrEnum):
    """Where in its life an operation is; `done`, `failed` and `cancelled` are final.

    One of a later version reads as a note: an older gateway still shows the step. So no other
    phase may ever be final.
    """

    WAITING = "waiting"
    STARTED = "started"
    TRANSLATED = "translated"
    CHECKED = "checked"
    PLANNED = "planned"
    WAVE = "wave"
    READY = "ready"
    PRUNED = "pruned"
    NOTE = "note"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> Phase | None:
        return cls.NOTE if isinstance(value, str) else None


FINAL_PHASES = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})


class ErrorReport(Message):
    """A `MeshbusError` as it travels."""

    code: str
    summary: str
    cause: str
    remedy: str
    subject: str = ""
    """The object that the error is about, such as `Deployment istio-system/istiod`."""

    @classmethod
    def of(cls, error: BaseException) -> ErrorReport:
        """The report of `error`; anything foreign becomes MB-9001 without its text."""
        known = (
            error
            if isinstance(error, MeshbusError)
            else InternalError(f"the operation met an unexpected {type(error).__name__}")
        )
        return cls(
            code=known.code,
            summary=known.summary,
            cause=known.cause,
            remedy=known.remedy,
            subject=known.subject,
        )

    def error(self) -> MeshbusError:
        """The error as it was where the report was made."""
        kind = of_code(self.code)
        return kind(self.summary, cause=self.cause, remedy=self.remedy, subject=self.subject)


class Event(Message):
    """One step of one operation on one cluster: a line of `nats sub 'live.evt.*.*.*'`."""

    time: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    operation: str
    kind: str
    service: str
    cluster: str
    cluster_name: str = ""
    attempt: int = 1
    sequence: int = 0
    """Counts from 1 within an attempt."""
    phase: Phase
    severity: Severity = Severity.INFO
    summary: str
    details: str = ""
    error: ErrorReport | None = None
    numbers: dict[str, float] = Field(default_factory=dict)
    """Measures of the step: objects, applied, unchanged, seconds."""

    @property
    def is_final(self) -> bool:
        return self.phase in FINAL_PHASES
