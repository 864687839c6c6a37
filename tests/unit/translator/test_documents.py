"""The input: documents of every form, bounds, and the line of each finding."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import ManifestMalformed, OptionsMalformed
from services.chassis.kube.manifests import DOCUMENT_LIMIT, SIZE_LIMIT_BYTES, parse_manifest
from services.chassis.kube.objects import Ref
from services.translator.documents import read_input
from services.translator.options import Options
from services.translator.reports import Finding, Level, Path

THREE = """\
# the shop's mesh

---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  namespace: shop
spec:
  hosts:
  - reviews
  http:
  - name: first
    route: []
  - match: []   # without a route
---
# nothing here
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: a, namespace: shop}
- apiVersion: networking.istio.io/v1
  kind: Gateway
  metadata:
    name: edge
    namespace: shop
  spec:
    servers:
    - port: {number: 80}
---
{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
 "metadata": {"name": "edge", "namespace": "shop"},
 "spec": {
   "gatewayClassName": "istio",
   "listeners": [{"name": "http"},
                 {"name": "https"}]}}
"""
VS = Ref("networking.istio.io/v1", "VirtualService", "shop", "reviews")
ISTIO_GATEWAY = Ref("networking.istio.io/v1", "Gateway", "shop", "edge")
API_GATEWAY = Ref("gateway.networking.k8s.io/v1", "Gateway", "shop", "edge")
CONFIG = Ref("v1", "ConfigMap", "shop", "a")


def finding(subject: Ref, *path: str | int, message: str = "is wrong") -> Finding:
    return Finding(level=Level.ERROR, rule="schema", subject=subject, path=path, message=message)


@pytest.mark.parametrize(
    ("subject", "path", "place"),
    [
        pytest.param(VS, (), (1, 4), id="the object"),
        pytest.param(VS, ("apiVersion",), (1, 4), id="a field of the first line"),
        pytest.param(VS, ("metadata", "name"), (1, 7), id="a field"),
        pytest.param(VS, ("spec", "http", 1), (1, 15), id="an item"),
        pytest.param(VS, ("spec", "http", 1, "match"), (1, 15), id="a field of an item"),
        pytest.param(VS, ("spec", "http", 1, "route"), (1, 15), id="missing: its parent"),
        pytest.param(VS, ("spec", "http", 7, "route"), (1, 12), id="no such item: the list"),
        pytest.param(VS, ("spec", "tcp", 0, "route"), (1, 9), id="missing parents: the nearest"),
        pytest.param(VS, ("spec", "hosts", 0, "x", 1), (1, 11), id="below a text: the text"),
        pytest.param(VS, ("status",), (1, 4), id="missing at the root: the object"),
        pytest.param(CONFIG, ("metadata", "name"), (3, 24), id="an item of a List, in flow"),
        pytest.param(ISTIO_GATEWAY, (), (3, 25), id="a later item of a List"),
        pytest.param(ISTIO_GATEWAY, ("spec", "servers", 0, "port", "number"), (3, 32), id="deep"),
        pytest.param(API_GATEWAY, ("spec", "listeners", 1, "port"), (4, 39), id="JSON"),
        pytest.param(
            Ref("networking.istio.io/v1alpha3", "VirtualService", "shop", "reviews"),
            ("spec",),
            (1, 9),
            id="another version of the object",
        ),
        pytest.param(
            Ref("networking.istio.io/v1", "VirtualService", "other", "reviews"),
            ("spec",),
            (0, 0),
            id="another namespace",
        ),
        pytest.param(
            Ref("security.istio.io/v1", "AuthorizationPolicy", "shop", "reviews"),
            (),
            (0, 0),
            id="an object that is not in the input",
        ),
    ],
)
def test_a_finding_gets_its_document_and_line(
    subject: Ref, path: Path, place: tuple[int, int]
) -> None:
    [located] = read_input(THREE).located([finding(subject, *path)])
    assert (located.document, located.line) == place
    assert located.path == path


def test_findings_come_in_the_order_of_the_input() -> None:
    given = [
        finding(API_GATEWAY, "spec"),
        finding(VS, "spec", "http", 1, message="b"),
        finding(VS, "spec", "http", 1, message="a"),
        finding(ISTIO_GATEWAY, "spec"),
        finding(VS, "metadata"),
    ]
    located = read_input(THREE).located(given)
    assert [(f.line, f.message) for f in located] == [
        (6, "is wrong"),
        (15, "a"),
        (15, "b"),
        (30, "is wrong"),
        (36, "is wrong"),
    ]
    assert read_input(THREE).located(given[::-1]) == located


def test_a_key_that_is_no_text_does_not_disturb_its_neighbours() -> None:
    text = "kind: A\napiVersion: v1\nmetadata: {name: a}\ndata:\n  80: x\n  yes: y\n  z: 1\n"
    given = [finding(Ref("v1", "A", "", "a"), "data", key) for key in ("80", "z", "true")]
    assert [(f.path[1], f.line) for f in read_input(text).located(given)] == [
        ("true", 4),
        ("80", 5),
        ("z", 7),
    ]


def test_windows_line_ends_and_a_byte_order_mark_count_as_one_line_each() -> None:
    text = "\ufeff" + THREE.replace("\n", "\r\n")
    [located] = read_input(text).located([finding(VS, "spec", "http", 1, "route")])
    assert (located.document, located.line) == (1, 15)


def test_what_an_input_holds() -> None:
    read = read_input(
        THREE
        + "---\napiVersion: meshbus.io/v1\nkind: TranslationOptions\nspec: {form: gateway-api}\n"
        + "---\nname: a\nschemaVersion: designs.meshery.io/v1beta1\ncomponents: []\n"
        + "---\nname: b\nservices: {c: {type: ConfigMap}}\n"
    )
    assert [(d.number, str(Ref.of(d.value)), d.prefix) for d in read.objects] == [
        (1, "VirtualService shop/reviews", ()),
        (3, "ConfigMap shop/a", ("items", 0)),
        (3, "Gateway shop/edge", ("items", 1)),
        (4, "Gateway shop/edge", ()),
    ]
    assert [(d.number, d.value["name"]) for d in read.designs] == [(6, "a"), (7, "b")]
    assert read.options == Options(form="gateway-api")


# ---- What is refused -----------------------------------------------------------------------------

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
OPTIONS = "apiVersion: meshbus.io/v1\nkind: TranslationOptions\n"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "no manifest in its body", id="empty"),
        pytest.param(" \n\t\n", "no manifest in its body", id="blank"),
        pytest.param("# only\n---\n---\n", "no object", id="comments"),
        pytest.param(OPTIONS, "no object", id="options alone"),
        pytest.param(f"{OBJECT}---\nhello\n", "document 2 is not a mapping", id="text"),
        pytest.param(
            f"{OBJECT}---\n---\nkind: A\n", "document 3 has no apiVersion", id="no object"
        ),
        pytest.param(
            f"{OBJECT}---\n{OPTIONS}---\n{OPTIONS}", "document 3: there are", id="options twice"
        ),
        pytest.param(BOMB, "line 2: YAML aliases", id="bomb"),
        pytest.param(f"{OBJECT}data: &a\n  b: *a\n", "line 5: YAML aliases", id="cycle"),
        pytest.param("[" * 20_000, "nested more than 100 levels", id="20 000 levels"),
        pytest.param(
            f"{OBJECT}data: {'{a: ' * 20_000}{'}' * 20_000}", "nested more", id="deep object"
        ),
        pytest.param(
            f"{OBJECT}---\n" * 10_000, f"more than {DOCUMENT_LIMIT}", id="10 000 documents"
        ),
        pytest.param(f"{OBJECT}data: {{a: 1, a: 2}}\n", "line 4: the key 'a'", id="duplicate key"),
        pytest.param(f"{OBJECT}data: !!python/name:os.system\n", "YAML tags", id="tag"),
        pytest.param(f"{OBJECT}data: !!binary aGk=\n", "YAML tags", id="binary"),
        pytest.param("#" * (SIZE_LIMIT_BYTES + 1), "the limit is", id="too large"),
        pytest.param("a: [", "not YAML", id="not YAML"),
        pytest.param("name: x\nservices: {}\n", "document 1 has no apiVersion", id="no services"),
    ],
)
def test_an_input_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(ManifestMalformed) as caught:
        read_input(text)
    assert words in caught.value.summary


def test_options_that_are_wrong_are_refused_with_their_field() -> None:
    with pytest.raises(OptionsMalformed, match=r"spec\.form of the TranslationOptions"):
        read_input(f"{OBJECT}---\n{OPTIONS}spec: {{form: xml}}\n")


def test_five_megabytes_within_the_limits_are_read() -> None:
    line = "  key{}: " + "x" * 1000 + "\n"
    text = OBJECT + "data:\n" + "".join(line.format(number) for number in range(5000))
    assert len(text) > 5_000_000
    [document] = read_input(text).objects
    assert len(document.value["data"]) == 5000


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("no", False),
        ("on", True),
        ("y", True),
        ("017", 15),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1e3", 1000),
        ("2.0", 2),
        ("'no'", "no"),
    ],
)
def test_scalars_are_read_as_manifests_are(written: str, read: object) -> None:
    text = f"{OBJECT}data: {{a: {written}}}\n"
    [document] = read_input(text).objects
    assert document.value["data"] == {"a": read}
    assert type(document.value["data"]["a"]) is type(read)
    assert [document.value] == parse_manifest(text)


# ---- Whatever else somebody sends ----------------------------------------------------------------

yaml_text = st.text(alphabet="abz019 \t\n:-?[]{}&*!|>'\"%@#,.<=~\\_eE+\0\r\ufeffü", max_size=200)


def answered(text: str) -> None:
    """Either our error, or something to translate."""
    with contextlib.suppress(ManifestMalformed, OptionsMalformed):
        read = read_input(text)
        assert read.objects or read.designs


@given(yaml_text, yaml_text)
def test_any_text_is_read_or_refused_with_our_error(text: str, more: str) -> None:
    answered(text)
    answered(f"{OBJECT}data: {text}\n---\n{OPTIONS}spec: {more}\n")


@given(st.lists(st.sampled_from(["", "# a\n", "\n", "---\n", "---\n...\n"]), max_size=6))
def test_an_object_is_found_at_its_line_whatever_stands_before_it(before: list[str]) -> None:
    head = "".join(before)
    text = f"{head}---\n{OBJECT}"
    [located] = read_input(text).located([finding(Ref("v1", "ConfigMap", "", "a"), "metadata")])
    assert located.line == head.count("\n") + 4
    assert text.splitlines()[located.line - 1].startswith("metadata")
