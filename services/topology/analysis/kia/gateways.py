"""KIA0301, KIA0302: Istio's Gateways."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.selections import selects_anywhere
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config
from services.topology.mesh.security import selector_of

SEVERAL = Entry(
    code="KIA0301",
    name="gateways.multimatch",
    level=Level.WARNING,
    cause="Two Gateways open the same port for the same host at the same proxies, and which of "
    "them answers is not said.",
    remedy="Merge them, or remove the host from one.",
)
NO_PROXY = Entry(
    code="KIA0302",
    name="gateways.selector",
    level=Level.WARNING,
    cause="No workload has the labels of the selector, so no proxy reads the Gateway.",
    remedy="Correct the selector, or install the gateway that it is meant for.",
)


def _doors(gateway: Config) -> list[tuple[str, int, str, str]]:
    """Path, port, namespace part and host of each host of each server."""
    found = []
    for index, server in enumerate(gateway.spec.get("servers") or ()):
        port = (server.get("port") or {}).get("number")
        for at, host in enumerate(tags.texts(server, "hosts")):
            space, slash, name = host.rpartition("/")
            scope = gateway.namespace if space == "." else space if slash else "*"
            found.append((f"spec.servers[{index}].hosts[{at}]", int(port or 0), scope, name))
    return found


def _is_same_scope(one: str, other: str) -> bool:
    return one == other or "*" in (one, other)


def _shared(one: Config, other: Config) -> Iterator[tuple[str, str, int]]:
    """Path and host in `one`, and port, of what both open."""
    theirs = _doors(other)
    for path, port, scope, host in _doors(one):
        for _, their_port, their_scope, their_host in theirs:
            is_port = port == their_port and _is_same_scope(scope, their_scope)
            if is_port and hosts.overlap(host, their_host):
                yield path, host, port
                break


def several(lens: Lens, gateway: Config) -> Iterator[Finding]:
    selector = selector_of(gateway)

    def clashes(other: Config) -> bool:
        return selector_of(other) == selector and any(True for _ in _shared(gateway, other))

    for other in lens.peers(gateway, clashes, None):
        for one, two in ((gateway, other), (other, gateway)):
            for path, host, port in _shared(one, two):
                yield SEVERAL.on(one.key, f"{two.key} opens port {port} for {host} too", path)


def without_proxy(lens: Lens, gateway: Config) -> Iterator[Finding]:
    selector = selector_of(gateway)
    if selector and not selects_anywhere(lens, gateway.namespace, selector):
        told = ", ".join(f"{name}={value}" for name, value in sorted(selector.items()))
        yield NO_PROXY.on(gateway.key, f"no workload has {told}", "spec.selector")


ENTRIES = (SEVERAL, NO_PROXY)
_KINDS = (kinds.GATEWAY,)
RULES = (
    Rule(codes=("KIA0301",), kinds=_KINDS, check=several),
    Rule(codes=("KIA0302",), kinds=_KINDS, check=without_proxy),
)
