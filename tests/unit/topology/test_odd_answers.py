"""Objects of a form that no schema allows: answers about the mesh are given all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.topology.analysis import vetting
from services.topology.cluster import kinds
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State
from services.topology.mesh import paths
from services.topology.reports import compliance
from tests.unit.topology.analysis.ist.worlds import findings_of

_ODD: tuple[Any, ...] = (None, "text", 7, [1], {"a": 1}, [], {}, [{}], [None], "", {"a": None})
_PLAIN: dict[str, dict[str, Any]] = {
    kinds.NAMESPACE: {"metadata": {"name": "shop"}},
    kinds.SERVICE: {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "name": "http"}]},
    },
    kinds.DEPLOYMENT: {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "istio-proxy"}]},
            },
        },
    },
}
_SPECS: dict[str, dict[str, Any]] = {
    kinds.VIRTUAL_SERVICE: {
        "hosts": ["web"],
        "exportTo": ["."],
        "gateways": ["mesh"],
        "http": [
            {
                "route": [{"destination": {"host": "web", "subset": "v1"}, "weight": 1}],
                "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 1}}},
                "mirrors": [{"destination": {"host": "web"}}],
            }
        ],
    },
    kinds.DESTINATION_RULE: {
        "host": "web",
        "subsets": [{"name": "v1", "labels": {"app": "web"}, "trafficPolicy": {"tls": {}}}],
        "trafficPolicy": {
            "tls": {"mode": "SIMPLE"},
            "portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "DISABLE"}}],
        },
    },
    kinds.SERVICE_ENTRY: {
        "hosts": ["web.com"],
        "workloadSelector": {"labels": {"app": "web"}},
        "ports": [{"number": 443}],
    },
    kinds.AUTHORIZATION_POLICY: {
        "selector": {"matchLabels": {"app": "web"}},
        "targetRefs": [{"kind": "Service", "name": "web"}],
        "rules": [{}],
    },
    kinds.PEER_AUTHENTICATION: {
        "selector": {"matchLabels": {"app": "web"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"80": {"mode": "DISABLE"}},
    },
    kinds.GATEWAY: {"selector": {"app": "web"}, "servers": [{"hosts": ["*"]}]},
}


def _spoiled(value: Any) -> Iterator[Any]:
    """The value with each of its places, itself included, in each odd form."""
    yield from _ODD
    if isinstance(value, dict):
        for name, inner in value.items():
            for other in _spoiled(inner):
                yield {**value, name: other}
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            for other in _spoiled(inner):
                yield [*value[:index], other, *value[index + 1 :]]


@pytest.mark.parametrize("kind", _SPECS)
def test_questions_are_answered_whatever_form_an_object_has(kind: str) -> None:
    specs = {k: spec for k, spec in _SPECS.items() if k != kind}
    for spec in _spoiled(_SPECS[kind]):
        state, reader = State("c"), Reader()
        for of, obj in _PLAIN.items():
            state.put(reader.read(of, obj))
        for of, one in [*specs.items(), (kind, spec)]:
            metadata = {"name": "one", "namespace": "shop"}
            state.put(reader.read(of, {"apiVersion": "v1", "metadata": metadata, "spec": one}))
        for host in ("web", "web.com"):
            told = paths.explain(state, source="shop/web", host=host, namespace="shop", port=80)
            assert "missing" in told, spec
        report = compliance.to_json([compliance.report(state, findings=())])
        assert [w["name"] for w in report["clusters"][0]["workloads"]] == ["web"], spec
        assert isinstance(vetting.notes(state, findings_of(state)), list)
