"""Registered clusters: reached by lifecycle, with which rights, by whose clock, and watched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from deploy.local.doctor.bus import clock
from deploy.local.doctor.checks import Check, fail, ok, warn
from deploy.rights import Tier, tier_rules
from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import ask
from services.chassis.errors import MeshbusError

_WITHIN = timedelta(seconds=75)
_REGISTER = "CLUSTER=~/.kube/config[:context] make up registers one, as does any operation on it"


async def clusters(bus: Bus) -> list[Check]:
    """A line or more for each; one in all where there is none."""
    try:
        answer = await ask(bus, {}, service="gateway", verb="clusters", within=_WITHIN)
    except MeshbusError as error:
        return [fail("clusters", error.summary, error.remedy)]
    listed = answer["clusters"]
    if not listed:
        return [warn("clusters", "none is registered", _REGISTER)]
    states = await _watched(bus)
    checks: list[Check] = []
    for entry in listed:
        checks += await _cluster(bus, entry, state=states.get(entry["cluster"], ""))
    return checks


async def _cluster(bus: Bus, entry: dict[str, Any], *, state: str) -> list[Check]:
    name = f"cluster {entry['name']}"
    question = {"cluster": entry["cluster"], "rules": tier_rules(Tier.FULL)}
    try:
        told = await ask(
            bus,
            question,
            service="lifecycle",
            verb="rights",
            within=_WITHIN,
            region=entry["served_in"],
        )
    except MeshbusError as error:
        return [fail(name, f"{error.code} {error.summary}", error.remedy)]
    checks = [
        ok(name, f"{entry['server']} is reached, Kubernetes {told['version']}"),
        _rights(name, set(told["missing"])),
    ]
    if entry["region"]:
        checks.append(ok(f"{name}: region", _region(entry)))
    if (ahead := told["clock_ahead_s"]) is not None:
        # HTTP tells whole seconds, cut off.
        checks.append(clock(f"{name}: clock", max(0.0, abs(ahead) - 1.0)))
    if state != "watching":
        state = state or "topology does not tell of it"
        remedy = "nats req mesh.topology.clusters says why; topology's log as well"
        checks.append(warn(f"{name}: watch", state, remedy))
    return checks


def _region(entry: dict[str, Any]) -> str:
    if entry["served_in"]:
        return f"workers of {entry['served_in']} serve it"
    return f"the bus knows no workers of {entry['region']}: those of no region serve it"


def _rights(name: str, missing: set[str]) -> Check:
    """The highest tier whose rights are all there."""
    held = [tier for tier in Tier if not missing & _named(tier)]
    label = f"{name}: rights"
    if Tier.FULL in held:
        return ok(label, "all of tier full: Istio can be installed")
    lacking = sorted(missing)
    told = f"lacks {', '.join(lacking[:4])}{', …' if lacking[4:] else ''} ({len(lacking)} rights)"
    remedy = "make kubeconfig CONTEXT=… TIER=full makes an account that has them"
    if held:
        return warn(label, f"those of tier {held[-1]}; {told}", remedy)
    return fail(label, told, remedy)


def _named(tier: Tier) -> set[str]:
    """The rights of a tier as lifecycle names those that are missing."""
    return {
        f"{verb} {resource}{'.' if group else ''}{group}"
        for rule in tier_rules(tier)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def _watched(bus: Bus) -> dict[str, str]:
    try:
        answer = await ask(bus, {}, service="topology", verb="clusters", within=_WITHIN)
    except MeshbusError:
        return {}
    return {str(e.get("cluster", "")): str(e.get("state", "")) for e in answer["clusters"]}
