"""Tags: keys by which objects are looked up besides their names (`app=reviews`).

Rules ask for "pods with these labels" and "objects about this host" thousands of times. `State`
keeps these sets, and a lens marks the tag that it asked for, so that a change evaluates again only
what asked for a tag of the changed object. A tag holds a `=`, which no object's name does.

Rejected: scanning a kind. With a thousand VirtualServices each change of one would look a million
times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from services.topology.cluster import hosts, kinds
from services.topology.cluster.forms import texts
from services.topology.cluster.objects import Config, Labels, Pod, Service

WILDCARD = "wildcard="
"""Has a host that begins with `*`."""
SCOPED = "scoped="
"""Is not exported to all namespaces."""
NO_SELECTOR = "="
"""Of a Service."""

WHOLE = "whole="
"""Of a policy: means a whole namespace."""
ATTACHED = "attached="
"""Of a policy: is attached to objects by `targetRefs`."""


def label(name: str, value: str) -> str:
    """Of a pod: one of its labels. Of a Service or a policy: see `of_selector`."""
    return f"{name}={value}"


def host(name: str) -> str:
    """Of a VirtualService or ServiceEntry: a host by its full name; of a Gateway as written."""
    return f"host={name}"


def rule_host(name: str, namespace: str) -> str:
    """Of a DestinationRule: the host that it is about, as seen from `namespace`."""
    return host(hosts.expanded(name, namespace))


def of_selector(selector: Labels) -> Iterable[str]:
    """One label stands for the whole selector: pods that it selects have this one too."""
    return (label(*min(selector.items())) if selector else NO_SELECTOR,)


def of(kind: str, obj: Any) -> frozenset[str]:
    """The tags of a record."""
    reader = _READERS.get(kind)
    if reader is None or obj is None:
        return frozenset()
    try:
        return frozenset(reader(obj))
    except (TypeError, AttributeError, ValueError):
        # A definition without a schema lets anything pass.
        return frozenset()


def gateway_hosts(spec: Mapping[str, Any]) -> Iterable[str]:
    """All hosts of a Gateway's servers, as written."""
    for server in spec.get("servers") or ():
        if isinstance(server, dict):
            yield from texts(server, "hosts")


def _of_pod(pod: Pod) -> Iterable[str]:
    return (label(name, value) for name, value in pod.labels.items())


def _of_service(service: Service) -> Iterable[str]:
    return of_selector(service.selector)


def _of_hosts(config: Config) -> Iterable[str]:
    """VirtualServices and ServiceEntries."""
    for name in texts(config.spec, "hosts"):
        yield host(hosts.expanded(name, config.namespace))
        if name.startswith("*"):
            yield WILDCARD
    if hosts.EVERYWHERE not in hosts.scopes(texts(config.spec, "exportTo"), config.namespace):
        yield SCOPED


def _of_destination_rule(config: Config) -> Iterable[str]:
    return (rule_host(str(config.spec.get("host") or ""), config.namespace),)


def _of_gateway(config: Config) -> Iterable[str]:
    return (host(name) for name in gateway_hosts(config.spec))


def _of_policy(policy: Config) -> Iterable[str]:
    if policy.spec.get("targetRef") or policy.spec.get("targetRefs"):
        return (ATTACHED,)
    selector = (policy.spec.get("selector") or {}).get("matchLabels")
    return of_selector(selector) if selector else (WHOLE,)


_READERS: dict[str, Callable[[Any], Iterable[str]]] = {
    kinds.POD: _of_pod,
    kinds.SERVICE: _of_service,
    kinds.VIRTUAL_SERVICE: _of_hosts,
    kinds.SERVICE_ENTRY: _of_hosts,
    kinds.DESTINATION_RULE: _of_destination_rule,
    kinds.GATEWAY: _of_gateway,
    kinds.AUTHORIZATION_POLICY: _of_policy,
}
