"""Options in a body: the operation's own document, among whatever Meshery's editor holds."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.chassis.errors import OptionsMalformed
from services.chassis.operations import bodies
from services.chassis.operations.bodies import KINDS, find_options


class Colours(BaseModel):
    """Options of an operation that is in no service."""

    model_config = ConfigDict(extra="forbid")

    shade: int = Field(default=1, ge=0)
    names: dict[str, int] = Field(default_factory=dict)

    @field_validator("shade")
    @classmethod
    def _not_seven(cls, shade: int) -> int:
        if shade == 7:
            raise ValueError("seven is taken")
        return shade


def found(body: str) -> Colours | None:
    return find_options(body, "ColourOptions", Colours)


def own(spec: str) -> str:
    return f"apiVersion: meshbus.io/v1\nkind: ColourOptions\nspec: {spec}\n"


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {b: c}\n"
LIFECYCLE = "apiVersion: meshbus.io/v1\nkind: LifecycleOptions\nspec: {profile: demo}\n"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n", id="blank"),
        pytest.param("# meshbus.io/v1\n", id="a comment"),
        pytest.param(CONFIG_MAP, id="a manifest"),
        pytest.param("a: [", id="no YAML"),
        pytest.param("[" * 20_000, id="deep"),
        pytest.param("meshbus.io/v1: [", id="no YAML, with our name"),
        pytest.param("ColourOptions: [", id="no YAML, with the kind"),
        pytest.param(LIFECYCLE, id="another operation's options"),
        pytest.param(f"{LIFECYCLE}---\n{CONFIG_MAP}", id="another operation's options and more"),
        pytest.param("apiVersion: meshbus.io/v1\nkind: 7\n", id="a kind that is a number"),
        pytest.param("apiVersion: meshbus.io/v2\nkind: ColourOptions\n", id="another version"),
        pytest.param("apiVersion: v1\nkind: ColourOptions\n# meshbus.io/v1\n", id="another group"),
        pytest.param("- meshbus.io/v1\n- ColourOptions\n", id="a list"),
        pytest.param("meshbus.io/v1 ColourOptions", id="a sentence"),
        pytest.param(
            "a: {apiVersion: meshbus.io/v1, kind: ColourOptions, spec: {shade: x}}\n" + CONFIG_MAP,
            id="inside another document",
        ),
    ],
)
def test_what_is_not_the_operation_s_own_is_left_alone(body: str) -> None:
    assert found(body) is None


@pytest.mark.parametrize(
    "body",
    [
        own("{shade: 3}"),
        f"{CONFIG_MAP}---\n{own('{shade: 3}')}",
        f"{own('{shade: 3}')}---\n{LIFECYCLE}---\n- a list\n---\ntext\n---\n{CONFIG_MAP}",
        '{"apiVersion": "meshbus.io/v1", "kind": "ColourOptions", "spec": {"shade": 3}}',
    ],
    ids=["alone", "after a manifest", "among many", "JSON"],
)
def test_the_own_document_is_found_among_others(body: str) -> None:
    assert found(body) == Colours(shade=3)


@pytest.mark.parametrize("spec", ["", "~", "{}"])
def test_nothing_said_means_the_defaults(spec: str) -> None:
    assert found(own(spec)) == Colours()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(own("{shade: -1}"), "spec.shade of the ColourOptions: ", id="out of bounds"),
        pytest.param(own("{shade: '1'}"), "spec.shade", id="text for a number"),
        pytest.param(own("{shade: yes}"), "spec.shade", id="true for a number"),
        pytest.param(own("{color: 1}"), "spec.color", id="unknown field"),
        pytest.param(own("{names: {a: x}}"), "spec.names.a", id="deep"),
        pytest.param(own("{shade: 7}"), "spec.shade of the ColourOptions: seven", id="own rule"),
        pytest.param(own("[]"), "spec of the ColourOptions", id="list"),
        pytest.param(own("text"), "spec of the ColourOptions", id="text"),
        pytest.param(own("0"), "spec of the ColourOptions", id="number"),
        pytest.param(own("no"), "spec of the ColourOptions", id="false"),
        pytest.param(f"{own('')}---\n{own('')}", "more than one ColourOptions", id="twice"),
        pytest.param(f"{own('')}a: b: c\n", "the body is not YAML: line 4", id="no YAML"),
        pytest.param(f"{own('')}spec: {{}}\n", "line 4: the key 'spec'", id="a key twice"),
        pytest.param(f"{own('')}---\na: &b 1\nc: *b\n", "line 6: YAML aliases", id="an alias"),
    ],
)
def test_an_own_document_that_is_wrong_is_refused(body: str, words: str) -> None:
    with pytest.raises(OptionsMalformed) as caught:
        found(body)
    assert words in caught.value.summary
    assert caught.value.code == "MB-5004"


@given(st.text(alphabet="az019 \n:-?[]{}&*!|>'\"%@#,.~\\_\0", max_size=200))
def test_any_text_beside_it_is_an_answer_or_our_error(text: str) -> None:
    for body in (text, f"{own('{shade: 3}')}---\n{text}", own(text)):
        with contextlib.suppress(OptionsMalformed):
            assert found(body) in (None, Colours(), Colours(shade=3))


def test_the_kinds_of_options_are_those_that_services_take() -> None:
    services = Path(bodies.__file__).parents[2]
    texts = [path.read_text() for path in services.rglob("*.py") if path.name != "bodies.py"]
    named = {kind for text in texts for kind in re.findall(r'"([A-Z][A-Za-z]+Options)"', text)}
    assert named == KINDS
