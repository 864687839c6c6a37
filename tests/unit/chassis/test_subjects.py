"""Names on the bus: no text of a user can leave its token."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.bus import subjects
from services.chassis.bus.subjects import CommandSubject

SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@given(st.text())
def test_a_token_is_always_one_safe_token(text: str) -> None:
    assert SAFE.match(subjects.token(text))


@pytest.mark.parametrize("text", ["a", "op-1_B", "0", "a" * 64])
def test_a_safe_text_is_its_own_token(text: str) -> None:
    assert subjects.token(text) == text


@pytest.mark.parametrize("text", ["", "a.b", "*", ">", "a b", "a\n", "ä", "a" * 65, "$KV", "a/b"])
def test_an_unsafe_text_is_hashed(text: str) -> None:
    hashed = subjects.token(text)
    assert hashed != text
    assert len(hashed) == 26
    assert hashed == subjects.token(text)


@given(st.lists(st.text(), unique=True, max_size=20))
def test_different_texts_have_different_tokens(texts: list[str]) -> None:
    assert len({subjects.token(text) for text in texts}) == len(texts)


@given(st.text(min_size=1), st.from_regex(SAFE, fullmatch=True))
def test_a_command_subject_is_read_back(operation: str, cluster: str) -> None:
    subject = subjects.apply_command(service="lifecycle", cluster=cluster, operation=operation)
    assert subject.count(".") == 4
    assert CommandSubject.parse(subject) == CommandSubject(
        "lifecycle", cluster, subjects.token(operation)
    )


def test_the_mesh_slot_is_one_for_all_operations() -> None:
    subject = subjects.mesh_command(service="lifecycle", cluster="c")
    assert subject == "cmd.lifecycle.c.mesh"
    assert CommandSubject.parse(subject) == CommandSubject("lifecycle", "c", None)


@given(st.text(min_size=1), st.from_regex(SAFE, fullmatch=True), st.sampled_from(["", "eu-1"]))
def test_a_region_stands_before_what_the_subject_is_without_it(
    operation: str, cluster: str, region: str
) -> None:
    for subject in (
        subjects.mesh_command(service="perf", cluster=cluster, region=region),
        subjects.apply_command(service="perf", cluster=cluster, operation=operation, region=region),
        subjects.handed_on(
            service="perf", cluster=cluster, sender="a", operation=operation, region=region
        ),
    ):
        parsed = CommandSubject.parse(subject)
        assert parsed is not None
        assert (parsed.region, parsed.service, parsed.cluster) == (region, "perf", cluster)
        assert subjects.service_of(subject) == "perf"
        without = subject.replace("cmd.at.eu-1.", "cmd.")
        assert CommandSubject.parse(without) == replace(parsed, region="")


def test_garbage_is_of_the_service_that_it_was_sent_to() -> None:
    found = {one: subjects.service_of(one) for one in ("cmd.a.b.c", "cmd.at.x.a.b.c", "cmd", "")}
    assert list(found.values()) == ["a", "a", "unknown", "unknown"]


@pytest.mark.parametrize("text", ["east", "eu-west-1", "a", "0", "a" * 32])
def test_a_region_is_like_those_of_clouds(text: str) -> None:
    assert subjects.is_region(text)


@pytest.mark.parametrize(
    "text", ["", "East", "a.b", "a_b", "-a", "a-", "a--b", "a\n", "*", "a" * 33]
)
def test_what_no_subject_may_hold_is_no_region(text: str) -> None:
    assert not subjects.is_region(text)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "cmd",
        "cmd.lifecycle",
        "cmd.lifecycle.c",
        "cmd.lifecycle.c.other",
        "cmd.lifecycle.c.apply",
        "cmd.lifecycle.c.apply.a.b",
        "cmd.lifecycle.c.mesh.a",
        "evt.lifecycle.c.mesh",
        "cmd.at.east.lifecycle",
        "cmd.at.east.lifecycle.c.other",
        "cmd.at.lifecycle.c.mesh",
    ],
)
def test_another_form_is_no_command(subject: str) -> None:
    assert CommandSubject.parse(subject) is None


def test_the_other_names() -> None:
    assert subjects.event(service="s", cluster="c", operation="a.b").startswith("evt.s.c.x")
    assert subjects.dead_letter("s") == "dlq.s"
    assert subjects.operation_key("op") == "op"
    assert subjects.operation_key("op", "c") == "op.c"
    assert subjects.registered_credential("c") == "cluster.c"
    assert subjects.operation_credential("op", "c") == "operation.op.c"


def test_a_hash_is_stable_and_short() -> None:
    assert subjects.hash_token(b"") == "4oymiquy7qobjgx3"
    assert subjects.hash_token(b"", length=4) == "4oym"
