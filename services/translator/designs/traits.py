"""Traits of Meshery's for Istio, as steps: mutual TLS and sidecar injection of whole namespaces.

The older adapter's names and values: `mTLS {policy, namespaces}` with the policies mutual, strict
and disable, `automaticSidecarInjection {namespaces}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chassis.kube.objects import Ref
from services.chassis.messages.plans import Step, StepKind
from services.translator.designs.components import Component, quoted
from services.translator.designs.meshes import options, revision_of
from services.translator.designs.objects import is_namespace
from services.translator.designs.problems import Problems
from services.translator.designs.settings import INJECTION, KNOWN_TRAITS, MTLS
from services.translator.policies import MutualTls, other_modes, peer_authentication
from services.translator.reports import Line

_MODES = {
    "disable": MutualTls.DISABLE,
    "mutual": MutualTls.PERMISSIVE,
    "permissive": MutualTls.PERMISSIVE,
    "strict": MutualTls.STRICT,
}
_NAMESPACE_LIMIT = 100
_NAMES_TOLD = 3


def trait_steps(component: Component, *, is_deletion: bool, problems: Problems) -> list[Step]:
    """The steps of the component's traits, in the order of the traits."""
    steps: list[Step] = []
    for name in component.traits:
        if name == MTLS:
            steps += _mtls_steps(component, is_deletion=is_deletion, problems=problems)
        elif name == INJECTION:
            steps += _injection_steps(component, is_deletion=is_deletion, problems=problems)
    return steps


def trait_lines(components: list[Component]) -> list[Line]:
    """Traits that came to nothing: unknown ones by name, and known ones without a namespace."""
    unknown: dict[str, list[str]] = {}
    lines: list[Line] = []
    for component in components:
        for name, properties in component.traits.items():
            if name not in KNOWN_TRAITS:
                unknown.setdefault(name, []).append(component.name)
            elif not properties.get("namespaces"):
                lines.append(
                    Line(
                        source=f"trait {quoted(name)} of {component.label}",
                        note="it names no namespace",
                    )
                )
    for name, owners in unknown.items():
        note = "position data" if name == "meshmap" else "no trait of this name means anything here"
        lines.append(Line(source=f"trait {quoted(name)} of {_names(owners)}", note=note))
    return lines


def _names(owners: list[str]) -> str:
    told = ", ".join(quoted(name) for name in owners[:_NAMES_TOLD])
    more = len(owners) - _NAMES_TOLD
    return f"{told} and {more} more" if more > 0 else told


def _mtls_steps(component: Component, *, is_deletion: bool, problems: Problems) -> list[Step]:
    properties = component.traits[MTLS]
    policy = properties.get("policy")
    mode = _MODES.get(policy.lower()) if isinstance(policy, str) else None
    namespaces = _namespaces(component, MTLS, properties, problems=problems)
    if mode is not None:
        return [
            _mtls_step(mode, namespace=namespace, is_deletion=is_deletion)
            for namespace in namespaces
        ]
    if policy is not None or namespaces:
        what = quoted(policy) if isinstance(policy, str) else "it"
        problems.add(component.label, f"traits.mTLS.policy: {what} is none of {', '.join(_MODES)}")
    return []


def _mtls_step(mode: MutualTls, *, namespace: str, is_deletion: bool) -> Step:
    policy = peer_authentication(mode, namespace=namespace)
    return Step(
        title=str(Ref.of(policy)),
        is_deletion=is_deletion,
        objects=[policy],
        obsolete=[] if is_deletion else other_modes(mode, namespace=namespace),
    )


def _injection_steps(component: Component, *, is_deletion: bool, problems: Problems) -> list[Step]:
    properties = component.traits[INJECTION]
    revision = revision_of(component)
    return [
        Step(
            title=f"sidecar injection of {namespace}",
            kind=StepKind.INJECTION,
            is_deletion=is_deletion,
            namespace=namespace,
            # A mesh with a revision injects where its own label stands, not the common one.
            body=options({"revision": revision}) if revision else "",
        )
        for namespace in _namespaces(component, INJECTION, properties, problems=problems)
    ]


def _namespaces(
    component: Component, trait: str, properties: Mapping[str, Any], *, problems: Problems
) -> list[str]:
    names = properties.get("namespaces")
    if names is None:
        return []
    place = f"traits.{trait}.namespaces"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.add(component.label, f"{place} is not a list of texts")
        return []
    if len(names) > _NAMESPACE_LIMIT:
        problems.add(component.label, f"{place} has more than {_NAMESPACE_LIMIT} names")
        return []
    for name in names:
        if not is_namespace(name):
            problems.add(component.label, f"{place}: {quoted(name)} is not a namespace's name")
    return list(dict.fromkeys(name for name in names if is_namespace(name)))
