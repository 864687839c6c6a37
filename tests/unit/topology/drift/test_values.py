"""Values: where they differ, and what of them is told."""

from __future__ import annotations

from typing import Any

import pytest

from services.topology.drift.fieldsets import ABSENT
from services.topology.drift.values import differences, same, shown


@pytest.mark.parametrize(
    ("path", "wanted", "found", "equal"),
    [
        ("spec.x", "a", "a", True),
        ("spec.x", "a", "b", False),
        ("spec.x", None, ABSENT, True),
        ("spec.x", [], ABSENT, True),
        ("spec.x", "", ABSENT, True),
        ("spec.x", 0, ABSENT, False),
        ("spec.x", False, ABSENT, False),
        ("spec.x", True, 1, False),
        ("spec.x", 1, 1.0, True),
        ("spec.resources.requests.cpu", "1000m", "1", True),
        ("spec.resources.requests.cpu", "1000m", 1, True),
        ("spec.resources.limits.memory", "1Gi", "1024Mi", True),
        ("spec.resources.limits.memory", "1Gi", "1G", False),
        ("spec.resources.limits.memory", "1Gi", "many", False),
        ("metadata.labels.size", "1000m", "1", False),
    ],
)
def test_same(path: str, wanted: Any, found: Any, equal: bool) -> None:
    assert same(path, wanted, found) is equal


def test_differences_name_the_leaves() -> None:
    wanted = [{"route": [{"weight": 90}], "name": "a"}, {"name": "b"}]
    found = [{"route": [{"weight": 80}], "name": "a", "timeout": "1s"}]
    assert list(differences("spec.http", wanted, found)) == [
        ("spec.http[0].route[0].weight", 90, 80),
        ("spec.http[0].timeout", ABSENT, "1s"),
        ("spec.http[1]", {"name": "b"}, ABSENT),
    ]


def test_defaults_of_the_api_server_are_no_difference() -> None:
    assert list(differences("rules", [{"verbs": ["*"]}], [{"verbs": ["*"], "scope": "*"}])) == []
    assert list(differences("rules", [{}], [{"scope": "Cluster"}]))


@pytest.mark.parametrize(
    ("kind", "path", "value", "text"),
    [
        ("apps/Deployment", "spec.replicas", 3, 3),
        ("apps/Deployment", "spec.x", ABSENT, None),
        ("apps/Deployment", "spec.x", "a" * 80, "a" * 80),
        ("apps/Deployment", "spec.x", "a" * 81, "a" * 79 + "…"),
        ("apps/Deployment", "spec.x", ["a", 1], '["a",1]'),
        ("/ConfigMap", "data.mesh", "password: x", "(hidden)"),
        ("/ConfigMap", "data", {"mesh": "password: x"}, "(hidden)"),
        ("/ConfigMap", "metadata.labels.x", "y", "y"),
        ("apps/Deployment", "spec.containers[name=a].env[name=KEY].value", "s3", "(hidden)"),
        ("apps/Deployment", "spec.containers[0].env[1].value", "s3", "(hidden)"),
        (
            "apps/Deployment",
            "spec.containers[name=a].env[name=KEY]",
            {"name": "KEY", "value": "s3"},
            '{"name":"KEY","value":"(hidden)"}',
        ),
        (
            "apps/Deployment",
            "spec.containers[name=a]",
            {"env": [{"name": "KEY", "value": "s3"}]},
            '{"env":[{"name":"KEY","value":"(hidden)"}]}',
        ),
        (
            "extensions.istio.io/WasmPlugin",
            "spec.vmConfig",
            {"env": [{"name": "KEY", "value": "s3"}]},
            '{"env":[{"name":"KEY","value":"(hidden)"}]}',
        ),
    ],
)
def test_shown(kind: str, path: str, value: Any, text: Any) -> None:
    assert shown(kind, path, value) == text
