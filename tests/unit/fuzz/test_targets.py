"""Whatever somebody sends to a parser, it answers in our words: a short run, and a long one."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgpack
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.fuzz.targets import TARGETS, run

_WORDS = st.sampled_from(
    (
        *("apiVersion", "kind", "metadata", "name", "namespace", "spec", "items", "labels", "data"),
        *("v1", "List", "ConfigMap", "meshbus.io/v1", "RoutingOptions", "LifecycleOptions"),
        *("install.istio.io/v1alpha1", "IstioOperator", "profile", "revision", "components"),
        *("services", "schemaVersion", "designs.meshery.io/v1beta1", "registrant", "traits"),
        *("contexts", "clusters", "users", "current-context", "one", "server", "https://a:1"),
        *("token", "test", "clients", "endpoint_urls", "http://a/", "duration", "10s", "rps"),
        *("operation", "verb", "apply", "cluster", "body", "deadline", "steps", "rules", "people"),
        *("", "~", "yes", "1e3", "<<", "=", "0x1F", ".nan", "2024-01-01", "1:30", "\ufeff", "é"),
    )
)
_SCALARS = _WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=16,
)
_PIECES = st.sampled_from(
    (
        *(
            "- ",
            ": ",
            "\n",
            "\n  ",
            "\n---\n",
            "\n...\n",
            "? ",
            "| \n ",
            ">-\n ",
            "{",
            "}",
            "[",
            "]",
        ),
        *(
            ", ",
            '"',
            "'",
            "\\",
            "#",
            "&a ",
            "*a",
            "!x ",
            "!!str ",
            "! ",
            "%YAML 1.1\n",
            "<<: ",
            "\t",
        ),
        *("\r\n", "\u2028", "\x85", "\0", "\n~\n", "@", "`", "\ud800"),
    )
)
_TEXTS = st.lists(_PIECES | _WORDS | st.text(max_size=4), max_size=30).map("".join)


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


def _packed(value: Any) -> bytes:
    try:
        return bytes(msgpack.packb(value))
    except (OverflowError, UnicodeEncodeError):
        return b"\xc0"


def _dumped(values: list[Any]) -> bytes:
    return yaml.safe_dump_all(values, allow_unicode=True).encode("utf-8", "replace")


_SOUND = (
    _VALUES.map(_written)
    | _VALUES.map(_packed)
    | st.lists(_VALUES, max_size=3).map(_dumped)
    | _TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A sound one with a part cut out, doubled or replaced."""
    body = draw(_SOUND)
    begin = draw(st.integers(0, len(body)))
    end = draw(st.integers(begin, min(len(body), begin + 8)))
    return body[:begin] + draw(st.binary(max_size=6)) + body[end:]


BODIES = _SOUND | _damaged() | st.binary(max_size=200) | _SOUND.map(zlib.compress)
_UNHURRIED = (HealthCheck.too_slow, HealthCheck.data_too_large)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, suppress_health_check=_UNHURRIED)
@given(body=BODIES)
def test_anything_is_answered_in_our_words(name: str, body: bytes) -> None:
    run(name, body)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=10_000, suppress_health_check=_UNHURRIED)
@given(body=BODIES)
def test_anything_at_length_is_answered_in_our_words(name: str, body: bytes) -> None:
    run(name, body)
