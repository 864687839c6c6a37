"""Records how today's messages lie on the wire, for the services of later versions to read.

    python -m tests.faults.recording        writes `recorded/<version>`, once

A recording of a released version is never written again: it is what a gateway or a worker of that
version sends, and it stays in queues, streams and buckets while services are replaced one after
the other.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from services.chassis.bus import envelopes
from services.chassis.bus.intents import AppliedObject
from services.chassis.bus.queries import VERSION
from services.chassis.errors import ClusterForbidden
from services.chassis.granting import Signer
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    ClusterRecord,
    Command,
    ErrorReport,
    Event,
    OperationRecord,
    OperationState,
    Phase,
    Plan,
    RequestRecord,
    ServiceCatalog,
    Severity,
    SlotKind,
    Step,
    StepKind,
    Verb,
)
from services.chassis.messages.models import Message

RECORDED = Path(__file__).with_name("recorded")
SCHEMA = Path(__file__).resolve().parents[2] / "proto" / "bus.schema.json"
_THEN = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)
# So far away that a recorded command can still be begun.
_DEADLINE = datetime(2999, 1, 1, tzinfo=timezone.utc)
_LONG = 10_000
_OBJECT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "recorded", "namespace": "default"},
    "data": {"v": "1"},
}
_PLACE: dict[str, Any] = {"cluster": "acluster", "cluster_name": "kind"}

MODELS: dict[str, type[Message]] = {
    model.__name__: model
    for model in (
        Command,
        Event,
        OperationRecord,
        RequestRecord,
        ServiceCatalog,
        ClusterRecord,
        AppliedObject,
    )
}


@dataclass(frozen=True, slots=True)
class Recording:
    """One message as it lay on the wire, and what it said."""

    name: str
    model: str
    headers: Mapping[str, str]
    body: bytes
    says: Mapping[str, Any]


def samples() -> dict[str, tuple[Message, str]]:
    """Messages of every kind that outlives a process, with the form that each travels in."""
    step = Step(title="ConfigMap default/recorded", objects=[_OBJECT], level=1)
    command = Command(
        operation="recorded",
        kind="custom",
        verb=Verb.APPLY,
        namespace="default",
        username="somebody",
        version="1.31.0",
        body=json.dumps(_OBJECT),
        credential="",
        deadline=_DEADLINE,
        may_take_s=60.0,
        **_PLACE,
    )
    plan = Plan(
        steps=[step, step.model_copy(update={"kind": StepKind.INJECTION, "namespace": "default"})],
        summary="Custom YAML deployed successfully",
        details="one object",
        failing="deploying custom YAML",
        reports_lines=True,
    )
    error = ErrorReport.of(ClusterForbidden("no right", subject="ConfigMap default/recorded"))
    failed = Event(
        time=_THEN,
        operation="recorded",
        kind="custom",
        service="lifecycle",
        attempt=2,
        sequence=7,
        phase=Phase.FAILED,
        severity=Severity.ERROR,
        summary="Error while deploying custom YAML",
        details="Error: no right",
        error=error,
        numbers={"objects": 1.0},
        **_PLACE,
    )
    record = OperationRecord(
        operation="recorded",
        kind="custom",
        state=OperationState.FAILED,
        attempt=2,
        worker="lifecycle-0",
        summary=failed.summary,
        error=error,
        final=failed,
        updated=_THEN,
        **_PLACE,
    )
    request = RequestRecord(
        operation="recorded",
        fingerprint="f" * 64,
        kind="custom",
        clusters=["acluster"],
        cluster_names={"acluster": "kind"},
        service="translator",
        accepted=_THEN,
        deadline=_DEADLINE,
    )
    catalog = ServiceCatalog(
        service="lifecycle",
        operations=[
            AdvertisedOperation(
                name="istio",
                description="Istio Service Mesh",
                category=Category.INSTALL,
                slot=SlotKind.MESH,
                may_take_s=60.0,
            )
        ],
        versions=["1.31.0"],
    )
    cluster = ClusterRecord(
        cluster="acluster", name="kind", server="https://kind.example:6443", registered=_THEN
    )
    applied = AppliedObject(
        kind="/ConfigMap",
        namespace="default",
        name="recorded",
        object=_OBJECT,
        digest="d" * 26,
        uid="a-uid",
        resource_version="7",
        generation=1,
        time="2026-11-28T12:00:00Z",
        operation="recorded",
        when=_THEN,
    )
    # A key that signs nothing else: who reads a recording checks no signature.
    signer = Signer.of(base64.b64encode(bytes(32)).decode())
    signed = signer.signed(command, identity="somebody", groups=("people",))
    manifest = command.model_copy(update={"kind": "manifest"})
    return {
        "a command": (signed, envelopes.MSGPACK),
        "a manifest by hand": (manifest, envelopes.JSON),
        "a command with a plan": (
            signed.model_copy(update={"plan": plan, "body": ""}),
            envelopes.MSGPACK,
        ),
        "a command that is compressed": (
            command.model_copy(update={"body": json.dumps(_OBJECT) + "\n" + "#" * 70_000}),
            envelopes.MSGPACK,
        ),
        "a command by hand": (command, envelopes.JSON),
        "an event": (failed, envelopes.JSON),
        "a record of an operation": (record, envelopes.JSON),
        "a record of a request": (request, envelopes.JSON),
        "a catalog": (catalog, envelopes.JSON),
        "a cluster": (cluster, envelopes.JSON),
        "an applied object": (applied, envelopes.JSON),
    }


def recorded(version: str) -> list[Recording]:
    """What the services of a version left on the wire."""
    found = []
    for entry in json.loads((RECORDED / version / "messages.json").read_text()):
        body = base64.b64decode(entry.pop("body"))
        found.append(Recording(body=body, **entry))
    return found


def schema_of(version: str) -> dict[str, Any]:
    """How the services of a version read: the JSON Schema of each message."""
    found: dict[str, Any] = json.loads((RECORDED / version / "schema.json").read_text())
    return found


def versions() -> list[str]:
    return sorted(path.name for path in RECORDED.iterdir() if path.is_dir())


def record(version: str) -> None:
    """Writes the recording of this version; refuses when there is one."""
    folder = RECORDED / version
    if folder.exists():
        sys.exit(f"{folder} is there already; that of a released version is never changed")
    entries = []
    for name, (message, content_type) in samples().items():
        body, headers = envelopes.encode(message, content_type=content_type)
        said = message.model_dump(mode="json")
        # A text that is long only to be compressed would be most of the file.
        said = {key: value for key, value in said.items() if len(str(value)) < _LONG}
        entries.append(
            {
                "name": name,
                "model": type(message).__name__,
                "headers": headers,
                "body": base64.b64encode(body).decode(),
                "says": said,
            }
        )
    folder.mkdir(parents=True)
    (folder / "messages.json").write_text(json.dumps(entries, indent=1) + "\n")
    (folder / "schema.json").write_text(SCHEMA.read_text())


if __name__ == "__main__":
    record(VERSION)
