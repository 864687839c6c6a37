"""The contract of the bus is whole: each stream, right and message has its place there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from deploy.image.contents import project
from deploy.nats.permissions import USERS
from docs import asyncapi
from services.chassis.messages import Command, ErrorReport, Event, Phase
from services.topology.feed import deltas

DOCUMENT = asyncapi.document()
_FOREIGN = ("$JS", "$SRV", "$SYS", "$O", "_INBOX", "live.>", "$KV.>", "live.kv.")
"""Of NATS itself, of inboxes, of a person who may do everything, and hints that a value is new."""


def test_it_is_of_this_version() -> None:
    assert DOCUMENT["info"]["version"] == project()["version"]


def test_every_stream_has_a_channel_or_a_reason_to_have_none() -> None:
    assert asyncapi.uncovered() == []


def test_every_right_on_a_subject_of_ours_is_a_right_on_a_channel() -> None:
    patterns = [channel.pattern for channel in asyncapi.channels()]
    patterns += [f"$KV.{stream[3:]}.x" for stream in asyncapi.LEFT_OUT if stream[:3] == "KV_"]
    patterns += [f"$KV.{stream[3:]}.x.y.z" for stream in asyncapi.LEFT_OUT if stream[:3] == "KV_"]
    without = {
        f"{user.name}: {right.subject}"
        for user in USERS
        for right in (*user.publish, *user.subscribe)
        if not right.subject.startswith(_FOREIGN)
        and not any(asyncapi.overlaps(right.subject, pattern) for pattern in patterns)
    }
    # What lifecycle holds and keeps has keys of two parts.
    assert {one for one in without if "$KV.leases" not in one and "$KV.cred" not in one} == set()


@pytest.mark.parametrize("channel", asyncapi.channels(), ids=lambda channel: channel.name)
def test_every_channel_has_somebody_at_both_ends(channel: asyncapi.Channel) -> None:
    assert asyncapi.receivers(channel)
    assert asyncapi.senders(channel) or channel.address.startswith("live.")


def test_every_reference_leads_to_something() -> None:
    targets = set(references(DOCUMENT))
    assert targets
    for target in targets:
        place: Any = DOCUMENT
        for part in target.removeprefix("#/").split("/"):
            assert part in place, target
            place = place[part]


def test_no_two_models_share_a_name() -> None:
    assert [name for name in DOCUMENT["components"]["schemas"] if "__" in name] == []


def test_what_is_sent_is_what_the_schemas_say() -> None:
    error = ErrorReport(code="MB-1001", summary="no", cause="because", remedy="do")
    event = Event(
        operation="one",
        kind="custom",
        cluster="k1",
        service="lifecycle",
        phase=Phase.FAILED,
        summary="Error",
        error=error,
    )
    body, _ = deltas.encoded(
        deltas.Delta(cluster="k1", epoch=1, number=2, parts={"findings": {"a": None, "b": {}}})
    )
    judge("Event", event.model_dump_json())
    judge("Command", Command(operation="one", kind="custom").model_dump_json())
    judge("Delta", body.decode())
    with pytest.raises(jsonschema_rs.ValidationError):
        judge("Delta", body.decode().replace('"epoch":1', '"epoch":"1"'))


def test_a_usage_says_what_its_fields_hold() -> None:
    usage = '{"a": TOKEN, "b": [NAME], "c": "x" | "y", "d": 0.1, "e": ID, [ID, …] or "n:NAME"}'
    assert asyncapi.fields_of(usage) == {
        "a": {"type": "string"},
        "b": {"type": "array", "items": {"type": "string"}},
        "c": {"type": "string", "enum": ["x", "y"]},
        "d": {"type": "number", "default": 0.1},
        "e": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    }
    with pytest.raises(ValueError, match="stands for no kind"):
        asyncapi.fields_of('{"a": whatever}')


def test_every_question_says_what_its_answer_is() -> None:
    untold = [
        f"{service}.{query.verb}"
        for service, query in asyncapi.questions()
        if not (query.answer_to or query.answer).__doc__
    ]
    assert untold == []


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def judge(name: str, text: str) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema_rs.validate(schema, json.loads(text))
