"""Services of two versions beside each other: each reads what the other one sends, or refuses it.

An older version is there as what it left on the wire and as the schema that it read by
(`recording.py`), so every message of it is judged, not only those that a test happens to send.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from pydantic import ValidationError

from services.chassis.bus import envelopes, subjects
from services.chassis.errors import InvalidMessage
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Category, Command, Event, Phase, ServiceCatalog, Severity
from services.chassis.messages.models import VERSION
from tests.faults import recording
from tests.faults.filling import filled
from tests.faults.recording import (
    MODELS,
    Recording,
    recorded,
    recordings,
    samples,
    schema_of,
    schemas,
    versions,
)
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.earlier import Earlier
from tests.testbed.meshery import Meshery
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count, stored_events
from tests.testbed.waiting import eventually

EVERY = [(version, one) for version in versions() for one in recorded(version)]
every_recording = pytest.mark.parametrize(
    "one", [one for _, one in EVERY], ids=[f"{version}, {one.name}" for version, one in EVERY]
)
every_version = pytest.mark.parametrize("version", versions())


@every_recording
def test_what_an_older_version_sent_still_says_the_same(one: Recording) -> None:
    assert missing(one.says, one.read()) == []


@every_version
def test_another_schema_version_is_refused_by_its_name(version: str) -> None:
    for one in recorded(version):
        if one.model in MODELS:
            headers = {**one.headers, envelopes.SCHEMA: "2"}
            with pytest.raises(InvalidMessage, match="schema version '2' is not known here"):
                envelopes.decode(MODELS[one.model], one.body, headers)


def test_what_a_later_version_adds_is_passed_over_or_shown() -> None:
    """An event of a newer worker reaches an older gateway's clients, with what both know."""
    later = filled(Event).model_dump(mode="json")
    later |= {"phase": "polished", "severity": "grave", "weather": {"rain": True}}
    read = Event.model_validate(later)
    assert (read.phase, read.severity) == (Phase.NOTE, Severity.WARN)
    catalog = filled(ServiceCatalog).model_dump(mode="json")
    catalog["operations"][0]["category"] = 99
    assert ServiceCatalog.model_validate(catalog).operations[0].category is Category.CUSTOM


@pytest.mark.parametrize(
    "later",
    [{"verb": "polish"}, {"plan": {"steps": [{"title": "x", "kind": "polish"}], "summary": ""}}],
    ids=["verb", "step"],
)
def test_work_that_only_a_later_version_knows_is_refused(later: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="polish"):
        Command.model_validate(filled(Command).model_dump(mode="json") | later)


def test_this_version_has_a_recording_of_every_message_and_form() -> None:
    """`python -m tests.faults.recording` adds what is missing."""
    told = {one.name for one in recorded(VERSION)}
    assert [one.name for one in recordings() if one.name not in told] == []
    assert set(MODELS) <= {type(message).__name__ for message, _ in samples().values()}
    assert schemas().keys() <= schema_of(VERSION).keys()


def test_a_raised_version_begins_a_recording_and_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(recording.RECORDED, tmp_path / "recorded")
    monkeypatch.setattr(recording, "RECORDED", tmp_path / "recorded")
    before = {version: recorded(version) for version in versions()}
    assert recording.record("99.0.0") == [one.name for one in recordings()]
    assert recording.record("99.0.0") == []
    assert {version: recorded(version) for version in before} == before
    assert all(missing(one.says, one.read()) == [] for one in recorded("99.0.0"))
    # Its own code is known when the next one begins.
    code = recording.former_code()
    assert code.parent.name == list(before)[-1]
    assert (Earlier.of(code, tmp_path / "code").folder / "services" / "gateway").is_dir()
    assert re.fullmatch(r"[0-9a-f]{40}\n", (code.parent / "commit").read_text())


@every_version
def test_an_older_version_reads_what_is_sent_today(version: str) -> None:
    known = schema_of(version)
    for name, (message, _) in samples().items():
        schema = known.get(type(message).__name__)
        if schema is not None:
            # As Python has it: what travels as text and is read as a number is a number here.
            told = orjson.loads(orjson.dumps(message.model_dump()))
            problems = [str(e) for e in jsonschema_rs.validator_for(schema).iter_errors(told)]
            assert problems == [], name


@every_version
def test_no_message_has_changed_in_a_way_that_breaks_a_reader(version: str) -> None:
    today = schemas()
    for name, schema in schema_of(version).items():
        assert name in today, f"{name} is gone"
        assert list(breaks(schema, today[name], name)) == []


def missing(said: Any, read: Any, place: str = "") -> list[str]:
    """Places where what was said is not what was read; what is new today does not count."""
    if isinstance(said, dict) and isinstance(read, dict):
        return [
            found
            for key, value in said.items()
            for found in (
                missing(value, read[key], f"{place}.{key}") if key in read else [f"{place}.{key}"]
            )
        ]
    if isinstance(said, list) and isinstance(read, list) and len(said) == len(read):
        return [
            found
            for index, (one, other) in enumerate(zip(said, read, strict=True))
            for found in missing(one, other, f"{place}[{index}]")
        ]
    return [] if said == read else [f"{place}: {said!r} became {read!r}"]


def breaks(old: Any, new: Any, place: str) -> list[str]:
    """Why a reader of one of two schemas would not understand a writer of the other.

    A field may come, with a default; it may not go, nor change its type, nor become required.
    An enumeration may grow: a reader that does not know a value shows the message as something
    weaker, or refuses it where it would be work.
    """
    found = []
    old_parts = {"": old, **(old.get("$defs") or {})}
    new_parts = {"": new, **(new.get("$defs") or {})}
    for name, part in old_parts.items():
        where = f"{place}.{name}" if name else place
        other = new_parts.get(name)
        if other is None:
            found.append(f"{where} is gone")
            continue
        found += [f"{where}: {v!r} is gone" for v in part.get("enum", []) if v not in other["enum"]]
        for field, kind in (part.get("properties") or {}).items():
            if field not in other.get("properties", {}):
                found.append(f"{where}.{field} is gone")
            elif shape(kind) != shape(other["properties"][field]):
                found.append(f"{where}.{field} has another type")
        required = set(other.get("required") or []) - set(part.get("required") or [])
        found += [f"{where}.{field} has become required" for field in sorted(required)]
    return found


def shape(kind: Any) -> Any:
    """A field's type, without its words and its bounds."""
    if isinstance(kind, dict):
        kept = ("type", "format", "$ref", "items", "anyOf", "additionalProperties", "const")
        return {name: shape(kind[name]) for name in kept if name in kind}
    return [shape(one) for one in kind] if isinstance(kind, list) else kind


def test_the_comparison_of_schemas_finds_what_would_break() -> None:
    old = {
        "properties": {"kept": {"type": "string"}, "typed": {"type": "string"}, "gone": {}},
        "required": ["kept"],
        "$defs": {"Verb": {"enum": ["apply", "delete"]}, "Piece": {}},
    }
    new = {
        "properties": {
            "kept": {"type": "string", "description": "other words"},
            "typed": {"type": "integer"},
            "come": {"type": "string"},
        },
        "required": ["kept", "come"],
        "$defs": {"Verb": {"enum": ["apply", "heal"]}},
    }
    assert breaks(old, new, "Message") == [
        "Message.typed has another type",
        "Message.gone is gone",
        "Message.come has become required",
        "Message.Verb: 'delete' is gone",
        "Message.Piece is gone",
    ]
    assert breaks(old, old, "Message") == []


@pytest.mark.leaves_whole
async def test_todays_workers_carry_out_an_older_command_or_refuse_it_by_its_reason(
    frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    """What a person sent to lifecycle is done; what needs a gateway's signature says so."""
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    for delete in (False, True):
        await client.run("custom", body=config_map("registers"), delete=delete)
    async with admin_bus(frail) as bus:
        buried = await message_count(bus, "DLQ")
        for version in versions():
            by_hand = {one.name: one for one in recorded(version)}
            for name, service, phases in (
                ("a command by hand", "translator", [Phase.FAILED]),
                ("a manifest by hand", "lifecycle", [Phase.DONE]),
            ):
                one = by_hand[name]
                operation = f"{version}-{service}"
                # An id names one operation, so each gets its own, in the older one's own words.
                body = one.body.replace(b'"recorded","kind"', f'"{operation}","kind"'.encode())
                assert body != one.body
                subject = subjects.apply_command(
                    service=service, cluster=token, operation=operation
                )
                await bus.client.jetstream().publish(subject, body, headers=dict(one.headers))
                await eventually(lambda o=operation: _ends(frail, o), what=f"the end of {name}")
                ends = await _ends(frail, operation)
                assert [event.phase for event in ends] == phases, ends
            [refused] = await _ends(frail, f"{version}-translator")
            assert refused.error is not None
            assert refused.error.code == "MB-2013"
        assert await message_count(bus, "DLQ") == buried
    cluster.kubectl("delete", "configmap", "recorded", "-n", "default")


async def _ends(stack: Stack, operation: str) -> list[Event]:
    return [event for event in await stored_events(stack, operation) if event.is_final]
