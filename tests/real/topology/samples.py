"""A small mesh and a large one as the feed tells them, for tests of what people see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from services.chassis.messages import Event, OperationRecord, OperationState, RequestRecord
from services.chassis.messages.events import Phase
from services.lifecycle.rollouts.records import (
    RolloutPart,
    RolloutRecord,
    Stage,
    WishRecord,
    shown,
)
from services.topology.feed.deltas import (
    DRIFT_PART,
    EDGES,
    FINDINGS_PART,
    INFO_PART,
    NODES,
    Item,
    View,
    part_of,
)

CLUSTER = "c1"
VIRTUAL_SERVICE = "networking.istio.io/VirtualService"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def node(app: str, namespace: str = "shop", *, version: str = "v1", **more: Any) -> Item:
    """A node of the versioned app view."""
    workload = f"{app}-{version}"
    return {
        "id": _sha(f"vapp_{CLUSTER}_{namespace}_{workload}"),
        "nodeType": "app",
        "cluster": CLUSTER,
        "namespace": namespace,
        "app": app,
        "version": version,
        "workload": workload,
        "healthData": None,
        "isInjected": True,
    } | more


def service(name: str, namespace: str = "shop", **more: Any) -> Item:
    return {
        "id": _sha(f"svc_{CLUSTER}_{namespace}_{name}"),
        "nodeType": "service",
        "cluster": CLUSTER,
        "namespace": namespace,
        "service": name,
        "healthData": None,
    } | more


def edge(source: Item, target: Item, *, rate: str = "", errors: str = "", **more: Any) -> Item:
    """An edge with HTTP traffic, when it has a rate."""
    rates = {"http": rate, "httpPercentErr": errors} if rate else None
    traffic = {"protocol": "http", "rates": rates} if rates else None
    found: Item = {
        "id": _sha(f"{source['id']}.{target['id']}.{'http' if rate else ''}"),
        "source": source["id"],
        "target": target["id"],
        **({"traffic": traffic} if traffic else {}),
    }
    return found | more


def info(**more: Any) -> Item:
    return {
        "cluster": CLUSTER,
        "name": "kind-shop",
        "state": "watching",
        "detail": "",
        "telemetry": {"source": "Envoy", "state": "ok", "detail": "", "tried": []},
    } | more


def reference(kind: str, name: str, namespace: str = "shop") -> dict[str, str]:
    """As the graph and the findings tell an object; drifts have the group inside of the kind."""
    group, _, short = kind.rpartition("/")
    return {"group": group, "kind": short, "namespace": namespace, "name": name}


def finding(name: str = "cart", *, code: str = "IST0101", **more: Any) -> Item:
    return {
        "code": code,
        "codes": [code],
        "level": "error",
        "object": reference(VIRTUAL_SERVICE, name),
        "path": "spec.http[0].route[0].destination.host",
        "message": f"the host {name}-missing is not known",
        "cause": "no service and no service entry has this name",
        "remedy": "correct the host, or create the service",
        "since": "2026-05-01T10:00:00Z",
    } | more


def drift(name: str = "cart-v1", **more: Any) -> Item:
    return {
        "id": f"apps/Deployment/shop/{name}",
        "object": {"kind": "apps/Deployment", "namespace": "shop", "name": name},
        "kind": "changed",
        "changes": [{"path": "spec.replicas", "wanted": 3, "found": 1}],
        "more": 0,
        "manager": "kubectl-edit",
        "time": "2026-05-01T10:00:00Z",
        "detected": "2026-05-01T10:00:00.020Z",
        "mode": "report",
        "healing": "",
    } | more


def event(operation: str, phase: Phase, sequence: int = 1, **more: Any) -> Event:
    """An event of an operation on the cluster."""
    fields: dict[str, Any] = {
        "kind": "istio",
        "service": "lifecycle",
        "cluster": CLUSTER,
        "cluster_name": "kind-shop",
        "summary": f"{phase} {sequence}",
    }
    return Event(operation=operation, phase=phase, sequence=sequence, **(fields | more))


def described(operation: str, *, state: str | None = "succeeded", **more: Any) -> Item:
    """A row of `mesh.gateway.operations`: one operation on the cluster."""
    accepted = more.pop("accepted", "2026-05-01T10:00:00Z")
    kind, error = more.pop("kind", "istio"), more.pop("error", None)
    request = RequestRecord(
        operation=operation,
        fingerprint="",
        kind=kind,
        clusters=[CLUSTER],
        cluster_names={CLUSTER: "kind-shop"},
        identity="ann",
        accepted=accepted,
    )
    part = None
    if state is not None:
        record = OperationRecord(
            operation=operation,
            kind=kind,
            cluster=CLUSTER,
            cluster_name="kind-shop",
            state=OperationState(state),
            summary=more.pop("summary", f"{kind} {state}"),
            error=error,
            updated=more.pop("updated", "2026-05-01T10:00:42Z"),
        )
        part = record.model_dump(mode="json")
    return {"request": request.model_dump(mode="json"), "parts": {CLUSTER: part}}


def rollout(operation: str, *clusters: RolloutPart, **more: Any) -> Item:
    """A rollout over clusters, one in each wave, as lifecycle shows it."""
    fields: dict[str, Any] = {
        "title": "Istio 1.31.0",
        "version": "1.31.0",
        "revision": "1-31-0",
        "stage": Stage.GATE,
        "since": datetime(2026, 5, 1, 12, tzinfo=timezone.utc),
        "begun": datetime(2026, 5, 1, 11, tzinfo=timezone.utc),
        "waves": [[part.cluster] for part in clusters],
        "parts": {part.cluster: part for part in clusters},
    }
    return shown(RolloutRecord(rollout=operation, **(fields | more)), WishRecord())


def parts(
    nodes: Iterable[Item],
    edges: Iterable[Item] = (),
    *,
    view: View = View.VERSIONED_APP,
    findings: Iterable[Item] = (),
    drifts: Iterable[Item] = (),
    about: Item | None = None,
) -> dict[str, dict[str, Item | None]]:
    """A delta's parts; those that are empty are left out."""
    found: dict[str, dict[str, Item | None]] = {
        part_of(view, NODES): {item["id"]: item for item in nodes},
        part_of(view, EDGES): {item["id"]: item for item in edges},
        FINDINGS_PART: {f"{one['code']}/{one['object']['name']}": one for one in findings},
        DRIFT_PART: {one["id"]: one for one in drifts},
        INFO_PART: {"cluster": about} if about else {},
    }
    return {part: items for part, items in found.items() if items}


class Shop:
    """A gateway, a few apps, a service entry; traffic, a finding and a drift."""

    gateway = node("ingress", "istio-system", isGateway={"ingressInfo": {"hostnames": ["shop.io"]}})
    web = node("web", healthData={"status": "Healthy"})
    cart = node(
        "cart",
        healthData={"status": "Degraded"},
        configs=[reference(VIRTUAL_SERVICE, "cart")],
        traffic=[{"protocol": "http", "rates": {"httpIn": "12.50", "httpIn5xx": "0.50"}}],
    )
    cart2 = node("cart", version="v2", isIdle=True)
    pay = node("pay", "money")
    bank = service("bank.example", "money", isServiceEntry={"hosts": ["bank.example"]})
    nodes = (gateway, web, cart, cart2, pay, bank)
    into_web = edge(gateway, web, rate="40.00", isMTLS="100.0", responseTime="12")
    into_cart = edge(web, cart, rate="12.50", errors="4.0", isMTLS="100.0", responseTime="35")
    into_cart2 = edge(
        web,
        cart2,
        config={
            "kind": "VirtualService",
            "namespace": "shop",
            "name": "cart",
            "path": "spec.http[0].route[1]",
            "subset": "v2",
            "weight": 10,
            "share": 10.0,
        },
    )
    into_pay = edge(cart, pay, rate="1.20")
    into_bank = edge(pay, bank)
    edges = (into_web, into_cart, into_cart2, into_pay, into_bank)

    @classmethod
    def parts(cls) -> dict[str, dict[str, Item | None]]:
        return parts(cls.nodes, cls.edges, findings=[finding()], drifts=[drift()], about=info())


def large(nodes: int, edges: int) -> dict[str, dict[str, Item | None]]:
    """A mesh of many namespaces; each app calls some of its own and of the next namespace."""
    apps = [node(f"app-{i}", f"ns-{i // 20}") for i in range(nodes)]
    found = {}
    for i in range(10 * edges):
        step = 1 + i // nodes
        one = edge(apps[i % nodes], apps[(i + step * (1 + i % 7)) % nodes], rate=f"{i % 90 + 1}.00")
        found[one["id"]] = one
        if len(found) == edges:
            break
    return parts(apps, found.values(), about=info())
