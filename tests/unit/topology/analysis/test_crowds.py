"""Many objects that get in each other's way: what is told grows with their number, no faster."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from services.topology.analysis.engine import Analysis
from services.topology.analysis.findings import listed
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State

_CROWD = 60
_SPECS: dict[str, dict[str, Any]] = {
    kinds.VIRTUAL_SERVICE: {
        "hosts": ["web"],
        "http": [{"route": [{"destination": {"host": "web"}}]}],
    },
    kinds.DESTINATION_RULE: {"host": "web", "subsets": [{"name": "v1", "labels": {"a": "b"}}]},
    kinds.GATEWAY: {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"hosts": ["a.com"], "port": {"number": 80, "name": "http"}}],
    },
    kinds.SERVICE_ENTRY: {"hosts": ["a.com"], "ports": [{"number": 80, "name": "http"}]},
    kinds.PEER_AUTHENTICATION: {"mtls": {"mode": "STRICT"}},
    kinds.SIDECAR: {"egress": [{"hosts": ["./*"]}]},
    kinds.TELEMETRY: {"tracing": []},
    kinds.K8S_GATEWAY: {
        "addresses": [{"type": "IPAddress", "value": "1.2.3.4"}],
        "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}],
    },
}


@pytest.mark.parametrize("kind", _SPECS)
def test_a_crowd_of_equal_objects_is_told_of_each_a_few_times(kind: str) -> None:
    state, reader = State("c"), Reader()
    analysis = Analysis(state, RULES)
    for number in range(_CROWD):
        found = {
            "apiVersion": "v1",
            "metadata": {"name": f"one-{number}", "namespace": "shop"},
            "spec": _SPECS[kind],
        }
        change = state.put(reader.read(kind, found))
        assert change is not None
        analysis.touch([change])
    while analysis.is_due:
        analysis.evaluate()
    told = Counter((finding.code, finding.object) for finding in analysis.findings)
    # A rule may find a pair from both of its sides.
    assert max(told.values()) <= 2 * 10
    assert max(len(finding.message) for finding in analysis.findings) < 500
    # Nobody is left out: where one of them has a finding, all have it.
    for code in {code for code, _ in told}:
        assert len({obj for of, obj in told if of == code}) == _CROWD, code


def test_names_are_listed_as_far_as_anybody_reads() -> None:
    assert listed(["b", "a"]) == "a, b"
    assert listed(f"n{number}" for number in range(10)).endswith("n8, n9")
    assert listed(f"n{number}" for number in range(90)).endswith("n17, and more")
