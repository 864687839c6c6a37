"""The body of `istio-rollout`, what its gate makes of topology's answers, and what is moved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from services.chassis.errors import (
    MeshbusError,
    OptionsMalformed,
    RequestTooLarge,
    TelemetryUnavailable,
)
from services.lifecycle.mesh.requests import parse_request
from services.lifecycle.rollouts.deciding import judged_namespaces
from services.lifecycle.rollouts.gates import Gates, error_ratio, p99_of
from services.lifecycle.rollouts.moving import FORMER, Mover, Origin, _is_meshed, selects
from services.lifecycle.rollouts.options import GateOptions, parse_rollout
from services.lifecycle.rollouts.records import MOST_CLUSTERS, RolloutPart, RolloutRecord
from services.lifecycle.rollouts.steps import _require_room


def body(spec: object, *others: Mapping[str, Any]) -> str:
    document = {"apiVersion": "meshbus.io/v1", "kind": "RolloutOptions", "spec": spec}
    return "\n---\n".join(json.dumps(one) for one in (document, *others))


def lifecycle(**spec: object) -> dict[str, Any]:
    return {"apiVersion": "meshbus.io/v1", "kind": "LifecycleOptions", "spec": spec}


def test_a_body_has_defaults() -> None:
    request = parse_rollout(body({"version": "1.31.0"}))
    assert request.version == "1.31.0"
    assert request.mesh.revision == "1-31-0"
    assert request.options.remove_old == "afterWave"
    assert request.mesh.tags is None


def test_the_new_revision_is_told_as_for_an_install() -> None:
    overlay = {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "spec": {"meshConfig": {"accessLogFile": "/dev/stdout"}},
    }
    text = body({}, overlay, lifecycle(profile="minimal", revision="next", force=True))
    request = parse_rollout(text, version="1.31.0")
    assert (request.mesh.revision, request.mesh.profile) == ("next", "minimal")
    assert request.mesh.overlay == {"meshConfig": {"accessLogFile": "/dev/stdout"}}
    assert request.mesh.force
    old = request.old("1-30-3")
    assert (old.revision, old.force, old.overlay) == ("1-30-3", False, {})
    # The operation `istio` takes such a body for what its own documents say.
    assert parse_request(text).revision == "next"


@pytest.mark.parametrize(
    ("text", "version", "words"),
    [
        ("", "1.31.0", "holds no RolloutOptions"),
        (body({}), "", "one exact version"),
        (body({"version": "1.31.0"}), "1.30.3", "one exact version"),
        (body({"version": "newest"}), "", "one exact version"),
        (body({"version": "1.31.0", "wave": []}), "", "spec.wave"),
        (body({"version": "1.31.0", "waves": [{"clusters": 0}]}), "", "spec.waves.0.clusters"),
        (body({"version": "1.31.0", "waves": [{"clusters": 1, "share": 1}]}), "", "exclude"),
        (body({"version": "1.31.0", "waves": [{}] * 51}), "", "spec.waves"),
        (body({"version": "1.31.0", "gate": {"errorRatio": 2}}), "", "spec.gate.errorRatio"),
        (body({"version": "1.31.0", "gate": {"onSilence": "x"}}), "", "spec.gate.onSilence"),
        (body({"version": "1.31.0", "removeOld": "never"}), "", "spec.removeOld"),
        (body({"version": "1.31.0", "gate": {"performance": {}}}), "", "performance.test"),
        (body({"version": "1.31.0"}, lifecycle(tags=["prod"])), "", "tags and purge"),
        (body({"version": "1.31.0"}, lifecycle(revision="default")), "", "name of its own"),
        (body([]), "1.31.0", "RolloutOptions"),
    ],
)
def test_what_is_wrong_with_a_body_is_told(text: str, version: str, words: str) -> None:
    with pytest.raises(OptionsMalformed) as refused:
        parse_rollout(text, version=version)
    assert words in str(refused.value)


def test_a_manifest_is_what_stands_beside_the_options() -> None:
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }
    request = parse_rollout(body({"what": "manifest"}, policy))
    assert list(request.objects) == [policy]
    assert request.title == "1 object"
    with pytest.raises(MeshbusError):
        parse_rollout(body({"what": "manifest"}))


# --- the gate ------------------------------------------------------------------------------------

_PART = RolloutPart(cluster="c", name="c", namespaces=["shop", "pay"])


class Topology:
    """Answers as topology gives them."""

    def __init__(self, *, errors: Any = None, p99: Any = None, proxies: Any = ()) -> None:
        self.errors, self.p99, self.proxies = errors, p99, proxies

    async def ask(self, verb: str, question: Mapping[str, Any]) -> Any:
        if verb == "proxies":
            if isinstance(self.proxies, MeshbusError):
                raise self.proxies
            return {"proxies": list(self.proxies)}
        value = self.p99 if question["query"].startswith("histogram_quantile") else self.errors
        if isinstance(value, MeshbusError):
            raise value
        result = [] if value is None else [{"metric": {}, "value": [0, value]}]
        return {"resultType": "vector", "result": result}


def proxy(standing: str = "synced", version: str = "1.31.0") -> dict[str, str]:
    named = {"namespace": "shop", "pod": "web-1"}
    return {**named, "standing": standing, "istiodVersion": version}


_ALL = {"errorRatio": 0.01, "p99Ms": 100.0, "proxiesInSync": 1.0}
_SILENT = TelemetryUnavailable("no Prometheus is known of cluster c")


@pytest.mark.parametrize(
    ("gate", "topology", "words"),
    [
        (_ALL, Topology(errors="0.001", p99="20", proxies=[proxy()]), ""),
        (_ALL, Topology(errors="0.07", p99="20"), "7.00% of requests fail, 1.00% may"),
        (_ALL, Topology(errors="0", p99="250.4"), "p99 is 250 ms, 100 ms is allowed"),
        (_ALL, Topology(errors="0", p99="1", proxies=[proxy("stale")]), "1 of 1 proxies"),
        (_ALL, Topology(errors="0", p99="1", proxies=[proxy(version="1.30.3")]), "1 of 1 proxies"),
        (_ALL, Topology(errors="NaN", p99="1"), "no requests to judge by"),
        (_ALL, Topology(errors="0", p99=None), "no response times"),
        (_ALL, Topology(errors=_SILENT), "no telemetry: no Prometheus"),
        (_ALL, Topology(errors="0", p99="1", proxies=[proxy("unknown")]), "nobody tells"),
        (_ALL, Topology(errors="0", p99="1", proxies=_SILENT), "proxies: no Prometheus"),
        ({**_ALL, "onSilence": "pass"}, Topology(errors=_SILENT, proxies=_SILENT), ""),
        ({}, Topology(errors=_SILENT, proxies=_SILENT), ""),
        ({}, Topology(errors="0.04"), ""),
        ({}, Topology(errors="0.06"), "6.00% of requests fail"),
        ({}, Topology(proxies=[proxy("rejected"), proxy()]), "1 of 2 proxies"),
        ({"onSilence": "stop"}, Topology(), "no requests"),
        ({"proxiesInSync": 0.5}, Topology(errors="1", proxies=[proxy("lost"), proxy()]), ""),
    ],
)
async def test_a_gate_holds_or_says_why_not(
    gate: dict[str, Any], topology: Topology, words: str
) -> None:
    limits = GateOptions.model_validate(gate, strict=True)
    verdict = await Gates(topology.ask).judge(limits, [_PART], "1.31.0")
    if words:
        assert words in verdict.broken["c"]
    else:
        assert verdict.broken == {}


async def test_a_cluster_in_which_nothing_moved_holds() -> None:
    limits = GateOptions.model_validate(_ALL, strict=True)
    part = RolloutPart(cluster="c")
    verdict = await Gates(Topology(errors="1").ask).judge(limits, [part], "1.31.0")
    assert verdict.broken == {}


def test_queries_are_about_the_moved_namespaces() -> None:
    for query in (error_ratio(["shop", "pay"], "[60s]"), p99_of(["shop", "pay"], "[60s]")):
        assert 'destination_service_namespace=~"shop|pay"' in query
    many = judged_namespaces([f"namespace-{number}" for number in range(100)])
    assert 'destination_service_namespace=~".*"' in error_ratio(many, "[60s]")


# --- what fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "waves", "words"),
    [
        (MOST_CLUSTERS, [], ""),
        (MOST_CLUSTERS + 1, [], "500 may be"),
        (2, [{"names": ["n" * 200] * 1000}] * 2, "RolloutOptions take"),
    ],
)
def test_a_rollout_that_does_not_fit_is_refused(count: int, waves: list[Any], words: str) -> None:
    parts = {f"c{number}": RolloutPart(cluster=f"c{number}") for number in range(count)}
    record = RolloutRecord(rollout="r", parts=parts, options={"waves": waves})
    if not words:
        _require_room(record)
        return
    with pytest.raises(RequestTooLarge, match=words):
        _require_room(record)


@pytest.mark.parametrize(
    ("note", "revision", "has"),
    [
        (None, "new", False),
        ({"istio.io/rev": "prod", "rollout": "r"}, "new", True),
        ({"istio.io/rev": "prod", "rollout": "r"}, "prod", True),
        ({"istio.io/rev": "prod", "rollout": "another"}, "new", False),
        # Of an earlier version, which did not say whose it was.
        ({"istio.io/rev": "prod"}, "new", True),
        ({"istio.io/rev": "prod"}, "old", False),
    ],
)
def test_a_note_counts_for_the_rollout_that_made_it(
    note: dict[str, str] | None, revision: str, has: bool
) -> None:
    annotations = {} if note is None else {FORMER: json.dumps(note)}
    metadata = {"name": "shop", "labels": {"istio.io/rev": revision}, "annotations": annotations}
    nobody: Any = None
    mover = Mover(
        work=nobody,
        restarter=nobody,
        rollout="r",
        labels={"istio.io/rev": "new", "istio-injection": None},
        goal="revision new",
        namespaces_at_once=1,
    )
    assert mover.has_moved({"metadata": metadata}) is has


# --- what moves ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "revision", "tags", "has"),
    [
        ({"istio.io/rev": "old"}, "old", [], True),
        ({"istio.io/rev": "prod"}, "old", ["prod"], True),
        ({"istio.io/rev": "prod"}, "old", [], False),
        ({"istio-injection": "enabled"}, "old", ["prod"], False),
        ({"istio-injection": "enabled"}, "old", ["default"], True),
        ({"istio-injection": "enabled"}, "default", [], True),
        ({"istio-injection": "disabled", "istio.io/rev": "old"}, "old", [], False),
        ({}, "default", ["default"], False),
    ],
)
def test_a_namespace_belongs_to_a_revision(
    labels: dict[str, str], revision: str, tags: list[str], has: bool
) -> None:
    assert Origin(revision, tags).has(labels) is has


@pytest.mark.parametrize(
    ("selector", "is_about"),
    [
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "2"}}, False),
        ({}, True),
        (None, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
    ],
)
def test_a_budget_is_about_pods(selector: Any, is_about: bool) -> None:
    assert selects({"spec": {"selector": selector}}, {"app": "web"}) is is_about


@pytest.mark.parametrize(
    ("template", "labels", "meshed"),
    [
        ({}, {}, True),
        ({"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}, {}, False),
        ({"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}, {}, False),
        ({"spec": {"hostNetwork": True}}, {}, False),
        ({}, {"operator.istio.io/component": "Pilot"}, False),
    ],
)
def test_what_has_no_sidecar_is_not_restarted(
    template: dict[str, Any], labels: dict[str, str], meshed: bool
) -> None:
    workload = {"metadata": {"labels": labels}, "spec": {"template": template}}
    assert _is_meshed(workload) is meshed
