"""The operation `istio-ambient` on a simulated cluster: what it labels, makes, refuses, and undoes.

Pods are simulated, so nothing is captured. A real istiod makes the waypoints.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.chassis.messages import Phase
from tests.testbed import building
from tests.testbed.bodies import no_pods_quota, options
from tests.testbed.fleets import (
    LABELLED,
    PLAIN,
    MeshlessWebhooks,
    deployment,
    fleet,
    populate,
    restarts,
)
from tests.testbed.istiods import Istiod
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.stored import stored_events
from tests.testbed.waiting import eventually

_WITHIN_S = 120.0
_AMBIENT = {"PILOT_ENABLE_AMBIENT": "true"}
_MODE = "istio.io/dataplane-mode"
_USE = "istio.io/use-waypoint"
_PATHS = [{"to": [{"operation": {"paths": ["/pay"]}}]}]
_GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces"


@dataclass(slots=True)
class Place:
    stack: Stack
    cluster: MeshlessWebhooks
    meshery: Meshery

    async def run(self, **spec: Any) -> Any:
        """The last event of an operation."""
        spec = {"readinessTimeoutSeconds": 60, **spec}
        body = {"apiVersion": "meshbus.io/v1", "kind": "AmbientOptions", "spec": spec}
        operation = await self.meshery.apply("istio-ambient", body=json.dumps(body))
        [end] = await self.meshery.finals(operation, within_s=_WITHIN_S)
        return end

    async def done(self, **spec: Any) -> Any:
        end = await self.run(**spec)
        assert not end.failed, end.event
        return end.event

    async def stands(self) -> dict[str, Any]:
        """What is in ambient, as lifecycle tells."""
        question = json.dumps({"cluster": self.cluster.token})
        text = await asyncio.to_thread(
            self.stack.nats_cli, "req", "--raw", "mesh.lifecycle.ambient", question
        )
        answer: dict[str, Any] = json.loads(text)
        return answer

    def labels(self, namespace: str) -> dict[str, str]:
        found = self.cluster.api.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]
        return {k: v for k, v in (found.get("labels") or {}).items() if "istio" in k}

    def template(self, namespace: str, name: str = "web") -> dict[str, str]:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        found: dict[str, str] = self.cluster.api.request("GET", path)["spec"]["template"][
            "metadata"
        ]["labels"]
        return {k: v for k, v in found.items() if "istio" in k}

    def service(self, namespace: str, name: str = "web") -> dict[str, str]:
        path = f"/api/v1/namespaces/{namespace}/services/{name}"
        found = self.cluster.api.request("GET", path)["metadata"]
        return {k: v for k, v in (found.get("labels") or {}).items() if "istio" in k}

    def waypoints(self, namespace: str) -> dict[str, dict[str, Any]]:
        found = self.cluster.api.request("GET", f"{_GATEWAYS}/{namespace}/gateways")["items"]
        return {one["metadata"]["name"]: one for one in found}


@pytest.fixture(scope="module")
async def place(built: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("ambient")
    services = ("lifecycle", "translator", "gateway")
    with (
        fleet(folder / "clusters", 1) as [cluster],
        Stack(folder / "stack", services=services, settings={"MESHBUS_ACK_WAIT": "4s"}) as stack,
    ):
        for namespace in (PLAIN, LABELLED):
            port = {"name": "http", "port": 80}
            spec = {"selector": {"app": "web"}, "ports": [port]}
            cluster.api.create_or_keep(
                f"/api/v1/namespaces/{namespace}/services",
                {"metadata": {"name": "web"}, "spec": spec},
            )
        cluster.api.create_or_keep(
            f"/apis/apps/v1/namespaces/{PLAIN}/deployments", deployment("other", replicas=1)
        )
        async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as meshery:
            place = Place(stack, cluster, meshery)
            await _refusals_without(place)
            operation = await meshery.apply(
                "istio", version=ISTIO_VERSION, body=options(profile="ambient")
            )
            [end] = await meshery.finals(operation, within_s=_WITHIN_S)
            assert not end.failed, end.event
            await _refusals_without_gateways(place)
            crds = str(building.gateway_api_folder())
            cluster.kubectl("apply", "--server-side", "-f", crds)
            cluster.wait_established()
            with Istiod(folder / "istiod", kubeconfig=cluster.kubeconfig, environment=_AMBIENT):
                yield place


async def _refusals_without(place: Place) -> None:
    end = await place.run(namespaces=[PLAIN])
    assert "MB-4030" in str(end.event), end.event
    assert "ztunnel is not there" in str(end.event), end.event


async def _refusals_without_gateways(place: Place) -> None:
    end = await place.run(namespaces=[PLAIN], waypoint={})
    assert "MB-3009" in str(end.event), end.event
    assert place.labels(PLAIN) == {}


async def test_a_namespace_is_enrolled_with_a_waypoint_and_withdrawn(place: Place) -> None:
    event = await place.done(namespaces=[PLAIN], waypoint={"name": "way"})
    assert f"{PLAIN}/way" in event.details
    assert place.labels(PLAIN) == {_MODE: "ambient", _USE: "way"}
    assert restarts(place.cluster, PLAIN) == 0
    await asyncio.to_thread(_as_istioctl_has_it, place, place.waypoints(PLAIN)["way"])
    told = await place.stands()
    assert told["missing"] == []
    [row] = told["namespaces"]
    assert (row["name"], row["enrolled"], row["waypoint"]) == (PLAIN, True, f"{PLAIN}/way")
    [waypoint] = told["waypoints"]
    assert waypoint["programmed"]
    assert waypoint["usedBy"] == {"Namespace": 1}
    again = await place.done(namespaces=[PLAIN], waypoint={"name": "way"})
    assert "0 objects were labelled" in again.details
    await place.done(action="withdraw", namespaces=[PLAIN], waypoint={"name": "way"})
    assert place.labels(PLAIN) == {}
    assert place.waypoints(PLAIN) == {}
    await eventually(
        lambda: _nothing_stands(place), what="nothing to be in ambient", within_s=_WITHIN_S
    )


async def _nothing_stands(place: Place) -> bool:
    told = await place.stands()
    return not any(told[name] for name in ("namespaces", "workloads", "services", "waypoints"))


def _as_istioctl_has_it(place: Place, live: dict[str, Any]) -> None:
    """Holds a waypoint against what `istioctl waypoint generate` writes."""
    command = [
        *(str(building.binary("istioctl")), "waypoint", "generate", "--for", "service"),
        *(f"--name={live['metadata']['name']}", f"--namespace={PLAIN}"),
    ]
    text = subprocess.run(command, text=True, check=True, capture_output=True).stdout
    wanted = yaml.safe_load(text)
    assert wanted["metadata"]["labels"].items() <= live["metadata"]["labels"].items()
    assert wanted["spec"]["gatewayClassName"] == live["spec"]["gatewayClassName"]
    [listener], [own] = wanted["spec"]["listeners"], live["spec"]["listeners"]
    assert listener.items() <= own.items()


async def test_services_and_workloads_are_enrolled_by_their_templates(place: Place) -> None:
    before = restarts(place.cluster, PLAIN)
    target = {"namespace": PLAIN, "name": "web"}
    await place.done(services=[target], waypoint={"name": "way", "bind": "services"})
    assert place.template(PLAIN) == {_MODE: "ambient"}
    assert place.service(PLAIN) == {_USE: "way"}
    assert place.labels(PLAIN) == {}
    assert place.template(PLAIN, "other") == {}
    assert restarts(place.cluster, PLAIN) == before + 1
    await place.done(workloads=[{"namespace": PLAIN, "name": "other"}])
    told = await place.stands()
    assert [(one["name"], one["mode"]) for one in told["workloads"]] == [
        ("other", "ambient"),
        ("web", "ambient"),
    ]
    # The waypoint stays while something uses it.
    end = await place.done(
        action="withdraw",
        workloads=[{"namespace": PLAIN, "name": "other"}],
        waypoint={"name": "way"},
    )
    assert "stays" in end.details
    assert place.template(PLAIN, "other") == {}
    assert "way" in place.waypoints(PLAIN)
    await place.done(action="withdraw", services=[target], waypoint={"name": "way"})
    assert place.template(PLAIN) == {}
    assert place.service(PLAIN) == {}
    assert place.waypoints(PLAIN) == {}


async def test_a_waypoint_takes_anothers_place(place: Place) -> None:
    target = {"namespace": PLAIN, "name": "web"}
    await place.done(namespaces=[PLAIN], services=[target], waypoint={"name": "old"})
    policies = f"/apis/security.istio.io/v1/namespaces/{PLAIN}/authorizationpolicies"
    attached = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "old"}
    place.cluster.api.request(
        "POST",
        policies,
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "paths"},
            "spec": {"targetRefs": [attached], "rules": _PATHS},
        },
    )

    def targets() -> list[str]:
        found = place.cluster.api.request("GET", f"{policies}/paths")["spec"]["targetRefs"]
        return [one["name"] for one in found]

    # One that never comes up changes nothing.
    lost = {"name": "new", "replaces": "old", "revision": "nobody"}
    end = await place.run(
        action="replace", namespaces=[PLAIN], waypoint=lost, readinessTimeoutSeconds=2
    )
    assert "MB-4007" in str(end.event), end.event
    assert (targets(), set(place.waypoints(PLAIN))) == (["old"], {"old"})
    new = {"name": "new", "replaces": "old", "bind": "services"}
    await place.done(action="replace", namespaces=[PLAIN], waypoint=new)
    assert place.labels(PLAIN) == {_MODE: "ambient", _USE: "new"}
    assert place.service(PLAIN) == {_USE: "new"}
    assert targets() == ["new"]
    assert set(place.waypoints(PLAIN)) == {"new"}
    status = place.cluster.api.request("GET", f"/api/v1/namespaces/{PLAIN}/services/web")["status"]
    [bound] = [one for one in status["conditions"] if one["type"] == "istio.io/WaypointBound"]
    assert bound["message"].endswith(f" {PLAIN}/new")
    place.cluster.api.request("DELETE", f"{policies}/paths")
    await place.done(
        action="withdraw", namespaces=[PLAIN], services=[target], waypoint={"name": "new"}
    )
    assert place.waypoints(PLAIN) == {}


async def test_what_cannot_be_is_refused_before_the_first_write(place: Place) -> None:
    for spec, code in (
        ({}, "MB-5004"),
        ({"namespaces": ["nowhere"]}, "MB-3011"),
        ({"namespaces": [LABELLED]}, "MB-4006"),
        ({"namespaces": ["kube-system"]}, "MB-4006"),
        ({"workloads": [{"namespace": PLAIN, "name": "nobody"}]}, "MB-3004"),
    ):
        end = await place.run(**spec)
        assert end.failed, spec
        assert code in str(end.event), end.event
    assert place.labels(PLAIN) == {}


async def test_what_fails_goes_back(place: Place) -> None:
    """A waypoint of a revision that nobody has never comes up."""
    target = {"namespace": PLAIN, "name": "web"}
    end = await place.run(
        namespaces=[PLAIN],
        services=[target],
        waypoint={"name": "lost", "revision": "nobody"},
        readinessTimeoutSeconds=3,
    )
    assert end.failed
    assert "MB-4007" in str(end.event), end.event
    assert "has gone back" in str(end.event), end.event
    assert place.labels(PLAIN) == {}
    assert place.waypoints(PLAIN) == {}


# --- from sidecars --------------------------------------------------------------------------------

_POLICIES = f"/apis/security.istio.io/v1/namespaces/{LABELLED}/authorizationpolicies"
_SIDECARS = {"istio-injection": "enabled"}
_LABELS = {"app": "web"}
_BUDGETS = f"/apis/policy/v1/namespaces/{LABELLED}/poddisruptionbudgets"


@pytest.fixture
def policy(place: Place) -> Iterator[str]:
    """One of requests, that selects by labels."""
    spec = {"selector": {"matchLabels": _LABELS}, "rules": _PATHS}
    place.cluster.api.request(
        "POST",
        _POLICIES,
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "pay"},
            "spec": spec,
        },
    )
    yield "pay"
    place.cluster.api.request("DELETE", f"{_POLICIES}/pay")


def _policies(place: Place) -> dict[str, dict[str, Any]]:
    found = place.cluster.api.request("GET", _POLICIES)["items"]
    return {one["metadata"]["name"]: one["spec"] for one in found}


async def test_a_report_comes_before_a_move_and_changes_nothing(place: Place, policy: str) -> None:
    before = restarts(place.cluster, LABELLED), _policies(place)
    event = await place.done(action="move", namespaces=[LABELLED], dryRun=True)
    assert "1 objects would be lost, 0 would mean something else" in event.details
    told = [one.event.summary for one in place.meshery.of(event.operation_id)]
    assert any(f"AuthorizationPolicy {LABELLED}/{policy} (lost)" in text for text in told), told
    end = await place.run(action="move", namespaces=[LABELLED])
    assert end.failed
    assert "MB-4006" in str(end.event), end.event
    assert place.labels(LABELLED) == _SIDECARS
    assert (restarts(place.cluster, LABELLED), _policies(place)) == before


async def test_a_namespace_moves_with_its_policies_and_comes_back(
    place: Place, policy: str
) -> None:
    before = restarts(place.cluster, LABELLED)
    event = await place.done(
        action="move", namespaces=[LABELLED], waypoint={"name": "way"}, policies="attach"
    )
    assert "1 policies attached" in event.details
    assert place.labels(LABELLED) == {_MODE: "ambient", _USE: "way"}
    assert restarts(place.cluster, LABELLED) == before + 1
    found = _policies(place)
    # A ztunnel would make of it one that denies: it is for the sidecars that are left.
    narrowed = {**_LABELS, "security.istio.io/tlsMode": "istio"}
    assert found.pop(policy)["selector"]["matchLabels"] == narrowed
    [copy] = found.values()
    assert copy["rules"] == _PATHS
    assert [one["name"] for one in copy["targetRefs"]] == ["web"]
    again = await place.done(
        action="move", namespaces=[LABELLED], waypoint={"name": "way"}, policies="attach"
    )
    assert "0 objects were labelled" in again.details, again
    assert restarts(place.cluster, LABELLED) == before + 1
    await place.done(action="back", namespaces=[LABELLED], waypoint={"name": "way"})
    assert place.labels(LABELLED) == _SIDECARS
    assert restarts(place.cluster, LABELLED) == before + 2
    assert {name: spec["selector"]["matchLabels"] for name, spec in _policies(place).items()} == {
        policy: _LABELS
    }
    assert place.waypoints(LABELLED) == {}
    end = await place.run(action="back", namespaces=[LABELLED])
    assert "MB-4019" in str(end.event), end.event


async def test_a_move_that_fails_goes_back(place: Place, policy: str) -> None:
    """No new pod of the workload comes up. The waypoint is somebody else's."""
    quotas = f"/api/v1/namespaces/{LABELLED}/resourcequotas"
    listener = {"name": "mesh", "port": 15008, "protocol": "HBONE"}
    waypoint = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "theirs"},
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": [listener]},
    }
    place.cluster.api.request("POST", f"{_GATEWAYS}/{LABELLED}/gateways", waypoint)

    async def is_programmed() -> bool:
        return any(one["programmed"] for one in (await place.stands())["waypoints"])

    await eventually(is_programmed, what="the waypoint to answer", within_s=_WITHIN_S)
    place.cluster.api.request("POST", quotas, no_pods_quota(LABELLED))
    end = await place.run(
        action="move",
        namespaces=[LABELLED],
        waypoint={"name": "theirs"},
        policies="attach",
        readinessTimeoutSeconds=3,
    )
    place.cluster.api.request("DELETE", f"{quotas}/no-pods")
    assert end.failed
    assert "MB-4007" in str(end.event), end.event
    assert place.labels(LABELLED) == _SIDECARS
    assert {name: spec["selector"]["matchLabels"] for name, spec in _policies(place).items()} == {
        policy: _LABELS
    }
    assert set(place.waypoints(LABELLED)) == {"theirs"}
    place.cluster.api.request("DELETE", f"{_GATEWAYS}/{LABELLED}/gateways/theirs")


async def _held_up(place: Place) -> str:
    """A move whose restarts a budget holds up, until `none` is deleted."""
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": _LABELS}}
    place.cluster.api.request("POST", _BUDGETS, {"metadata": {"name": "none"}, "spec": spec})
    body = {
        "apiVersion": "meshbus.io/v1",
        "kind": "AmbientOptions",
        "spec": {
            "action": "move",
            "namespaces": [LABELLED],
            "waypoint": {"name": "way"},
            "policies": "attach",
        },
    }
    return await place.meshery.apply("istio-ambient", body=json.dumps(body))


async def test_a_move_that_is_cancelled_goes_back(place: Place, policy: str) -> None:
    """Its namespace is labelled by then, and a budget holds up the restarts."""
    before = restarts(place.cluster, LABELLED)
    operation = await _held_up(place)
    await place.meshery.told(operation, "to allow a disruption", within_s=_WITHIN_S)
    assert place.labels(LABELLED)[_MODE] == "ambient"
    asked = {"operation": operation, "cluster": place.cluster.token}
    await asyncio.to_thread(
        place.stack.nats_cli, "req", "--raw", "mesh.lifecycle.cancel", json.dumps(asked)
    )
    await place.meshery.told(operation, "The operation stops: cancelled", within_s=_WITHIN_S)
    place.cluster.api.request("DELETE", f"{_BUDGETS}/none")
    await place.meshery.told(operation, "Cancelled while", within_s=_WITHIN_S)
    end = (await stored_events(place.stack, operation))[-1]
    assert end.phase is Phase.CANCELLED
    assert "has gone back" in end.details
    assert place.labels(LABELLED) == _SIDECARS
    assert place.waypoints(LABELLED) == {}
    assert {name: spec["selector"]["matchLabels"] for name, spec in _policies(place).items()} == {
        policy: _LABELS
    }
    assert restarts(place.cluster, LABELLED) <= before + 2


@pytest.mark.full
async def test_several_clusters_have_a_result_each(place: Place, tmp_path: Path) -> None:
    """They take each step together, and what fails on one takes the others back."""
    with MeshlessWebhooks(tmp_path / "other", name="other") as other:
        populate(other)
        texts = [place.cluster.kubeconfig_text, other.kubeconfig_text]

        async def both(operation: str, body: str) -> dict[str, Any]:
            sent = await place.meshery.apply(
                operation, version=ISTIO_VERSION, body=body, kubeconfigs=texts
            )
            ends = await place.meshery.finals(sent, count=2, within_s=_WITHIN_S)
            told: dict[str, list[Any]] = {name: [] for name in ("fleet-1", "other")}
            for end in ends:
                [name] = [name for name in told if name in end.event.summary]
                told[name].append(end)
            return {name: one for name, [one] in told.items()}

        def body(action: str) -> str:
            spec = {"action": action, "namespaces": [PLAIN]}
            return json.dumps(
                {"apiVersion": "meshbus.io/v1", "kind": "AmbientOptions", "spec": spec}
            )

        ends = await both("istio-ambient", body("enrol"))
        assert ends["other"].event.error_code == "MB-4030", ends["other"].event
        assert ends["fleet-1"].failed, ends["fleet-1"].event
        assert place.labels(PLAIN) == {}
        ends = await both("istio", options(profile="ambient"))
        assert not any(end.failed for end in ends.values()), ends
        for action, mode in (("enrol", "ambient"), ("withdraw", None)):
            ends = await both("istio-ambient", body(action))
            assert not any(end.failed for end in ends.values()), ends
            for cluster in (place.cluster, other):
                found = cluster.api.request("GET", f"/api/v1/namespaces/{PLAIN}")["metadata"]
                assert (found.get("labels") or {}).get(_MODE) == mode


@pytest.mark.full
async def test_a_move_goes_on_when_its_workers_die(place: Place, policy: str) -> None:
    """It waits for a budget, and its worker dies; the next one restarts each workload once."""
    before = restarts(place.cluster, LABELLED)
    operation = await _held_up(place)
    process = place.stack.processes["lifecycle"]
    for words in ("waypoints come up", "to allow a disruption"):
        await place.meshery.told(operation, words, within_s=_WITHIN_S)
        process.kill()
        await asyncio.to_thread(process.start)
    assert restarts(place.cluster, LABELLED) == before
    place.cluster.api.request("DELETE", f"{_BUDGETS}/none")
    [end] = await place.meshery.finals(operation, within_s=_WITHIN_S)
    assert not end.failed, end.event
    assert place.labels(LABELLED) == {_MODE: "ambient", _USE: "way"}
    assert restarts(place.cluster, LABELLED) == before + 1
    assert len(_policies(place)) == 2
    await place.done(action="back", namespaces=[LABELLED], waypoint={"name": "way"})
    assert place.labels(LABELLED) == _SIDECARS
