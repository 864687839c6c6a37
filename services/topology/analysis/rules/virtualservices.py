"""VirtualServices: the hosts that they share, the Gateways that they stand behind, their routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.topology.analysis.catalog import Rule, tell, those
from services.topology.analysis.findings import Finding, listed
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import known
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.forms import labels, mappings, number, part, parts, text, texts
from services.topology.cluster.objects import Config
from services.topology.cluster.state import matches
from services.topology.mesh.registry import destination, scopes_of

# --- hosts of several VirtualServices -------------------------------------------------------------


def _shared_hosts(lens: Lens, config: Config) -> Iterator[Finding]:
    """istioctl looks at those of the mesh's own gateway, by scopes and wildcards; Kiali at those of
    every gateway, for just the same host: a narrower one beside a wildcard is meant to go first."""
    names = hosts.full_names(config.spec, config.namespace)
    for index, name in enumerate(names):
        of_mesh = {other.key for other in _rivals(lens, config, name)}
        if name in names[:index] and _is_of_mesh(config):
            of_mesh.add(config.key)
        bound = {other.key for other in _bound_alike(lens, config, name)}
        if of_mesh | bound:
            found = of_mesh | bound | {config.key}
            several = listed(f"{key.namespace}/{key.name}" for key in found)
            yield tell(
                "host-routed-twice",
                config.key,
                f"The host {name} is routed more than once, by: {several}.",
                f"spec.hosts[{index}]",
                codes=those(IST0109=bool(of_mesh), KIA1106=bool(bound)),
            )


def _bound_alike(lens: Lens, config: Config, name: str) -> Iterator[Config]:
    own, scopes = _bound(config), scopes_of(config)
    for other in lens.tagged(kinds.VIRTUAL_SERVICE, tags.host(name)):
        if other.key == config.key or not own & _bound(other):
            continue
        theirs = scopes_of(other)
        if hosts.EVERYWHERE in scopes | theirs or scopes & theirs:
            yield other


def _bound(config: Config) -> frozenset[str]:
    return frozenset(
        name if name == hosts.MESH else "/".join(hosts.gateway_place(name, config.namespace))
        for name in hosts.gateways_of(config.spec)
    )


def _rivals(lens: Lens, config: Config, name: str) -> Iterator[Config]:
    """The other VirtualServices that a sidecar could use for the host instead.

    Two that are exported to everybody are rivals for the same host only; a wildcard and a host
    under it are told apart by Envoy. istioctl is stricter as soon as one has a scope of its own.
    """
    if not _is_of_mesh(config):
        return
    own = scopes_of(config)
    for other in _candidates(lens, name, is_wide=hosts.EVERYWHERE in own):
        if other.key == config.key or not _is_of_mesh(other):
            continue
        scopes = scopes_of(other)
        both_wide = hosts.EVERYWHERE in own and hosts.EVERYWHERE in scopes
        one_wide = hosts.EVERYWHERE in own or hosts.EVERYWHERE in scopes
        theirs = hosts.full_names(other.spec, other.namespace)
        if both_wide or not one_wide:
            if own & scopes and name in theirs:
                yield other
        elif any(hosts.overlap(name, host) for host in theirs):
            yield other


def _candidates(lens: Lens, name: str, *, is_wide: bool) -> Iterator[Config]:
    """All that may have the host or a wildcard over it, and some that do not."""
    if name.startswith("*") and not is_wide:
        yield from lens.all(kinds.VIRTUAL_SERVICE)
        return
    yield from lens.tagged(kinds.VIRTUAL_SERVICE, tags.host(name))
    yield from lens.tagged(kinds.VIRTUAL_SERVICE, tags.SCOPED if is_wide else tags.WILDCARD)


def _is_of_mesh(config: Config) -> bool:
    return hosts.MESH in hosts.gateways_of(config.spec)


# --- gateways -------------------------------------------------------------------------------------


def _gateways(lens: Lens, config: Config) -> Iterator[Finding]:
    for index, reference in enumerate(texts(config.spec, "gateways")):
        if known.INTERNAL in reference:
            message = f"Gateway {reference} is made by istiod and not to be named."
            yield tell("IST0165", config.key, message, f"spec.gateways[{index}]")
    for path, reference in known.gateway_references(config):
        gateway = lens.get(kinds.GATEWAY, *hosts.gateway_place(reference, config.namespace))
        if gateway is None:
            continue
        is_top = path.startswith("spec.gateways")
        if hosts.is_gateway_host(reference):
            message = f"Gateway {reference} is named as a host."
            yield tell("KIA1108", config.key, message, path)
        if is_top and not _serves(gateway, config):
            wanted = ", ".join(texts(config.spec, "hosts"))
            message = f"Gateway {gateway.namespace}/{gateway.name} serves none of: {wanted}."
            yield tell("IST0132", config.key, message, path)


def _serves(gateway: Config, config: Config) -> bool:
    """Whether the gateway serves one of a VirtualService's hosts to its namespace."""
    for written in tags.gateway_hosts(gateway.spec):
        namespace, slash, host = written.partition("/")
        if not slash:
            namespace, host = "*", written
        elif namespace == ".":
            namespace = gateway.namespace
        if namespace in ("*", config.namespace) and any(
            hosts.overlap(host, wanted) for wanted in texts(config.spec, "hosts")
        ):
            return True
    return False


# --- routes ---------------------------------------------------------------------------------------


def _ports(lens: Lens, config: Config) -> Iterator[Finding]:
    export_to = texts(config.spec, "exportTo")
    for path, target, _ in hosts.destinations_of(config.spec):
        if isinstance(target.get("port"), dict):
            continue
        host = text(target, "host")
        found = destination(lens, host, config.namespace, export_to=export_to)
        if found is not None and len(found.ports) > 1:
            ports = ", ".join(str(port) for port in sorted(found.ports))
            message = f"Host {host} has the ports {ports}; name one of them."
            yield tell("IST0112", config.key, message, path)


def _splits(_: Lens, config: Config) -> Iterator[Finding]:
    for path, _protocol, route in hosts.routes_of(config.spec):
        splits = mappings(route.get("route"))
        if len(splits) == 1 and 0 < number(splits[0], "weight") < 100:
            message = (
                f"The only destination has weight {splits[0]['weight']} and gets all requests."
            )
            yield tell("KIA1104", config.key, message, f"{path}.route[0].weight")
        before: set[tuple[str, str, object]] = set()
        for index, split in enumerate(splits):
            to = part(split, "destination")
            host, subset = text(to, "host"), text(to, "subset")
            same = (hosts.expanded(host, config.namespace), subset, part(to, "port").get("number"))
            if same in before:
                what = f"host {host}, subset {subset}," if subset else f"host {host}"
                message = f"The {what} is in this route already."
                yield tell("KIA1105", config.key, message, f"{path}.route[{index}]")
            before.add(same)


# --- claims of tokens -----------------------------------------------------------------------------

_CLAIM = "@request.auth.claims"


def _claims(lens: Lens, config: Config) -> Iterator[Finding]:
    path, claim = _claim_of(config.spec)
    if not claim:
        return
    for reference in texts(config.spec, "gateways"):
        place = hosts.gateway_place(reference, config.namespace)
        gateway = lens.get(kinds.GATEWAY, *place) if reference != hosts.MESH else None
        if gateway is None:
            continue
        unprotected = [
            str(pod.key)
            for pod in lens.pods(None, labels(gateway.spec, "selector"))
            if not _authenticates(lens, pod)
        ]
        if unprotected:
            message = (
                f"Routes match on the claim {claim}, but no RequestAuthentication selects "
                f"{min(unprotected)} of gateway {'/'.join(place)}."
            )
            yield tell("IST0149", config.key, message, path)


def _authenticates(lens: Lens, pod: Any) -> bool:
    return any(
        matches(labels(policy.spec, "selector", "matchLabels"), pod.labels)
        for namespace in (lens.mesh().root_namespace, pod.namespace)
        for policy in lens.all(kinds.REQUEST_AUTHENTICATION, namespace)
    )


def _claim_of(spec: Any) -> tuple[str, str]:
    """Path and name of the first header match that is about a claim; two "" without any."""
    for index, route in parts(spec, "http"):
        for place, match in parts(route, "match"):
            for field in ("headers", "withoutHeaders"):
                for name in part(match, field):
                    if _is_claim(name):
                        return f"spec.http[{index}].match[{place}].{field}", name
    return "", ""


def _is_claim(header: str) -> bool:
    """`@request.auth.claims.sub` or `@request.auth.claims[sub][name]`."""
    if not header.lower().startswith(_CLAIM):
        return False
    rest = header[len(_CLAIM) :]
    if rest.startswith("."):
        return len(rest) > 1
    return rest.startswith("[") and rest.endswith("]") and len(rest) > 2


_OWN = (kinds.VIRTUAL_SERVICE,)
RULES = (
    Rule(finds=("host-routed-twice",), kinds=_OWN, check=_shared_hosts),
    Rule(finds=("IST0132", "IST0165", "KIA1108"), kinds=_OWN, check=_gateways),
    Rule(finds=("IST0112",), kinds=_OWN, check=_ports),
    Rule(finds=("KIA1104", "KIA1105"), kinds=_OWN, check=_splits),
    Rule(finds=("IST0149",), kinds=_OWN, check=_claims),
)
