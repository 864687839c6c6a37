"""Manifests: what is taken, what is refused and where, and how kubectl's words are kept."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import ManifestMalformed
from services.chassis.kube.manifests import (
    DOCUMENT_LIMIT,
    SIZE_LIMIT_BYTES,
    dump_manifest,
    parse_documents,
    parse_manifest,
    parse_trusted_document,
)
from services.chassis.kube.objects import Ref, annotations_of, labels_of

LONGEST_S = 8.0
"""No text within the limits takes more of the processor than this."""

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


OBJECT: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}


def config_map(name: str, extra: str = "") -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{extra}"


def metadata(text: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{{text}}}\n"


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

# A text, and what the error must say.
BAD: dict[str, tuple[str, str]] = {
    "empty": ("", "no object"),
    "only separators": ("---\n---\n", "no object"),
    "only comments": ("# a\n--- # b\n", "no object"),
    "empty List": ("apiVersion: v1\nkind: List\nitems: []\n", "no object"),
    "text": ("hello", "document 1 is not a mapping"),
    "list": ("- a\n", "document 1 is not a mapping"),
    "number after an object": (f"{HEAD}---\n7\n", "document 2 is not a mapping"),
    "not YAML": ("a: [1\nb: 2", "line 2"),
    "not YAML later": (f"{HEAD}---\na: b: c\n", "line 5"),
    "tab": (f"{HEAD}data:\n\ta: b\n", "line 5"),
    "unclosed quote": ('a: "b\n', "line 2"),
    "control character": ("a: \x07", "not YAML"),
    "NUL": ("a: b\0", "not YAML"),
    "half a character": ("a: \ud800", "cannot be read"),
    "no kind": ("apiVersion: v1\nmetadata: {name: a}\n", "document 1 has no kind"),
    "empty kind": ("apiVersion: v1\nkind: ''\nmetadata: {name: a}\n", "has no kind"),
    "kind is a number": ("apiVersion: v1\nkind: 1\nmetadata: {name: a}\n", "has no kind"),
    "no apiVersion": ("kind: ConfigMap\nmetadata: {name: a}\n", "has no apiVersion"),
    "apiVersion is a number": ("apiVersion: 1\nkind: Pod\nmetadata: {name: a}\n", "apiVersion"),
    "no metadata": ("apiVersion: v1\nkind: Pod\n", "(Pod) has no metadata.name"),
    "metadata is text": ("apiVersion: v1\nkind: Pod\nmetadata: a\n", "metadata.name"),
    "no name": (metadata("labels: {a: b}"), "(ConfigMap) has no metadata.name"),
    "empty name": (metadata("name: ''"), "has no metadata.name"),
    "name is null": (metadata("name: ~"), "has no metadata.name"),
    "name is a number": (metadata("name: 7"), "metadata.name is not a name"),
    "name is a list": (metadata("name: [a]"), "metadata.name is not a name"),
    "name with a slash": (metadata("name: a/b"), "metadata.name is not a name"),
    "name climbs": (metadata("name: .."), "metadata.name is not a name"),
    "name with a query": (metadata("name: 'a?dryRun=All'"), "metadata.name is not a name"),
    "name with a fragment": (metadata("name: 'a#b'"), "metadata.name is not a name"),
    "name with an escape": (metadata("name: a%2Fb"), "metadata.name is not a name"),
    "name with a line end": (metadata('name: "a\\n"'), "metadata.name is not a name"),
    "long name": (metadata(f"name: {'a' * 254}"), "metadata.name is not a name"),
    "namespace climbs": (metadata("name: a, namespace: ../b"), "metadata.namespace"),
    "namespace is false": (metadata("name: a, namespace: no"), "metadata.namespace"),
    "namespace is a list": (metadata("name: a, namespace: [b]"), "metadata.namespace"),
    "labels are a list": (metadata("name: a, labels: [b]"), "metadata.labels"),
    "annotations are text": (metadata("name: a, annotations: b"), "metadata.annotations"),
    "generateName": (metadata("generateName: a-"), "has no metadata.name"),
    "duplicate key": (f"{HEAD}data:\n  a: 1\n  a: 2\n", "line 6: the key 'a' stands there twice"),
    "duplicate kind": (f"{HEAD}kind: Secret\n", "line 4: the key 'kind'"),
    "duplicate key in flow": (f"{HEAD}data: {{a: 1, a: 2}}\n", "'a' stands there twice"),
    "number and text as one key": (f"{HEAD}data: {{1: a, '1': b}}\n", "'1' stands there twice"),
    "list as a key": ("? [a]\n: b\n", "line 1"),
    "null as a key": ("~: b\n", "a key is neither"),
    "cycle": ("a: &a\n  b: *a\n", "line 2: YAML aliases"),
    "alias": ("a: &a 1\nb: *a\n", "line 2: YAML aliases"),
    "billion laughs": (BOMB, "line 2: YAML aliases"),
    "merge of an alias": ("a: &a {b: c}\nd:\n  <<: *a\n", "line 3: YAML aliases"),
    "undefined alias": ("a: *b\n", "line 1: YAML aliases"),
    "deep list": ("[" * 50_000, "line 1: nested more than 100 levels"),
    "deep mapping": ("{a: " * 50_000, "nested more than 100 levels"),
    "deep blocks": ("\n".join(" " * n + "a:" for n in range(200)), "line 101: nested"),
    "Python object": ("!!python/object/apply:os.system ['true']", "line 1: YAML tags"),
    "Python name": ("a: !!python/name:os.system", "line 1: YAML tags"),
    "unknown tag": ("a: 1\nb: !vault c\n", "line 2: YAML tags"),
    "binary": ("a: !!binary aGVsbG8=\n", "YAML tags"),
    "set": ("a: !!set {b}\n", "YAML tags"),
    "bad number by tag": ("a: !!int ''\n", "YAML tags"),
    "bad truth by tag": ("a: !!bool maybe\n", "YAML tags"),
    "bad date by tag": ("a: !!timestamp x\n", "YAML tags"),
    "mapping by tag": ("a: !!map [b]\n", "YAML tags"),
    "not a number": ("a: .nan\n", "line 1: the number is not finite"),
    "infinite": ("a: 1\nb: -.inf\n", "line 2: the number is not finite"),
    "number without end": ("a: 1.0e+400\n", "not finite"),
    "large number": ("a: 18446744073709551616\n", "line 1: the number has more than 64 bits"),
    "very large number": (f"a: {'9' * 5000}\n", "cannot be read"),
    "large hexadecimal": (f"a: 0x{'f' * 100_000}\n", "64 bits"),
    "bad merge": ("<<: text\n", "line 1"),
    "other YAML version": ("%YAML 3.0\n---\na: b\n", "line 1"),
    "many documents": ("---\na: b\n" * (DOCUMENT_LIMIT + 1), f"more than {DOCUMENT_LIMIT}"),
    "many empty documents": ("---\n" * (DOCUMENT_LIMIT + 1), f"more than {DOCUMENT_LIMIT}"),
    "too large": ("#" * (SIZE_LIMIT_BYTES + 1), f"the limit is {SIZE_LIMIT_BYTES}"),
    "too large in bytes": ("#" + "ü" * (SIZE_LIMIT_BYTES // 2), "the limit is"),
    "bad item": (
        "kind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {kind: Pod}\n",
        "document 1, item 2 has no apiVersion",
    ),
    "item is text": ("apiVersion: v1\nkind: List\nitems: [a]\n", "document 1, item 1 is not"),
    "long kind": (f"apiVersion: v1\nkind: {'K' * 10_000}\n", "has no metadata.name"),
    "long key twice": (f"{'k' * 900}: 1\n{'k' * 900}: 1\n", "stands there twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_manifest_gets_its_error(case: str) -> None:
    text, words = BAD[case]
    began = time.process_time()
    with pytest.raises(ManifestMalformed) as caught:
        parse_manifest(text)
    assert time.process_time() - began < LONGEST_S
    error = caught.value
    assert words in error.summary
    assert error.cause
    assert error.remedy
    assert len(str(error)) < 1000


def test_generate_name_is_explained() -> None:
    with pytest.raises(ManifestMalformed) as caught:
        parse_manifest(metadata("generateName: a-"))
    assert "each repeat" in caught.value.cause


# ---- What is taken -------------------------------------------------------------------------------


def names(text: str) -> list[str]:
    return [str(Ref.of(obj)) for obj in parse_manifest(text)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(config_map("a") + "---\n" + config_map("b"), id="separator"),
        pytest.param(config_map("a") + "--- # b\n" + config_map("b"), id="comment on a separator"),
        pytest.param(config_map("a") + "---   \n" + config_map("b"), id="blanks on a separator"),
        pytest.param(
            "---\n" + config_map("a") + "...\n---\n" + config_map("b"), id="document ends"
        ),
        pytest.param(
            "# license\n---\n" + config_map("a") + "---\n# none\n---\n" + config_map("b") + "---\n",
            id="empty documents",
        ),
        pytest.param(
            (config_map("a") + "---\n" + config_map("b")).replace("\n", "\r\n"), id="CRLF"
        ),
        pytest.param("\ufeff" + config_map("a") + "---\n" + config_map("b"), id="byte order mark"),
        pytest.param(
            '{"apiVersion":"v1","kind":"List","items":['
            '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},'
            '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}]}',
            id="JSON list",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMapList\nitems:\n"
            "- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: "
            "{name: a}}]}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n",
            id="lists in lists",
        ),
        pytest.param(
            config_map("a", "data:\n  script: |\n    ---\n    echo\n") + "---\n" + config_map("b"),
            id="separator inside a literal",
        ),
    ],
)
def test_two_objects_are_two_objects(text: str) -> None:
    assert names(text) == ["ConfigMap a", "ConfigMap b"]


def test_a_kind_that_only_ends_in_list_is_an_object() -> None:
    text = "apiVersion: example.org/v1\nkind: AllowList\nmetadata: {name: a}\nspec: {items: [1]}\n"
    assert names(text) == ["AllowList a"]


@pytest.mark.parametrize("name", ["system:node", "a.b.c", "istio-reader-clusterrole-x", "a" * 253])
def test_names_of_kubernetes_are_taken(name: str) -> None:
    assert names(metadata(f"name: '{name}'")) == [f"ConfigMap {name}"]


@pytest.mark.parametrize("namespace", ["''", "~", ""])
def test_an_empty_namespace_is_none(namespace: str) -> None:
    assert names(metadata(f"name: a, namespace: {namespace}")) == ["ConfigMap a"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("2024-13-99", "2024-13-99"),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("=", "="),
        ("!!str 7", "7"),
        ("0777", 0o777),
        ("0x1F", 31),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1.5", 1.5),
        ("2.0", 2),
        ("1e3", 1000),
        ("1.5e-3", 0.0015),
        ("1e21", 1e21),
        ("1e", "1e"),
        ("0o17", 15),
        ("017", 15),
        ("08", 8),
        ("y", True),
        ("N", False),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("'7'", "7"),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(written: str, read: object) -> None:
    [document] = parse_documents(f"a: {written}\n")
    assert document == {"a": read}
    assert type(document["a"]) is type(read)


@pytest.mark.parametrize(
    ("written", "key"),
    [("80", "80"), ("0x10", "16"), ("1.5", "1.5"), ("yes", "true"), ("off", "false"), ("'1'", "1")],
)
def test_keys_become_text(written: str, key: str) -> None:
    [document] = parse_documents(f"a: {{{written}: x, b: z}}\n")
    assert document == {"a": {key: "x", "b": "z"}}


def test_a_mapping_can_be_merged_where_it_stands() -> None:
    [document] = parse_documents("a:\n  <<: {b: 1, c: 2}\n  c: 3\n")
    assert document == {"a": {"b": 1, "c": 3}}


@pytest.mark.parametrize(
    "text", ["1e3", "1.0", "08", "0o17", "y", "N", "no", "1:30", "2024-01-01", "=", "~", "1.31.0"]
)
def test_text_stays_text_in_what_is_written(text: str) -> None:
    [obj] = parse_manifest(dump_manifest([{**OBJECT, "data": {text: text}}]))
    assert obj["data"] == {text: text}


def test_what_is_written_can_be_read_again() -> None:
    shared = {"a": ["b"]}
    objects = [{**OBJECT, "data": shared, "more": [shared, shared]}]
    assert parse_manifest(dump_manifest(objects)) == objects


def test_as_many_documents_as_the_limit_are_taken() -> None:
    documents = list(parse_documents("---\na: b\n" * DOCUMENT_LIMIT))
    assert len(documents) == DOCUMENT_LIMIT


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n", "a: b\n", "7"])
def test_a_rendered_document_that_is_no_object_is_nothing(text: str) -> None:
    assert parse_trusted_document(text) is None


def test_a_rendered_document_is_read_by_the_same_rules() -> None:
    assert parse_trusted_document(HEAD + "data: {at: 2024-01-01, 80: x}\n") == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"at": "2024-01-01", "80": "x"},
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("\n" * 40 + "a: 1\na: 2\n", 42, id="duplicate key"),
        pytest.param("\n" * 40 + "a: &b 1\nc: *b\n", 42, id="alias"),
        pytest.param("\n" * 40 + "a: !b c\n", 41, id="tag"),
        pytest.param("\n" * 40 + "a: b: c\n", 41, id="syntax"),
        pytest.param("\r\n" * 40 + "a: b: c\r\n", 41, id="syntax with CRLF"),
        pytest.param((HEAD + "---\n") * 10 + "a: .nan\n", 41, id="number in a later document"),
    ],
)
def test_an_error_names_its_line(text: str, line: int) -> None:
    with pytest.raises(ManifestMalformed, match=rf"line {line}\b"):
        parse_manifest(text)


# ---- Whatever else somebody sends ----------------------------------------------------------------

SLOW = {
    "base 60": "a: 1" + ":1" * 1_000_000,
    "base 60 fraction": "a: 1" + ":1" * 1_000_000 + ".5",
    "long key": "a" * 2_000_000,
    "open quotes": "'" * 2_000_000,
    "question marks": "? " * 1_000_000,
    "colons": ": " * 1_000_000,
    "octal": "a: 0" + "7" * 2_000_000,
    "decimal": "a: " + "9" * 2_000_000,
    "anchors": "".join(f"k{number}: &a{number} 1\n" for number in range(20_000)),
    "folded": "a: >\n" + " x\n\n" * 300_000,
}


@pytest.mark.parametrize("case", SLOW)
def test_no_text_is_slow(case: str) -> None:
    began = time.process_time()
    with contextlib.suppress(ManifestMalformed):
        parse_manifest(SLOW[case])
    assert time.process_time() - began < LONGEST_S


yaml_text = st.text(alphabet="abz019 \t\n:-?[]{}&*!|>'\"%@#,.<=~\\_eE+\0\r\ufeffü", max_size=200)
keys = st.sampled_from(["name", "namespace", "labels", "annotations", "generateName", "x"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | scalars, inner, max_size=3),
    max_leaves=8,
)


def sendable(text: str) -> None:
    """Either our error, or objects that can become requests."""
    with contextlib.suppress(ManifestMalformed):
        for obj in parse_manifest(text):
            assert orjson.loads(orjson.dumps(obj)) == obj
            assert re.fullmatch(r"[^/?#%\s]+", Ref.of(obj).name)
            assert Ref.of(obj).namespace == "" or "/" not in Ref.of(obj).namespace
            assert isinstance(labels_of(obj), dict)
            assert isinstance(annotations_of(obj), dict)


@given(st.text(max_size=300) | yaml_text)
def test_any_text_is_answered_with_our_error(text: str) -> None:
    sendable(text)


@given(yaml_text)
def test_any_text_in_an_object_is_answered_with_our_error(text: str) -> None:
    sendable(f"{HEAD}data: {text}")


@given(values, st.dictionaries(keys, values, max_size=4))
def test_any_object_is_sendable_or_refused(data: Any, fields: dict[str, Any]) -> None:
    obj = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", **fields}, "data": data}
    sendable(yaml.safe_dump(obj, allow_unicode=True))
