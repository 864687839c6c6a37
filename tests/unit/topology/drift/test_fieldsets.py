"""Sets of fields, and paths that people can read."""

from __future__ import annotations

from typing import Any

import pytest

from services.topology.drift.fieldsets import (
    ABSENT,
    Path,
    holds,
    is_under,
    lost,
    paths_of,
    readable,
    value_at,
    without,
)

CONTAINER = 'k:{"name":"istio-proxy"}'
FIELDS: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:app": {}, ".": {}}},
    "f:spec": {
        "f:containers": {CONTAINER: {".": {}, "f:image": {}}},
        "f:finalizers": {'v:"x"': {}},
    },
}
OBJ: dict[str, Any] = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {
        "containers": [{"name": "app"}, {"name": "istio-proxy", "image": "i:1"}],
        "finalizers": ["x"],
        "ports": [{"port": 80, "name": "http"}, {"port": 80, "protocol": "UDP"}],
    },
}


def test_members_are_leaves_and_containers_that_are_named_themselves() -> None:
    assert paths_of(FIELDS) == {
        ("f:metadata", "f:labels"),
        ("f:metadata", "f:labels", "f:app"),
        ("f:spec", "f:containers", CONTAINER),
        ("f:spec", "f:containers", CONTAINER, "f:image"),
        ("f:spec", "f:finalizers", 'v:"x"'),
    }


def test_lost_has_containers_before_what_is_in_them() -> None:
    assert lost(FIELDS, FIELDS) == []
    assert lost(FIELDS, FIELDS | {"f:data": {}}) == []
    now = {"f:metadata": FIELDS["f:metadata"]}
    assert lost(FIELDS, now) == [
        ("f:spec", "f:containers", CONTAINER),
        ("f:spec", "f:finalizers", 'v:"x"'),
        ("f:spec", "f:containers", CONTAINER, "f:image"),
    ]


@pytest.mark.parametrize(
    ("path", "held"),
    [
        (("f:metadata", "f:labels", "f:app"), True),
        (("f:metadata", "f:labels", "f:app", "f:deeper"), True),
        (("f:metadata", "f:labels", "f:other"), False),
        (("f:status",), False),
    ],
)
def test_a_set_holds_what_is_within_its_leaves(path: Path, held: bool) -> None:
    assert holds(FIELDS, path) is held


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            ("f:spec", "f:containers", CONTAINER, "f:image"),
            "spec.containers[name=istio-proxy].image",
        ),
        (("f:metadata", "f:labels", "f:x"), "metadata.labels.x"),
        (("f:metadata", "f:labels", "f:istio.io/rev"), "metadata.labels[istio.io/rev]"),
        (("f:spec", "f:http", "i:0"), "spec.http[0]"),
        (
            ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}'),
            "spec.ports[port=80,protocol=TCP]",
        ),
        (("f:metadata", "f:finalizers", 'v:"x/y"'), "metadata.finalizers[=x/y]"),
    ],
)
def test_readable(path: Path, text: str) -> None:
    assert readable(path) == text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("f:spec", "f:containers", CONTAINER, "f:image"), "i:1"),
        (("f:spec", "f:finalizers", 'v:"x"'), "x"),
        (("f:spec", "f:finalizers", 'v:"y"'), ABSENT),
        (("f:spec", "f:containers", 'k:{"name":"z"}'), ABSENT),
        (("f:spec", "f:containers", "i:0"), {"name": "app"}),
        (("f:spec", "f:containers", "i:7"), ABSENT),
        # An item that does not say its protocol has the default one.
        (("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name"), "http"),
        (("f:spec", "f:nothing", "f:below"), ABSENT),
    ],
)
def test_value_at(path: Path, value: Any) -> None:
    found = value_at(OBJ, path)
    assert found is value if value is ABSENT else found == value


def test_without_leaves_the_original_alone() -> None:
    cut = without(
        OBJ,
        [
            ("f:spec", "f:containers", CONTAINER, "f:image"),
            ("f:spec", "f:finalizers", 'v:"x"'),
            ("f:spec", "f:nothing"),
        ],
    )
    assert cut["spec"]["containers"] == [{"name": "app"}, {"name": "istio-proxy"}]
    assert cut["spec"]["finalizers"] == []
    assert OBJ["spec"]["finalizers"] == ["x"]
    assert OBJ["spec"]["containers"][1]["image"] == "i:1"


@pytest.mark.parametrize(
    ("path", "stem", "under"),
    [
        ("spec.http[0].timeout", "spec.http", True),
        ("spec.httpx", "spec.http", False),
        ("spec.http", "spec.http", True),
        ("spec.http[3].route[1].weight", "spec.http[*].route[*].weight", True),
        ("spec.http[3].route[1].weights", "spec.http[*].route[*].weight", False),
        ("spec.http[1].timeout", "spec.http[0]", False),
    ],
)
def test_is_under(path: str, stem: str, under: bool) -> None:
    assert is_under(path, stem) is under
