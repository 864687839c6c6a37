"""What the bucket `intents` holds for each object that lifecycle applied: the intent that drift is
measured by.

The key is made of what a watch event has, without the API version, and begins with namespace and
kind, so that everything under a namespace or a definition is found by listing keys.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import orjson
from pydantic import Field, ValidationError

from services.chassis import hiding
from services.chassis.bus import envelopes, subjects
from services.chassis.errors import InvalidMessage, SealingKeyMissing
from services.chassis.messages.models import Message
from services.chassis.reading.inflating import inflated
from services.chassis.reading.jsons import read_json
from services.chassis.sealing import Keys

CLUSTER_SCOPED = "_"
"""Stands for no namespace in keys; no namespace has this name."""
DRIFT = "meshbus.io/drift"
"""Annotation: `report`, `heal` or `ignore`, over the service's setting."""
DRIFT_IGNORE = "meshbus.io/drift-ignore"
"""Annotation: paths that anybody may change, separated by commas; what lies under one as well."""
MODES = ("report", "heal", "ignore")
_PROOF = "Meshbus-Proof"
"""Header of a record's message: its `Proof`, so that nobody reads a definition of some hundred
kilobytes to know whether it is there already."""
_HEALING = "heal-"


class AppliedObject(Message):
    """One object as an operation applied it."""

    kind: str
    """`group/Kind`, `/Kind` in the core group."""
    namespace: str = ""
    name: str
    object: dict[str, Any]
    """As it was sent. In the bucket keyed hashes stand for the values that nobody has to read
    (`chassis/hiding.py`)."""
    key: str = ""
    """Base64 of the key of those hashes, of this record alone, sealed to topology in the bucket; ""
    when nothing is hidden, or the key cannot be opened here."""
    sealed: str = ""
    """Base64 of the object as it was sent and its digest, sealed to lifecycle."""
    digest: str = ""
    """Of the text that was sent last: a repeat with the same text may skip the object. Where values
    are hidden, the bucket has lifecycle's mark of it instead (`Proof`)."""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    fields: dict[str, Any] = Field(default_factory=dict)
    """fieldsV1 of our own entry in the API server's answer."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """What the API server added to the object (`chassis/kube/defaults.py`)."""
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


def concealed(record: AppliedObject, *, keys: Keys) -> AppliedObject:
    """The record as it is kept: what nobody has to read is hashed for topology, which looks for
    drift, and sealed to lifecycle, which repairs it. Unchanged in a process without any keys."""
    if not keys.public:
        return record
    key = os.urandom(hiding.KEY_BYTES)
    hidden = hiding.concealed(record.kind, record.object, key=key)
    if hidden is record.object:
        return record.model_copy(update={"key": "", "sealed": ""})
    whole = orjson.dumps({"object": record.object, "digest": record.digest})
    sealed_key = _text(keys.sealed(key, recipient="topology"))
    update = {
        "object": hidden,
        # A hash without a key could be guessed and tried.
        "digest": next(iter(_marks(record.digest, sealed_key, keys)), ""),
        "key": sealed_key,
        "sealed": _text(keys.sealed(zlib.compress(whole), recipient="lifecycle")),
    }
    return record.model_copy(update=update)


def whole(record: AppliedObject, *, keys: Keys) -> AppliedObject:
    """For lifecycle: the record with the object as it was sent. Raises `InvalidMessage` for one
    that was sealed to a key that is gone."""
    if not record.sealed:
        return record
    try:
        text = inflated(keys.opened(base64.b64decode(record.sealed)))
    except (SealingKeyMissing, ValueError):
        raise InvalidMessage("the record of an applied object cannot be opened") from None
    return record.model_copy(update=read_json(text))


class Proof(NamedTuple):
    """What tells whether the cluster has an object as its record saw it; an array in `_PROOF`."""

    uid: str
    resource_version: str
    generation: int
    digest: str
    key: str = ""
    """The record's; "" where it hides nothing."""

    @classmethod
    def of(cls, record: AppliedObject) -> Proof:
        seen = record.uid, record.resource_version, record.generation
        return cls(*seen, record.digest, record.key if record.sealed else "")

    def says(self, digest: str, *, keys: Keys) -> bool:
        """For lifecycle: whether the record is of the text with this digest.

        Opening records takes longer than all else of a repeat that finds everything there, so they
        carry a mark of the digest.
        """
        if not self.key:
            return self.digest == digest
        return self.digest in _marks(digest, self.key, keys)


def proof_headers(record: AppliedObject) -> dict[str, str]:
    """Headers for the message of a record as it is kept."""
    return {_PROOF: orjson.dumps([*Proof.of(record)]).decode()}


def proof_of(value: bytes, headers: Mapping[str, str], *, keys: Keys) -> Proof:
    """For lifecycle: the proof of a record, as the bucket has it. Raises `InvalidMessage`."""
    told = headers.get(_PROOF)
    if told is not None:
        try:
            return Proof(*read_json(told))
        except (ValueError, TypeError):
            raise InvalidMessage("not the proof of an applied object") from None
    # Written by a version that had no such header.
    record = unpacked(value)
    if record.sealed and not record.digest:
        digest = whole(record, keys=keys).digest
        return Proof.of(record)._replace(digest=digest, key="")
    return Proof.of(record)


def _marks(digest: str, sealed_key: str, keys: Keys) -> tuple[str, ...]:
    """Of a record's digest; the record's own key makes equal texts look different."""
    return keys.marks(f"{sealed_key}\n{digest}".encode())


def comparable(record: AppliedObject, *, keys: Keys) -> AppliedObject:
    """For topology: the record with the key by which hidden values can be compared."""
    if not record.key:
        return record
    try:
        key = _text(keys.opened(base64.b64decode(record.key)))
    except (SealingKeyMissing, ValueError):
        key = ""
    return record.model_copy(update={"key": key})


def as_found(record: AppliedObject, wanted: Any, found: Any) -> Any:
    """`wanted`, of a comparable record, with what was found in the place of hashes that are its."""
    if not record.sealed:
        return wanted
    key = base64.b64decode(record.key) if record.key else None
    return hiding.revealed(wanted, found, key=key)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


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
