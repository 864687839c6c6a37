"""Envelopes: every message comes back as it went, and garbage is `InvalidMessage`."""

from __future__ import annotations

import json
import os
import zlib
from datetime import datetime, timezone
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.bus import envelopes
from services.chassis.bus.envelopes import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    JSON,
    MSGPACK,
    SCHEMA,
    decode,
    encode,
)
from services.chassis.errors import InvalidMessage, RequestTooLarge
from services.chassis.messages import Command, Event, Phase, Verb
from services.chassis.messages.models import VERSION

COMMAND = Command(
    operation="op",
    kind="istio",
    verb=Verb.DELETE,
    cluster="c",
    deadline=datetime(2030, 1, 2, 3, 4, 5, 600000, tzinfo=timezone.utc),
)

every_type = pytest.mark.parametrize("content_type", [JSON, MSGPACK])
text = st.text(st.characters(codec="utf-8"), max_size=50)
commands = st.builds(
    Command,
    operation=st.text(st.characters(codec="utf-8"), min_size=1, max_size=128),
    kind=st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
    verb=st.sampled_from(Verb),
    cluster=text,
    namespace=text,
    version=text,
    body=text,
    deadline=st.datetimes(timezones=st.just(timezone.utc)),
)


@every_type
@given(command=commands)
def test_a_command_comes_back_as_it_went(content_type: str, command: Command) -> None:
    body, headers = encode(command, content_type=content_type)
    assert decode(Command, body, headers) == command


@every_type
def test_an_event_comes_back_as_it_went(content_type: str) -> None:
    event = Event(
        operation="op",
        kind="istio",
        service="lifecycle",
        cluster="c",
        phase=Phase.WAVE,
        summary="Wave 1",
        numbers={"seconds": 0.5, "objects": 3},
    )
    assert decode(Event, *encode(event, content_type=content_type)) == event


@every_type
def test_a_large_body_travels_compressed(content_type: str) -> None:
    large = COMMAND.model_copy(update={"body": "a: b\n" * 100_000})
    body, headers = encode(large, content_type=content_type)
    assert headers[CONTENT_ENCODING] == "deflate"
    assert len(body) < 10_000
    assert decode(Command, body, headers) == large


def test_a_small_body_travels_as_it_is() -> None:
    body, headers = encode(COMMAND, content_type=JSON)
    assert headers == {CONTENT_TYPE: JSON, SCHEMA: "1", envelopes.SENDER_VERSION: VERSION}
    assert orjson.loads(body)["operation"] == "op"


def test_a_body_that_stays_too_large_is_refused() -> None:
    noise = COMMAND.model_copy(update={"body": os.urandom(1_200_000).hex()})
    with pytest.raises(RequestTooLarge, match="limit is 1000000"):
        encode(noise, content_type=MSGPACK)


@pytest.mark.parametrize("headers", [None, {}, {"traceparent": "x"}])
def test_a_person_s_json_needs_no_headers(headers: dict[str, str] | None) -> None:
    command = decode(Command, b'{"operation": "op", "kind": "istio"}', headers)
    assert (command.operation, command.kind, command.verb) == ("op", "istio", Verb.APPLY)
    assert command.deadline > datetime.now(timezone.utc)


def test_fields_of_a_newer_sender_are_ignored() -> None:
    body = orjson.dumps({"operation": "op", "kind": "istio", "news": {"a": [1]}})
    assert decode(Command, body, None).operation == "op"


GOOD = msgpack.packb(COMMAND.model_dump(mode="json"))
DEEP = 100_000

# Body and headers that no worker can read, and what the error must say.
BAD: dict[str, tuple[bytes, dict[str, str], str]] = {
    "nothing": (b"", {}, MSGPACK),
    "noise": (b"\xc1\xff\x00garbage", {}, MSGPACK),
    "text": (b"hello", {}, ""),
    "half of a message": (GOOD[:-3], {}, MSGPACK),
    "more than a message": (GOOD + GOOD, {}, MSGPACK),
    "half of JSON": (b'{"operation": "op"', {}, JSON),
    "JSON that is msgpack": (GOOD, {CONTENT_TYPE: JSON}, JSON),
    "msgpack that is JSON": (b'{"operation": "op"}', {CONTENT_TYPE: MSGPACK}, MSGPACK),
    "JSON list": (b"[1]", {CONTENT_TYPE: JSON}, "the message"),
    "JSON null": (b"null", {CONTENT_TYPE: JSON}, "the message"),
    "not UTF-8": (b'{"operation": "\xff"}', {}, JSON),
    "not a number": (b'{"operation": NaN}', {}, JSON),
    "deep JSON": (b'{"a":' * DEEP, {}, JSON),
    "deep msgpack": (b"\x91" * DEEP, {}, MSGPACK),
    "array that promises much": (b"\xdd\xff\xff\xff\xff", {}, MSGPACK),
    "map that promises much": (b"\xdf\xff\xff\xff\xff", {}, MSGPACK),
    "text that promises much": (b"\xdb\xff\xff\xff\xff", {}, MSGPACK),
    "numbers as keys": (msgpack.packb({1: 2}), {}, MSGPACK),
    "list as a key": (b"\x81\x91\x01\x01", {}, MSGPACK),
    "foreign type": (msgpack.packb(msgpack.ExtType(5, b"a")), {}, "the message"),
    "time": (msgpack.packb(msgpack.Timestamp(1)), {}, "the message"),
    "nothing in it": (b"{}", {}, "operation, kind"),
    "empty operation": (b'{"operation": "", "kind": "a"}', {}, "operation"),
    "long operation": (orjson.dumps({"operation": "o" * 129, "kind": "a"}), {}, "operation"),
    "unknown verb": (b'{"operation": "o", "kind": "a", "verb": "burn"}', {}, "verb"),
    "deadline is text": (b'{"operation": "o", "kind": "a", "deadline": "soon"}', {}, "deadline"),
    "deadline without a zone": (
        b'{"operation": "o", "kind": "a", "deadline": "2030-01-01T00:00:00"}',
        {},
        "deadline",
    ),
    "body is a list": (b'{"operation": "o", "kind": "a", "body": []}', {}, "body"),
    "newer schema by header": (GOOD, {SCHEMA: "2"}, "version '2'"),
    "no schema by header": (GOOD, {SCHEMA: ""}, "version ''"),
    "long schema by header": (GOOD, {SCHEMA: "9" * 5000}, "version '9999"),
    "newer schema in the body": (
        b'{"operation": "o", "kind": "a", "schema_version": 2}',
        {},
        "schema_version",
    ),
    "unknown content type": (GOOD, {CONTENT_TYPE: "text/yaml"}, "'text/yaml' is not known"),
    "long content type": (GOOD, {CONTENT_TYPE: "x" * 5000}, "is not known"),
    "not deflated": (GOOD, {CONTENT_ENCODING: "deflate"}, "not deflated"),
    "half deflated": (zlib.compress(GOOD)[:-20], {CONTENT_ENCODING: "deflate"}, MSGPACK),
    "bomb": (zlib.compress(bytes(40_000_000)), {CONTENT_ENCODING: "deflate"}, "larger than"),
    "bomb of JSON": (
        zlib.compress(b'{"operation": "' + b"a" * 40_000_000 + b'"}'),
        {CONTENT_ENCODING: "deflate", CONTENT_TYPE: JSON},
        "larger than",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_message_is_invalid(case: str) -> None:
    body, headers, words = BAD[case]
    with pytest.raises(InvalidMessage) as caught:
        decode(Command, body, headers)
    assert words in caught.value.summary
    assert len(caught.value.summary) < 300
    assert caught.value.retryable is False


def test_an_error_shows_no_value() -> None:
    body = orjson.dumps({"operation": ["canary-5e0f7d"], "kind": {"canary-5e0f7d": 1}})
    with pytest.raises(InvalidMessage) as caught:
        decode(Command, body, None)
    assert "canary-5e0f7d" not in str(caught.value)


def invalid_or_command(body: bytes, headers: dict[str, str]) -> None:
    try:
        command = decode(Command, body, headers)
    except InvalidMessage:
        return
    assert isinstance(command, Command)


@given(
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from([CONTENT_TYPE, CONTENT_ENCODING, SCHEMA]),
        st.sampled_from([JSON, MSGPACK, "deflate", "1", "2"]) | st.text(max_size=10),
    ),
)
def test_any_bytes_are_answered_with_our_error(body: bytes, headers: dict[str, str]) -> None:
    invalid_or_command(body, headers)


@given(
    st.dictionaries(
        st.sampled_from([*Command.model_fields, "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=10)
        | st.lists(st.integers(), max_size=2),
    )
)
def test_any_fields_are_answered_with_our_error(fields: dict[str, Any]) -> None:
    invalid_or_command(json.dumps(fields).encode(), {})


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_message_is_answered_with_our_error(place: int, byte: int) -> None:
    body = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    invalid_or_command(body, {CONTENT_TYPE: MSGPACK})


def test_the_headers_have_the_names_of_the_contract() -> None:
    names = (envelopes.MESSAGE_ID, envelopes.OPERATION, envelopes.KIND, SCHEMA)
    assert names == ("Nats-Msg-Id", "Meshbus-Operation", "Meshbus-Kind", "Meshbus-Schema")
    assert envelopes.SENDER_VERSION == "Meshbus-Version"


@pytest.mark.parametrize(
    ("told", "is_later"),
    [
        ("0.1.9", False),
        ("0.2.0", False),
        ("0.2.1", True),
        ("0.10.0", True),
        ("1.0.0-rc.1", True),
        ("later", False),
        ("", False),
    ],
)
def test_a_later_version_is_told_by_its_number(
    told: str, is_later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelopes, "VERSION", "0.2.0")
    headers = {envelopes.SENDER_VERSION: told} if told else {}
    assert envelopes.is_from_a_later_version(headers) is is_later


def test_every_message_tells_its_senders_version() -> None:
    assert encode(COMMAND, content_type=JSON)[1][envelopes.SENDER_VERSION] == VERSION
