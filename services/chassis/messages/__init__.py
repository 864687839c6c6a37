"""The bus contract: what commands, events and results look like, versioned."""

from services.chassis.messages.clusters import ClusterRecord
from services.chassis.messages.commands import Command, Verb
from services.chassis.messages.events import ErrorReport, Event, Phase, Severity
from services.chassis.messages.operations import (
    AdvertisedOperation,
    Category,
    OperationRecord,
    OperationState,
    RequestRecord,
    ServiceCatalog,
    SlotKind,
)

__all__ = [
    "AdvertisedOperation",
    "Category",
    "ClusterRecord",
    "Command",
    "ErrorReport",
    "Event",
    "OperationRecord",
    "OperationState",
    "Phase",
    "RequestRecord",
    "ServiceCatalog",
    "Severity",
    "SlotKind",
    "Verb",
]
