"""Meshery's own components and traits for Istio, as lifecycle's operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from services.chassis.errors import shortened
from services.chassis.kube.objects import Ref
from services.chassis.messages import Step, StepKind
from services.translator.designs.components import Component, quoted
from services.translator.designs.objects import group_of, is_namespace
from services.translator.designs.settings import INJECTION, KNOWN_TRAITS, MTLS
from services.translator.intents.policies import MutualTls, other_modes, peer_authentication
from services.translator.istio.objects import SYSTEM_NAMESPACE
from services.translator.reports import Line, Report

MESH = "IstioMesh"
_ADDONS = {
    "GrafanaIstioAddon": "grafana-addon",
    "JaegerIstioAddon": "jaeger-addon",
    "KialiIstioAddon": "kiali-addon",
    "PrometheusIstioAddon": "prometheus-addon",
    "ZipkinIstioAddon": "zipkin-addon",
}
# Meshery's core kinds; others have given the name IstioMesh to kinds of their own.
_CORE_GROUPS = ("", "core.meshmodel.dev", "core.oam.dev", "core.meshery.io")

_WORD = re.compile(r"[a-z0-9]([-a-z0-9]{0,54}[a-z0-9])?\Z")
# A definition's version (`v1.0.0`) often stands where the mesh's should.
_VERSION = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+)?(-[A-Za-z0-9.]{1,32})?\Z")
_TAKEN = ("profile", "readinessTimeoutSeconds", "revision", "tags")


def is_mesh(component: Component) -> bool:
    return component.kind == MESH and group_of(component.api_version) in _CORE_GROUPS


def addon_of(component: Component) -> str:
    """Name of lifecycle's operation for an add-on; "" for any other component."""
    known = group_of(component.api_version) in _CORE_GROUPS
    return _ADDONS.get(component.kind, "") if known else ""


def mesh_step(component: Component, *, is_deletion: bool, report: Report) -> Step:
    """The installation (or removal) that an IstioMesh asks for; its profile may be missing."""
    settings = _settings(component, report=report)
    spec: dict[str, Any] = {"profile": _word(component, settings, "profile", report) or "default"}
    revision = _word(component, settings, "revision", report)
    if revision:
        spec["revision"] = revision
    tags = settings.get("tags")
    if isinstance(tags, list) and all(isinstance(tag, str) and _WORD.match(tag) for tag in tags):
        spec["tags"] = tags
    elif tags is not None:
        report.error((), "settings.tags is not a list of tags' names")
    seconds = settings.get("readinessTimeoutSeconds")
    if isinstance(seconds, int) and not isinstance(seconds, bool) and 1 <= seconds <= 3600:
        spec["readinessTimeoutSeconds"] = seconds
    elif seconds is not None:
        report.error((), "settings.readinessTimeoutSeconds is not 1 to 3600 seconds")
    return Step(
        title=f"{component.kind} {shortened(component.name)}",
        kind=StepKind.MESH,
        is_deletion=is_deletion,
        version=_version(component, settings, report=report),
        body=options(spec),
    )


def note_mesh(component: Component, report: Report) -> None:
    """Adds lines about what the component asks for and Meshbus does not take from a design."""
    settings = _settings(component, report=Report())
    others = sorted(key for key in settings if key not in (*_TAKEN, "version"))
    if others:
        names = ", ".join(quoted(key) for key in others[:10])
        report.lines.append(
            Line(
                source=f"settings {names} of {component.label}",
                note=f"only {', '.join(_TAKEN)} and version are taken from a design",
            )
        )
    if component.namespace not in ("", "default", SYSTEM_NAMESPACE):
        report.lines.append(
            Line(
                source=f"namespace of {component.label}",
                note=f"the control plane goes to {SYSTEM_NAMESPACE}",
            )
        )


def revision_of(component: Component) -> str:
    """The revision that a mesh asks for; "" for the unnamed one and for other components."""
    if not is_mesh(component):
        return ""
    return _word(component, _settings(component, report=Report()), "revision", Report())


def addon_step(component: Component, *, is_deletion: bool) -> Step:
    return Step(
        title=f"{component.kind} {shortened(component.name)}",
        kind=StepKind.APPLICATION,
        is_deletion=is_deletion,
        name=addon_of(component),
        namespace=SYSTEM_NAMESPACE,
    )


def options(spec: Mapping[str, Any]) -> str:
    """A LifecycleOptions document, as lifecycle's operations take it in their body."""
    document = {"apiVersion": "meshbus.io/v1", "kind": "LifecycleOptions", "spec": spec}
    return orjson.dumps(document).decode()


def _settings(component: Component, *, report: Report) -> Mapping[str, Any]:
    """The settings; what stands below their `spec` counts as theirs."""
    settings = dict(component.settings)
    spec = settings.pop("spec", None)
    if spec is None or isinstance(spec, dict):
        return {**settings, **(spec or {})}
    report.error((), "settings.spec is not a mapping")
    return settings


def _word(component: Component, settings: Mapping[str, Any], name: str, report: Report) -> str:
    value = settings.get(name)
    if value in (None, ""):
        return ""
    if isinstance(value, str) and _WORD.match(value):
        return value
    report.error((), f"settings.{name} is not a name (a-z, 0-9 and -)")
    return ""


def _version(component: Component, settings: Mapping[str, Any], *, report: Report) -> str:
    """The version that the user set, else the model's; "" asks for the newest."""
    wanted = settings.get("version")
    if wanted in (None, ""):
        return component.model_version if _VERSION.match(component.model_version) else ""
    text = wanted.removeprefix("v") if isinstance(wanted, str) else ""
    if _VERSION.match(text):
        return text
    report.error((), f"settings.version is not a version such as {quoted('1.31.0')}")
    return ""


# ---- Traits --------------------------------------------------------------------------------------

# Mutual TLS and sidecar injection of whole namespaces, by the older adapter's names and values:
# `mTLS {policy, namespaces}` with the policies mutual, strict and disable, and
# `automaticSidecarInjection {namespaces}`.

_MODES = {
    "disable": MutualTls.DISABLE,
    "mutual": MutualTls.PERMISSIVE,
    "permissive": MutualTls.PERMISSIVE,
    "strict": MutualTls.STRICT,
}
_NAMESPACE_LIMIT = 100
_MOST_NAMES = 3


def trait_steps(component: Component, *, is_deletion: bool, report: Report) -> list[Step]:
    """The steps of the component's traits, in the order of the traits."""
    steps: list[Step] = []
    for name in component.traits:
        if name == MTLS:
            steps += _mtls_steps(component, is_deletion=is_deletion, report=report)
        elif name == INJECTION:
            steps += _injection_steps(component, is_deletion=is_deletion, report=report)
    return steps


def note_traits(components: list[Component], report: Report) -> None:
    """Adds lines about traits without an effect: unknown ones, and known ones without namespace."""
    unknown: dict[str, list[str]] = {}
    for component in components:
        for name, properties in component.traits.items():
            if name not in KNOWN_TRAITS:
                unknown.setdefault(name, []).append(component.name)
            elif not properties.get("namespaces"):
                report.lines.append(
                    Line(
                        source=f"trait {quoted(name)} of {component.label}",
                        note="it names no namespace",
                    )
                )
    for name, owners in unknown.items():
        note = "position data" if name == "meshmap" else "no trait of this name means anything here"
        report.lines.append(Line(source=f"trait {quoted(name)} of {_names(owners)}", note=note))


def _names(owners: list[str]) -> str:
    first = ", ".join(quoted(name) for name in owners[:_MOST_NAMES])
    more = len(owners) - _MOST_NAMES
    return f"{first} and {more} more" if more > 0 else first


def _mtls_steps(component: Component, *, is_deletion: bool, report: Report) -> list[Step]:
    properties = component.traits[MTLS]
    policy = properties.get("policy")
    mode = _MODES.get(policy.lower()) if isinstance(policy, str) else None
    namespaces = _namespaces(component, MTLS, properties, report=report)
    if mode is not None:
        return [
            _mtls_step(mode, namespace=namespace, is_deletion=is_deletion)
            for namespace in namespaces
        ]
    if policy is not None or namespaces:
        what = quoted(policy) if isinstance(policy, str) else "it"
        report.error((), f"traits.mTLS.policy: {what} is none of {', '.join(_MODES)}")
    return []


def _mtls_step(mode: MutualTls, *, namespace: str, is_deletion: bool) -> Step:
    policy = peer_authentication(mode, namespace=namespace)
    return Step(
        title=str(Ref.of(policy)),
        is_deletion=is_deletion,
        objects=[policy],
        obsolete=[] if is_deletion else other_modes(mode, namespace=namespace),
    )


def _injection_steps(component: Component, *, is_deletion: bool, report: Report) -> list[Step]:
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
        for namespace in _namespaces(component, INJECTION, properties, report=report)
    ]


def _namespaces(
    component: Component, trait: str, properties: Mapping[str, Any], *, report: Report
) -> list[str]:
    names = properties.get("namespaces")
    if names is None:
        return []
    place = f"traits.{trait}.namespaces"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        report.error((), f"{place} is not a list of texts")
        return []
    if len(names) > _NAMESPACE_LIMIT:
        report.error((), f"{place} has more than {_NAMESPACE_LIMIT} names")
        return []
    for name in names:
        if not is_namespace(name):
            report.error((), f"{place}: {quoted(name)} is not a namespace's name")
    return list(dict.fromkeys(name for name in names if is_namespace(name)))
