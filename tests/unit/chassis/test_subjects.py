"""Names on the bus: no text of a user can leave its token."""

from __future__ import annotations

import re

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
