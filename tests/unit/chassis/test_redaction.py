"""Redaction: by key, by shape and by value; what is registered never survives."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.telemetry import redaction
from services.chassis.telemetry.redaction import MASK, redacted, redacted_text, registered

KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIcanary\nAbCd==\n-----END EC PRIVATE KEY-----"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0123.c2lnbmF0dXJl-_x"
SEED = "SUAM" + "A2B3C4D5E6F7" * 4 + "GHIJKL"

SHAPES = {
    "PEM": KEY,
    "PEM on one line": KEY.replace("\n", "\\n"),
    "PEM without its end": KEY.rpartition("\n")[0],
    "PEM of RSA": KEY.replace("EC ", "RSA "),
    "base64 of PEM": base64.b64encode(KEY.encode()).decode(),
    "JSON web token": JWT,
    "JSON web token without signature": JWT.rpartition(".")[0] + ".",
    "NKey user seed": SEED,
    "NKey account seed": "SA" + SEED[2:],
    "NKey operator seed": "SO" + SEED[2:],
    "NKey curve seed": "SX" + SEED[2:],
}


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("around", ["{}", "before {} after", '"{}"', "a={};", "\\n{}", "x\n{}\ny"])
def test_a_secret_s_shape_is_masked(case: str, around: str) -> None:
    secret = SHAPES[case]
    masked = redacted_text(around.format(secret))
    assert MASK in masked
    for line in secret.splitlines():
        assert line not in masked or "-----" in line


@pytest.mark.parametrize("word", ["Bearer", "bearer", "Authorization: Bearer"])
def test_what_a_bearer_bears_is_masked(word: str) -> None:
    assert redacted_text(f"{word} abc.DEF-123_~+/=, more") == f"{word} {MASK}, more"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Wave 1 of 6, namespaces and definitions: 16 applied, 0 unchanged",
        "Deployment istio-system/istiod is ready",
        "the bearer of bad news",
        "Start of SUNDAY",
        "eyJust a word",
        "LS0tLS1CRUdJTi",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted_text(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "password", "db_passwd", "secret", "token", "seed", "nats_seed", "private_key",
        "client-key-data", "certificate-authority-key_data", "client-certificate-data",
        "Authorization", "kubeconfig", "kube_configs_kubeconfig", "credential", "custom_body",
        "customBody_custom-body", "declarations", "TOKEN",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["x", 7, ["x"], {"a": "x"}, b"x", True])
def test_a_key_that_promises_a_secret_masks_its_value(key: str, value: Any) -> None:
    assert redacted({key: value}) == {key: MASK}
    assert redacted({"a": [{key: value}]}) == {"a": [{key: MASK}]}


def test_a_missing_secret_is_seen_as_missing() -> None:
    assert redacted({"token": None}) == {"token": None}


@pytest.mark.parametrize("key", ["token_kind", "credential_key", "secret_name", "name", "objects"])
def test_harmless_keys_keep_their_values(key: str) -> None:
    assert redacted({key: "value"}) == {key: "value"}


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "text"])
def test_plain_values_stay_what_they_are(value: object) -> None:
    assert redacted(value) is value


@pytest.mark.parametrize("value", [b"abc", bytearray(b"abc")])
def test_bytes_are_only_counted(value: object) -> None:
    assert redacted(value) == "3 bytes"


class Holder:
    """Something that a log renderer would make text of."""

    def __str__(self) -> str:
        return f"holder of {JWT}"


@pytest.mark.parametrize(
    "value",
    [
        ValueError(f"bad: {JWT}"),
        Holder(),
        Path(f"/tmp/{JWT}"),
        [JWT],
        (JWT,),
        {JWT},
        frozenset({JWT}),
        {"a": {"b": [{"c": JWT}]}},
        {JWT: "as a key"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_is_masked_wherever_it_stands(value: object) -> None:
    masked = redacted(value)
    assert JWT not in str(masked)
    assert MASK in str(masked)


# ---- By value ------------------------------------------------------------------------------------

# `redacted`, of eight letters, could be a secret too; the mask itself shows that one.
secrets = st.text(min_size=8, max_size=40).filter(
    lambda text: not set("[]") & set(text) and text not in MASK
)


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    yield
    assert not redaction._values


@given(secrets, st.text(), st.text())
def test_a_registered_secret_never_survives(secret: str, before: str, after: str) -> None:
    with registered([secret]):
        assert secret not in redacted_text(before + secret + after)


@given(st.lists(secrets, min_size=1, max_size=5), st.data())
def test_no_registered_secret_survives_beside_others(held: list[str], data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.sampled_from(held) | st.text(max_size=10), max_size=12))
    with registered(held):
        masked = redacted_text("".join(pieces))
    assert not [secret for secret in held if secret in masked]


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just("{secret}"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.just("{secret}"), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=15,
)


def filled(value: Any, secret: str) -> Any:
    if isinstance(value, str):
        return value.replace("{secret}", secret)
    if isinstance(value, dict):
        return {filled(key, secret): filled(inner, secret) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(filled(inner, secret) for inner in value)
    return value


def texts(value: Any) -> Iterator[str]:
    """All text in a value, as it is: `repr` would write some characters otherwise."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


@given(secrets, nested)
def test_a_registered_secret_survives_at_no_depth(secret: str, value: Any) -> None:
    with registered([secret]):
        assert not [text for text in texts(redacted(filled(value, secret))) if secret in text]


def test_a_secret_that_begins_another_leaves_nothing_of_it() -> None:
    with registered(["canary-1234", "canary-1234-tail"]):
        assert redacted_text("a canary-1234-tail b canary-1234 c") == f"a {MASK} b {MASK} c"


def test_a_secret_is_masked_until_its_last_reader_is_done() -> None:
    secret = "canary-5e0f7d"
    with registered([secret]):
        with registered([secret]):
            assert redacted_text(secret) == MASK
        assert redacted_text(secret) == MASK
    assert redacted_text(secret) == secret


def test_texts_too_short_to_be_secrets_are_not_masked() -> None:
    with registered(["", "a", "seven.7"]):
        assert redacted_text("a seven.7") == "a seven.7"


SLOW = {
    "token beginnings": "eyJ" * 120_000,
    "token parts": "eyJaaaaaaaa." * 30_000,
    "token beginnings with a dot": "eyJ" * 120_000 + "." + "a" * 100_000,
    "PEM beginnings": "-----BEGIN A" * 30_000,
    "PEM heads": "-----BEGIN A-----" * 25_000,
    "base64 beginnings": "LS0tLS1CRUdJTi" * 25_000,
    "seed letters": "SUA" * 120_000,
    "bearers": "Bearer " * 50_000,
}


@pytest.mark.parametrize("case", SLOW)
def test_no_text_is_slow(case: str) -> None:
    began = time.process_time()
    redacted_text(SLOW[case])
    assert time.process_time() - began < 8
