"""Istio's injection webhooks: pods that two of them would inject, Services that are not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.meshed import INJECT, INJECTION, REVISION
from services.topology.analysis.ist.specs import Spec, labels, part, parts, text
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Labels
from services.topology.cluster.state import matches

INVALID = Entry(
    code="IST0139",
    name="InvalidWebhook",
    level=Level.ERROR,
    cause="A pod would be injected twice, or by a control plane that is not there.",
    remedy="Remove the webhook configuration that a former installation left behind, or change "
    "its selectors.",
)


def is_istio(name: str) -> bool:
    """Whether a webhook's name says that it is Istio's."""
    return name.endswith("istio.io")


def selects(webhook: Spec, field: str, of: Labels) -> bool:
    """Whether a webhook's selector fits labels; an absent one fits all."""
    selector = part(webhook, field)
    if not matches(labels(selector, "matchLabels"), of):
        return False
    return all(_fulfils(condition, of) for _, condition in parts(selector, "matchExpressions"))


def _fulfils(condition: Spec, of: Labels) -> bool:
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
    if not _is_relevant(config):
        return
    relevant = [other for other in lens.all(kinds.WEBHOOK) if _is_relevant(other)]
    everywhere = [
        (f"{other.name}/{text(webhook, 'name')}", webhook)
        for other in relevant
        for _, webhook in parts(other.spec, "webhooks")
    ]
    pods = _pods({revision for other in relevant for revision in _revisions(other)})
    for index, webhook in parts(config.spec, "webhooks"):
        name = f"{config.name}/{text(webhook, 'name')}"
        path = f"webhooks[{index}]"
        rivals = _rivals(name, everywhere, pods)
        if rivals:
            message = f"It selects pods that these select, too: {', '.join(rivals)}."
            yield INVALID.on(config.key, message, path)
        service = part(webhook, "clientConfig", "service")
        if service:
            place = text(service, "namespace"), text(service, "name")
            if lens.service(*place) is None:
                message = f"Service {'/'.join(place)} does not exist."
                yield INVALID.on(config.key, message, f"{path}.clientConfig.service")


def _rivals(
    name: str, everywhere: list[tuple[str, Spec]], pods: list[tuple[Labels, Labels]]
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


def _pods(revisions: Iterable[str]) -> list[tuple[Labels, Labels]]:
    """Labels of namespaces and pods that stand for all that a webhook may meet."""
    named: list[Labels] = [{}, *({REVISION: revision} for revision in sorted(revisions))]
    injection: list[Labels] = [{}, {INJECTION: "enabled"}, {INJECTION: "disabled"}]
    inject: list[Labels] = [{}, {INJECT: "true"}, {INJECT: "false"}]
    namespaces = [{**one, **other} for one, other in product(injection, named)]
    pods = [{**one, **other} for one, other in product(inject, named)]
    return list(product(namespaces, pods))


def _is_relevant(config: Config) -> bool:
    names = (text(webhook, "name") for _, webhook in parts(config.spec, "webhooks"))
    return any(is_istio(name) for name in names) or bool(_revisions(config))


def _revisions(config: Config) -> set[str]:
    """The revisions that its label or its selectors name."""
    found = {config.labels[REVISION]} if REVISION in config.labels else set()
    for _, webhook in parts(config.spec, "webhooks"):
        for field in ("namespaceSelector", "objectSelector"):
            selector = part(webhook, field)
            if REVISION in part(selector, "matchLabels"):
                found.add(text(part(selector, "matchLabels"), REVISION))
            for _, condition in parts(selector, "matchExpressions"):
                if text(condition, "key") == REVISION:
                    found |= {str(value) for value in condition.get("values") or ()}
    return found


ENTRIES = (INVALID,)
RULES = (Rule(codes=("IST0139",), kinds=(kinds.WEBHOOK,), check=_check),)
