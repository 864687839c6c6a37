"""Records how today's messages lie on the wire, for the services of later versions to read.

    python -m tests.faults.recording        adds to `recorded/<version>` what it lacks

A recording is what the gateway, the workers and the init job of a version send, and it stays in
queues, streams and buckets while services are replaced one after the other: what is in it is never
written again. While a version is in the making, a message that is new comes to its recording; with
its release it is closed, because the command writes the version that the code has.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import orjson
from nacl.public import PrivateKey

from services.chassis.bus import envelopes, intents, streams
from services.chassis.bus.intents import AppliedObject
from services.chassis.errors import ClusterForbidden
from services.chassis.granting import Signer
from services.chassis.kube import definitions
from services.chassis.kube.definitions import ReleaseDefinitions
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
from services.chassis.messages.models import VERSION, Message
from services.chassis.sealing import RECEIVERS, Keys
from services.chassis.settings import ChassisSettings
from services.topology.feed import deltas
from services.topology.feed.deltas import Delta
from tests.faults.filling import filled, message_models
from tests.testbed.earlier import PARTS

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_name("recorded")
MODELS = message_models()
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

_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "recorded", "namespace": "default"},
    "stringData": {"password": "recorded"},
}


@dataclass(frozen=True, slots=True)
class Recording:
    """One message as it lay on the wire, and what it said."""

    name: str
    model: str
    """What it is read as: a message, or one of `_FORMS`."""
    headers: Mapping[str, str]
    body: bytes
    says: Mapping[str, Any]

    def read(self) -> Mapping[str, Any]:
        """What today's services read in it."""
        form = _FORMS.get(self.model)
        if form is not None:
            return form(self.body, self.headers)
        return _said(envelopes.decode(MODELS[self.model], self.body, self.headers))


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
        **{
            f"{name}, every field": (filled(model), envelopes.JSON)
            for name, model in MODELS.items()
        },
    }


def recordings() -> list[Recording]:
    """How today's services lay all of it out, the sealed and the packed forms as well."""
    told = [
        Recording(
            name=name,
            model=type(message).__name__,
            headers=headers,
            body=body,
            says=_short(_said(message)),
        )
        for name, (message, content_type) in samples().items()
        for body, headers in [envelopes.encode(message, content_type=content_type)]
    ]
    return [*told, *_formed()]


def _formed() -> list[Recording]:
    """What is no plain message: sealed, packed for a bucket, or not by pydantic."""
    command = filled(MODELS["Command"])
    body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
    body, headers = envelopes.sealed(body, headers, keys=_KEYS, recipient="lifecycle")
    secret = AppliedObject(kind="/Secret", name="recorded", object=_SECRET, operation="recorded")
    kept = intents.concealed(secret, keys=_KEYS)
    packed = intents.packed(kept, body=orjson.dumps(kept.object))
    release = ReleaseDefinitions.of("1.31.0", "kind: CustomResourceDefinition\n")
    delta = Delta(
        cluster="acluster",
        epoch=3,
        number=7,
        parts={"app.nodes": {"a": {"id": "a"}, "gone": None}},
        time=_THEN,
    )
    told, headers_of_delta = deltas.encoded(delta)
    return [
        Recording("a sealed command", "a sealed command", headers, body, _said(command)),
        Recording("a hidden object", "a hidden object", {}, packed, _said(secret)),
        Recording("definitions", "definitions", {}, definitions.packed(release), _said(release)),
        Recording("a delta", "a delta", headers_of_delta, told, _plain(delta)),
    ]


def _sealed_command(body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
    return _said(envelopes.decode(MODELS["Command"], body, headers, keys=_KEYS))


def _hidden_object(body: bytes, _: Mapping[str, str]) -> Mapping[str, Any]:
    read = intents.whole(intents.unpacked(body), keys=_KEYS)
    return _said(read.model_copy(update={"key": "", "sealed": ""}))


def _definitions(body: bytes, _: Mapping[str, str]) -> Mapping[str, Any]:
    return _said(definitions.unpacked(body))


def _delta(body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
    return _plain(deltas.decoded(body, headers))


_FORMS: dict[str, Callable[[bytes, Mapping[str, str]], Mapping[str, Any]]] = {
    "a sealed command": _sealed_command,
    "a hidden object": _hidden_object,
    "definitions": _definitions,
    "a delta": _delta,
}


def _keys() -> Keys:
    """Of services that run nowhere: the same each time, to open what was recorded."""
    private = {
        name: PrivateKey(hashlib.sha256(f"recorded {name}".encode()).digest()) for name in RECEIVERS
    }
    return Keys(
        public={name: key.public_key for name, key in private.items()},
        private=tuple(private.values()),
    )


_KEYS = _keys()


def _said(message: Message) -> dict[str, Any]:
    return message.model_dump(mode="json")


def _plain(delta: Delta) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(orjson.dumps(asdict(delta)))
    return said


def _short(said: dict[str, Any]) -> dict[str, Any]:
    """Without a text that is long only to be compressed: it would be most of the file."""
    return {key: value for key, value in said.items() if len(str(value)) < _LONG}


def recorded(version: str) -> list[Recording]:
    """What the services of a version left on the wire."""
    found = []
    for entry in _stored(version, "messages.json", missing=[]):
        body = base64.b64decode(entry.pop("body"))
        found.append(Recording(body=body, **entry))
    return found


def schema_of(version: str) -> dict[str, Any]:
    """How the services of a version read: the JSON Schema of each message."""
    found: dict[str, Any] = _stored(version, "schema.json", missing={})
    return found


def streams_of(version: str) -> dict[str, Any]:
    """What the init job of a version puts on the server: `streams` and `consumers`."""
    found: dict[str, Any] = _stored(version, "streams.json", missing={})
    return found


def former_code() -> Path:
    """The code of the version before this one, packed; as long as there is none, an earlier state
    of this one."""
    return [path for version in versions() if (path := _code(version)).exists()][-1]


def versions() -> list[str]:
    """All that were recorded, the oldest first."""
    named = [path.name for path in RECORDED.iterdir() if path.is_dir()]
    return sorted(named, key=lambda name: [int(part) for part in name.split(".")])


def schemas() -> dict[str, Any]:
    """How today's services read."""
    return {name: model.model_json_schema() for name, model in MODELS.items()}


def record(version: str) -> list[str]:
    """Adds to the recording of a version what it lacks; returns the names of what was added."""
    if version not in versions():
        # What is checked out now is what the version before was released as.
        _keep_code(versions()[-1])
        (RECORDED / version).mkdir()
    entries = _stored(version, "messages.json", missing=[])
    known = {entry["name"] for entry in entries}
    added = [one for one in recordings() if one.name not in known]
    entries += [
        {**asdict(one), "body": base64.b64encode(one.body).decode(), "says": dict(one.says)}
        for one in added
    ]
    _store(version, "messages.json", entries)
    _store(version, "schema.json", {**schemas(), **schema_of(version)})
    if not streams_of(version):
        _store(version, "streams.json", _configuration())
    return [one.name for one in added]


def _code(version: str) -> Path:
    return RECORDED / version / "code.tar.xz"


def _keep_code(version: str) -> None:
    """Packs what is checked out now; `commit` says from where, so that anybody can compare."""
    commit = _git("rev-parse", "HEAD").decode().strip()
    _code(version).write_bytes(lzma.compress(_git("archive", commit, *PARTS), preset=9))
    (RECORDED / version / "commit").write_text(f"{commit}\n")


def _git(*command: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *command], check=True, capture_output=True).stdout


def _configuration() -> dict[str, Any]:
    usual = ChassisSettings.model_construct()
    return {
        "streams": [asdict(one) for one in streams.streams(lease_ttl=usual.lease_ttl)],
        "consumers": [asdict(one) for one in streams.consumers(ack_wait=usual.ack_wait)],
    }


def _stored(version: str, name: str, *, missing: Any) -> Any:
    path = RECORDED / version / name
    return json.loads(path.read_text()) if path.exists() else missing


def _store(version: str, name: str, content: Any) -> None:
    indent, is_sorted = (2, True) if name == "schema.json" else (1, False)
    text = json.dumps(content, indent=indent, sort_keys=is_sorted)
    (RECORDED / version / name).write_text(text + "\n")


if __name__ == "__main__":
    print("\n".join(f"added {name}" for name in record(VERSION)) or "nothing is missing")
