"""What ProcessOAM carries: OAM Components and an ApplicationConfiguration, as JSON texts.

Go writes the configuration with the names of its fields (`ComponentName`, `Traits`) and reads any
case, so any case is taken. A component without traits comes with a zero configuration.
"""

from __future__ import annotations

from typing import Any

from services.translator.designs.components import Component, quoted
from services.translator.designs.fields import Fields, plain_kind, plain_version
from services.translator.designs.problems import Problems
from services.translator.designs.settings import add_trait, read_settings
from services.translator.reports import Line

# Annotations that tell the object's type, of the two eras of Meshery's registry.
_API_VERSIONS = ("design.meshmodel.io.k8s.APIVersion", "pattern.meshery.io.k8s.k8sAPIVersion")
_KINDS = ("design.meshmodel.io.k8s.Kind", "pattern.meshery.io.k8s.k8sKind")


def is_application_component(document: Any) -> bool:
    """True for an OAM Component."""
    if not isinstance(document, dict):
        return False
    spec = document.get("spec")
    return document.get("kind") == "Component" or (isinstance(spec, dict) and "type" in spec)


def read_component(value: Any, *, position: int, problems: Problems) -> Component:
    """The component; what is wrong with it is added to `problems`. `position` counts from 1."""
    fields = Fields(value, label=f"component {position}", problems=problems, folded=True)
    metadata, spec = fields.inside("metadata"), fields.inside("spec")
    noted = metadata.mapping("annotations")
    name = metadata.text("name")
    kind = plain_kind(_noted(noted, _KINDS) or spec.text("type"))
    if name:
        fields.label = spec.label = metadata.label = f"{kind or 'component'} {quoted(name)}"
    settings = read_settings(spec, "settings", kind=kind)
    return Component(
        name=name,
        kind=kind,
        api_version=plain_version(_noted(noted, _API_VERSIONS) or spec.text("apiVersion")),
        model=spec.text("model"),
        model_version=spec.text("version"),
        namespace=metadata.text("namespace") or settings.namespace,
        labels={**settings.labels, **metadata.pairs("labels")},
        annotations={**settings.annotations, **metadata.pairs("annotations")},
        settings=settings.values,
        ids=(name,) if name else (),
    )


def read_configuration(
    value: Any, *, problems: Problems
) -> tuple[str, dict[str, dict[str, dict[str, Any]]]]:
    """The design's name, and traits by component's name and trait's name."""
    fields = Fields(value, label="the configuration", problems=problems, folded=True)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in fields.inside("spec").sequence("components"):
        component = Fields(entry, label="the configuration", problems=problems, folded=True)
        name = component.text("componentName")
        component.label = f"component {quoted(name)}"
        traits = found.setdefault(name, {})
        for item in component.sequence("traits"):
            trait = Fields(item, label=component.label, problems=problems, folded=True)
            add_trait(traits, trait.text("name"), trait.raw("properties"), fields=component)
    return fields.inside("metadata").text("name"), found


def strangers(
    traits: dict[str, dict[str, dict[str, Any]]], components: list[Component]
) -> tuple[Line, ...]:
    """Traits of components that the request does not hold."""
    known = {component.name for component in components}
    return tuple(
        Line(source=f"traits of {quoted(name)}", note="the request has no such component")
        for name, own in traits.items()
        if own and name not in known
    )


def _noted(annotations: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = annotations.get(name)
        if isinstance(value, str) and value.strip("/ "):
            return value
    return ""
