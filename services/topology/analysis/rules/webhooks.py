"""Istio's injection webhooks: which pods one selects, and pods that two of them would inject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.known import is_istio_webhook, revisions
from services.topology.cluster import kinds
from services.topology.cluster.forms import labels, part, parts, text
from services.topology.cluster.objects import Config, Labels
from services.topology.cluster.state import matches
from services.topology.mesh.membership import INJECT, INJECTION, REVISION


def is_istio(name: str) -> bool:
    """Whether a webhook's name says that it is Istio's."""
    return name.endswith("istio.io")


def selects(holder: Mapping[str, Any], field: str, of: Labels) -> bool:
    """Whether a label selector of Kubernetes, such as a webhook's, fits labels; an absent one fits
    all."""
    selector = part(holder, field)
    if not matches(labels(selector, "matchLabels"), of):
        return False
    return all(_fulfils(condition, of) for _, condition in parts(selector, "matchExpressions"))


def _fulfils(condition: Mapping[str, Any], of: Labels) -> bool:
    value = of.get(text(condition, "key"))
    values = condition.get("values") or ()
    match text(condition, "operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


def _check(lens: Lens, config: Config) -> Iterator[Finding]:
    if not is_istio_webhook(config):
        return
    relevant = [other for other in lens.all(kinds.WEBHOOK) if is_istio_webhook(other)]
    everywhere = [
        (f"{other.name}/{text(webhook, 'name')}", webhook)
        for other in relevant
        for _, webhook in parts(other.spec, "webhooks")
    ]
    pods = _pods({revision for other in relevant for revision in revisions(other)})
    for index, webhook in parts(config.spec, "webhooks"):
        name = f"{config.name}/{text(webhook, 'name')}"
        path = f"webhooks[{index}]"
        rivals = _rivals(name, everywhere, pods)
        if rivals:
            message = f"It selects pods that these select, too: {', '.join(rivals)}."
            yield tell("IST0139", config.key, message, path)


def _rivals(
    name: str, everywhere: list[tuple[str, Mapping[str, Any]]], pods: list[tuple[Labels, Labels]]
) -> list[str]:
    """Other webhooks that select one of the pods that this one selects."""
    found: set[str] = set()
    for namespace_labels, pod_labels in pods:
        selecting = {
            other
            for other, webhook in everywhere
            if selects(webhook, "namespaceSelector", namespace_labels)
            and selects(webhook, "objectSelector", pod_labels)
        }
        if name in selecting:
            found |= selecting
    return sorted(found - {name})


def _pods(known: Iterable[str]) -> list[tuple[Labels, Labels]]:
    """Labels of namespaces and pods that stand for all that a webhook may meet."""
    named: list[Labels] = [{}, *({REVISION: revision} for revision in sorted(known))]
    injection: list[Labels] = [{}, {INJECTION: "enabled"}, {INJECTION: "disabled"}]
    inject: list[Labels] = [{}, {INJECT: "true"}, {INJECT: "false"}]
    namespaces = [{**one, **other} for one, other in product(injection, named)]
    pods = [{**one, **other} for one, other in product(inject, named)]
    return list(product(namespaces, pods))


RULES = (Rule(finds=("IST0139",), kinds=(kinds.WEBHOOK,), check=_check),)
