"""What is known of a call, for the audit: filled on its way through, written at its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.chassis.errors import MeshbusError, NotAuthenticated, NotPermitted
from services.chassis.messages import AuditEntry, Outcome
from services.gateway.door.identities import Admitted
from services.gateway.wire import OperationRequest

SERVICE = "gateway"
_READING = frozenset(
    {
        "MeshName",
        "AdapterName",
        "MeshVersions",
        "AdapterVersions",
        "SupportedOperations",
        "ComponentInfo",
    }
)
"""Calls about the adapter itself, which Meshery repeats all day."""


@dataclass(slots=True, kw_only=True)
class Account:
    """One call."""

    call: str
    address: str = ""
    admitted: Admitted | None = None
    asked: OperationRequest | None = None
    clusters: list[str] | None = None

    def about(self, asked: OperationRequest, clusters: Iterable[str]) -> None:
        """The call asks for an operation."""
        self.asked = asked
        self.clusters = list(clusters)

    def is_told(self, error: MeshbusError | None) -> bool:
        """Whether it belongs into the audit: all but the reading calls, unless the door or the
        policy refused them."""
        is_kept_out = isinstance(error, (NotAuthenticated, NotPermitted))
        return is_kept_out or self.call not in _READING

    def entry(self, error: MeshbusError | None) -> AuditEntry:
        """With the outcome; an error's summary never holds a secret."""
        admitted, asked = self.admitted, self.asked
        return AuditEntry(
            service=SERVICE,
            identity=admitted.identity.name if admitted else "",
            groups=sorted(admitted.identity.groups) if admitted else [],
            by=admitted.by if admitted else "",
            address=self.address,
            call=self.call,
            operation=asked.operation if asked else "",
            kind=asked.kind if asked else "",
            verb=asked.verb if asked else "",
            clusters=self.clusters or [],
            namespace=asked.namespace if asked else "",
            username=asked.username if asked else "",
            outcome=Outcome.ACCEPTED if error is None else Outcome.REFUSED,
            code=error.code if error else "",
            reason=error.summary if error else "",
        )
