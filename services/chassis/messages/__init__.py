"""The bus contract: the models of commands, events and results, versioned."""

from services.chassis.messages.audits import AuditEntry, Outcome
from services.chassis.messages.commands import Command, Plan, Step, StepKind, Verb
from services.chassis.messages.events import ErrorReport, Event, Phase, Severity
from services.chassis.messages.facts import (
    ClusterFacts,
    ClusterQuestion,
    DryRunQuestion,
    FactsQuestion,
    MeshFact,
    RightsQuestion,
    ServiceFact,
    ServicePort,
    WorkloadFact,
    is_configuration,
)
from services.chassis.messages.following import Fact, Follow, Followed, FollowMode, FollowRequest
from services.chassis.messages.grants import Grant, SignedGrant
from services.chassis.messages.operations import (
    AdvertisedOperation,
    Category,
    ClusterRecord,
    OperationRecord,
    OperationState,
    RequestRecord,
    ServiceCatalog,
    SlotKind,
)

__all__ = [
    "AdvertisedOperation",
    "AuditEntry",
    "Category",
    "ClusterFacts",
    "ClusterQuestion",
    "ClusterRecord",
    "Command",
    "DryRunQuestion",
    "ErrorReport",
    "Event",
    "Fact",
    "FactsQuestion",
    "Follow",
    "FollowMode",
    "FollowRequest",
    "Followed",
    "Grant",
    "MeshFact",
    "OperationRecord",
    "OperationState",
    "Outcome",
    "Phase",
    "Plan",
    "RequestRecord",
    "RightsQuestion",
    "ServiceCatalog",
    "ServiceFact",
    "ServicePort",
    "Severity",
    "SignedGrant",
    "SlotKind",
    "Step",
    "StepKind",
    "Verb",
    "WorkloadFact",
    "is_configuration",
]
