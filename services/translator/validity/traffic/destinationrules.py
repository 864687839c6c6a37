"""DestinationRules: their host and subsets, and for whom they hold."""

from __future__ import annotations

from services.translator.istio.objects import namespace_of
from services.translator.validity.names import (
    check_export,
    check_host,
    check_labels,
    check_selector,
    is_label,
)
from services.translator.validity.parts import Part
from services.translator.validity.traffic.policies import check_traffic_policy


def check_destination_rule(obj: Part) -> None:
    """Its host, policies, subsets and reach."""
    spec = obj["spec"]
    check_host(spec["host"])
    check_traffic_policy(spec["trafficPolicy"])
    known: set[str] = set()
    for subset in spec["subsets"]:
        _check_subset(subset, known)
    namespace = namespace_of(obj.value)
    check_export(spec, namespace=namespace)
    check_selector(spec["workloadSelector"])
    places = [entry.text for entry in spec["exportTo"]]
    if spec["workloadSelector"] and any(place not in (".", namespace) for place in places):
        spec["exportTo"].tell("export-with-selector")


def _check_subset(subset: Part, known: set[str]) -> None:
    name = subset["name"]
    if not name.text:
        name.tell("subset-unnamed")
    elif not is_label(name.text):
        name.tell("subset-malformed", name=name.text)
    elif name.text in known:
        name.tell("subset-twice", name=name.text)
    known.add(name.text)
    check_labels(subset["labels"])
    check_traffic_policy(subset["trafficPolicy"])
