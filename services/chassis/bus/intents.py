"""What the bucket `intents` holds for each object that lifecycle applied: the intent that drift is
measured by.

The key is made of what a watch event has, without the API version, and begins with namespace and
kind, so that everything under a namespace or a definition is found by listing keys.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import orjson
from pydantic import Field, ValidationError

from services.chassis.bus import envelopes, subjects
from services.chassis.errors import InvalidMessage
from services.chassis.messages.models import Message
from services.chassis.reading.jsons import read_json

CLUSTER_SCOPED = "_"
"""Stands for no namespace in keys; no namespace has this name."""
DRIFT = "meshbus.io/drift"
"""Annotation: `report`, `heal` or `ignore`, over the service's setting."""
DRIFT_IGNORE = "meshbus.io/drift-ignore"
"""Annotation: paths that anybody may change, separated by commas; what lies under one as well."""
MODES = ("report", "heal", "ignore")
_HEALING = "heal-"


class AppliedObject(Message):
    """One object as an operation applied it."""

    kind: str
    """`group/Kind`, `/Kind` in the core group."""
    namespace: str = ""
    name: str
    object: dict[str, Any]
    """As it was sent."""
    digest: str = ""
    """Of the text that was sent last: a repeat with the same text may skip the object."""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    fields: dict[str, Any] = Field(default_factory=dict)
    """fieldsV1 of our own entry in the API server's answer."""
    time: str = ""
    """Of that entry, as the API server has it: whole seconds, and it stays when nothing changed."""
    identity: str = ""
    """Of the cluster (the UID of its kube-system namespace); "" when nobody may read it."""
    operation: str
    operation_kind: str = ""
    """`istio`, `custom`, the name of an add-on, …"""
    revision: str = ""
    version: str = ""
    """Of the mesh that the object is a part of."""
    username: str = ""
    when: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    mode: str = ""
    """Of the annotation; "" leaves it to the service's setting."""
    ignored: list[str] = Field(default_factory=list)


def prefix_of(cluster: str) -> str:
    """The prefix of the keys of all records of a cluster."""
    return f"{cluster}.applied"


def key_of(cluster: str, *, kind: str, namespace: str, name: str) -> str:
    """Key in `intents` of one object; `kind` is `group/Kind`."""
    return ".".join(
        (
            prefix_of(cluster),
            namespace_token(namespace),
            kind_token(kind),
            subjects.hash_token(name.encode(), length=26),
        )
    )


def namespace_token(namespace: str) -> str:
    return subjects.token(namespace) if namespace else CLUSTER_SCOPED


def kind_token(kind: str) -> str:
    return subjects.hash_token(kind.encode())


def healing_id(record: AppliedObject, *, number: str) -> str:
    """Id of an operation that puts the object back. It says which intent it means, so that one that
    comes late restores nothing that is not wanted any more."""
    return f"{_HEALING}{_intent_token(record)}-{number}"


def is_healing(operation: str) -> bool:
    """Whether an operation puts an object back: it renews its intent, but makes it no other."""
    return operation.startswith(_HEALING)


def heals(operation: str, record: AppliedObject) -> bool:
    """Whether an operation means just this intent."""
    return operation.startswith(f"{_HEALING}{_intent_token(record)}-")


def _intent_token(record: AppliedObject) -> str:
    return subjects.hash_token(record.operation.encode())


def packed(record: AppliedObject, *, body: bytes) -> bytes:
    """The record's JSON, deflated when it is large. `body` is the JSON of `record.object`, which is
    not encoded again: definitions have hundreds of kilobytes."""
    fields = record.model_dump(mode="json", exclude={"object", "fields"})
    text = orjson.dumps(
        fields | {"fields": record.fields, "object": orjson.Fragment(body)},
    )
    return envelopes.compressed(text)[0]


def unpacked(value: bytes) -> AppliedObject:
    """The record; raises `InvalidMessage` for any other value."""
    deflated = value[:1] != b"{"
    headers = {envelopes.CONTENT_ENCODING: envelopes.DEFLATE} if deflated else {}
    try:
        return AppliedObject.model_validate(read_json(envelopes.unpacked(value, headers)))
    except (ValueError, ValidationError):
        # What stands in it is the user's own: no word of it in the error.
        raise InvalidMessage("not the record of an applied object") from None
