"""Designs of every generation, and the bodies of ProcessOAM and Provision, as components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.chassis.errors import DesignMalformed
from services.chassis.reading.limits import Budget
from services.translator.designs.components import (
    COMPONENT_LIMIT,
    THE_DESIGN,
    Component,
    Design,
    quoted,
    ref_of,
    refuse,
)
from services.translator.designs.fields import Fields, admit, parse_json, plain_kind, plain_version
from services.translator.designs.settings import add_trait, read_settings, read_traits
from services.translator.reports import Line, Report

_DEPENDENCY_LIMIT = 10_000


def is_design(document: Any) -> bool:
    """True for a parsed document that is a design of any generation, sound or not."""
    return isinstance(document, dict) and (is_definitions(document) or is_services(document))


def read_design(document: Any) -> Design:
    """The design in a parsed document; raises `DesignMalformed` with every error."""
    if not is_design(document):
        raise DesignMalformed("the document is not a Meshery design")
    admit(document, label="the design")
    report = Report()
    name = document.get("name")
    if is_definitions(document):
        components = _definitions(document, report=report)
    else:
        services = document["services"]
        _check_count(len(services))
        components = [read_service(k, v, report=report) for k, v in services.items()]
    _settle(components, report=report)
    return Design(name=name if isinstance(name, str) else "", components=tuple(components))


def read_oam(components: Sequence[str], config: str) -> Design:
    """The design in the JSON texts of a ProcessOAM call; raises `DesignMalformed`.

    `config` may be empty or a zero object.
    """
    _check_count(len(components))
    report, budget = Report(), Budget.fresh(is_shared=True)
    read = [
        read_component(value, position=position, report=report)
        for position, value in enumerate(_parsed(components, budget), start=1)
    ]
    given = config.strip()
    value = parse_json(config, label="the configuration", budget=budget) if given else None
    name, traits = read_configuration(value, report=report)
    read = [replace(one, traits=traits.get(one.name, {})) for one in read]
    _settle(read, report=report)
    return Design(name=name, components=tuple(read), lines=_unknown_components(traits, read))


def read_declarations(texts: Sequence[str]) -> Design:
    """The design in the JSON texts of a Provision call; raises `DesignMalformed`.

    A text is a ComponentDefinition of v1beta1 to v1beta3, or an OAM Component.
    """
    _check_count(len(texts))
    report = Report()
    values = _parsed(texts, Budget.fresh(is_shared=True))
    read = [
        _declaration(value, position=position, report=report)
        for position, value in enumerate(values, start=1)
    ]
    _settle(read, report=report)
    return Design(
        name=next((name for name in map(design_name, values) if name), ""), components=tuple(read)
    )


def _declaration(value: Any, *, position: int, report: Report) -> Component:
    if is_definition(value) or not is_application_component(value):
        return read_definition(value, position=position, report=report)
    return read_component(value, position=position, report=report)


def _definitions(document: dict[str, Any], *, report: Report) -> list[Component]:
    schema = document["schemaVersion"]
    if schema not in KNOWN_DESIGNS:
        raise DesignMalformed(
            f"the design is of {quoted(schema)}",
            cause=f"only {', '.join(KNOWN_DESIGNS)} and v1alpha2 are known",
            remedy="export it from Meshery as one of these",
        )
    values = document.get("components")
    if values is not None and not isinstance(values, list):
        raise DesignMalformed("the design's components are not a list")
    _check_count(len(values or []))
    return [
        read_definition(value, position=position, report=report)
        for position, value in enumerate(values or [], start=1)
    ]


def _parsed(texts: Sequence[str], budget: Budget) -> list[Any]:
    return [
        parse_json(text, label=f"component {position}", budget=budget)
        for position, text in enumerate(texts, start=1)
    ]


def _check_count(count: int) -> None:
    if count > COMPONENT_LIMIT:
        raise DesignMalformed(
            f"the design has {count} components, the limit is {COMPONENT_LIMIT}",
            remedy="split it into several designs",
        )


def _settle(components: Sequence[Component], *, report: Report) -> None:
    """Checks that every component has a name and a kind, except drawings; then refuses errors."""
    for position, component in enumerate(components, start=1):
        if component.is_annotation:
            continue
        numbered = ref_of("component", position)
        if not component.name:
            subject = component.ref if component.kind else numbered
            report.about(subject).error((), "it has no name")
        if not component.kind:
            subject = component.ref if component.name else numbered
            report.about(subject).error((), "it does not say of what kind it is")
    count = sum(len(component.depends_on) for component in components)
    if count > _DEPENDENCY_LIMIT:
        report.about(THE_DESIGN).error((), f"it has more than {_DEPENDENCY_LIMIT} dependencies")
    refuse(report)


# ---- v1beta1 to v1beta3 --------------------------------------------------------------------------

# A design of `components`, or a declaration alone. Sources: meshery/schemas, constructs
# v1beta1/component, v1beta2/component and v1beta3/component (for what is read here the three are
# alike), and meshkit's converter for what becomes of `configuration`.

DESIGNS = "designs.meshery.io/"
KNOWN_DESIGNS = tuple(f"{DESIGNS}v1beta{number}" for number in (1, 2, 3))
_DESIGN_NAME = "design.meshmodel.io.name"


def is_definitions(document: dict[str, Any]) -> bool:
    """True for a design of `components`, also of a generation that is newer than this module."""
    schema = document.get("schemaVersion")
    return isinstance(schema, str) and schema.startswith(DESIGNS)


def is_definition(document: Any) -> bool:
    """True for one component of these generations."""
    return isinstance(document, dict) and isinstance(document.get("component"), dict)


def read_definition(value: Any, *, position: int, report: Report) -> Component:
    """The component; what is wrong with it is added to `report`. `position` counts from 1."""
    fields = Fields(value, report.about(ref_of("component", position)))
    name = fields.text("displayName")
    component = fields.inside("component")
    kind = plain_kind(component.text("kind"))
    if name:
        fields.report.subject = ref_of(kind or "component", quoted(name))
    metadata = fields.inside("metadata")
    settings = read_settings(fields, "configuration", kind=kind, has_metadata=True)
    model, model_version = _model(fields)
    return Component(
        name=name,
        kind=kind,
        api_version=plain_version(component.text("version")),
        model=model,
        model_version=model_version,
        namespace=settings.namespace,
        labels=settings.labels,
        annotations=settings.annotations,
        # Meshery notes the design's name and id in a field that no object has.
        settings={key: part for key, part in settings.values.items() if key != "annotations"},
        depends_on=metadata.texts("dependsOn"),
        traits=read_traits(fields),
        is_annotation=metadata.flag("isAnnotation"),
        ids=tuple(text for text in (fields.text("id"),) if text),
    )


def design_name(value: Any) -> str:
    """Name of the design that a declaration came from; "" when it does not tell."""
    configuration = value.get("configuration") if isinstance(value, dict) else None
    notes = configuration.get("annotations") if isinstance(configuration, dict) else None
    name = notes.get(_DESIGN_NAME) if isinstance(notes, dict) else None
    return name if isinstance(name, str) else ""


def _model(fields: Fields) -> tuple[str, str]:
    """Name and version of the model; only these two are taken from it (its registrant is secret).

    `model.version` is the version of the definition, `model.model.version` the software's.
    """
    for place in ("model", "modelReference"):
        if fields.raw(place) is None:
            continue
        model = fields.inside(place)
        software = model.inside("model")
        name, version = model.text("name"), software.text("version")
        if name or version:
            return name, version
    return "", ""


# ---- v1alpha2 ------------------------------------------------------------------------------------

# A map `services`, each with a `type` and `settings`. Source of the fields: meshery/schemas,
# models/v1alpha2, and its conversion to v1beta1, which tells what of the trait `meshmap` means
# something: the component's id and whether it is a drawing.

_CANVAS = "meshmap"


def is_services(document: dict[str, Any]) -> bool:
    """True for a v1alpha2 design. A compose file has `services` as well, but none with a `type`."""
    services = document.get("services")
    if not isinstance(services, dict) or "kind" in document:
        return False
    return any(isinstance(one, dict) and "type" in one for one in services.values())


def read_service(key: str, value: Any, *, report: Report) -> Component:
    """The component under `key`; what is wrong with it is added to `report`."""
    fields = Fields(value, report.about(ref_of("component", quoted(key))))
    kind = plain_kind(fields.text("type"))
    name = fields.text("name") or key
    fields.report.subject = ref_of(kind or "component", quoted(name))
    canvas = _canvas(fields)
    settings = read_settings(fields, "settings", kind=kind)
    return Component(
        name=name,
        kind=kind,
        api_version=plain_version(fields.text("apiVersion")),
        model=fields.text("model"),
        model_version=fields.text("version"),
        namespace=fields.text("namespace") or settings.namespace,
        labels={**settings.labels, **fields.pairs("labels")},
        annotations={**settings.annotations, **fields.pairs("annotations")},
        settings=settings.values,
        depends_on=fields.texts("dependsOn"),
        traits=read_traits(fields),
        is_annotation=fields.flag("isAnnotation") or _is_drawing(canvas),
        ids=tuple(
            i for i in (fields.text("id"), canvas.get("id"), key) if i and isinstance(i, str)
        ),
    )


def _canvas(fields: Fields) -> dict[str, Any]:
    """The trait's properties; errors in them are no reason to refuse a design."""
    canvas = fields.mapping("traits").get(_CANVAS)
    return canvas if isinstance(canvas, dict) else {}


def _is_drawing(canvas: dict[str, Any]) -> bool:
    metadata = canvas.get("meshmodel-metadata")
    return isinstance(metadata, dict) and metadata.get("isAnnotation") in (True, "true")


# ---- ProcessOAM ----------------------------------------------------------------------------------

# OAM Components and an ApplicationConfiguration, as JSON texts. Go writes the configuration with
# the names of its fields (`ComponentName`, `Traits`) and reads any case, so any case is taken. A
# component without traits comes with a zero configuration.

# Annotations that tell the object's type, of the two eras of Meshery's registry.
_API_VERSIONS = ("design.meshmodel.io.k8s.APIVersion", "pattern.meshery.io.k8s.k8sAPIVersion")
_KINDS = ("design.meshmodel.io.k8s.Kind", "pattern.meshery.io.k8s.k8sKind")


def is_application_component(document: Any) -> bool:
    """True for an OAM Component."""
    if not isinstance(document, dict):
        return False
    spec = document.get("spec")
    return document.get("kind") == "Component" or (isinstance(spec, dict) and "type" in spec)


def read_component(value: Any, *, position: int, report: Report) -> Component:
    """The component; what is wrong with it is added to `report`. `position` counts from 1."""
    fields = Fields(value, report.about(ref_of("component", position)), folded=True)
    metadata, spec = fields.inside("metadata"), fields.inside("spec")
    noted = metadata.mapping("annotations")
    name = metadata.text("name")
    kind = plain_kind(_noted(noted, _KINDS) or spec.text("type"))
    if name:
        fields.report.subject = ref_of(kind or "component", quoted(name))
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
    value: Any, *, report: Report
) -> tuple[str, dict[str, dict[str, dict[str, Any]]]]:
    """The design's name, and traits by component's name and trait's name."""
    about = ref_of("the", "configuration")
    fields = Fields(value, report.about(about), folded=True)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in fields.inside("spec").sequence("components"):
        own = report.about(about)
        component = Fields(entry, own, folded=True)
        name = component.text("componentName")
        own.subject = ref_of("component", quoted(name))
        traits = found.setdefault(name, {})
        for item in component.sequence("traits"):
            trait = Fields(item, own, folded=True)
            add_trait(traits, trait.text("name"), trait.raw("properties"), fields=component)
    return fields.inside("metadata").text("name"), found


def _unknown_components(
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
    """The first annotation of `names` that is set."""
    values = (annotations.get(name) for name in names)
    return next((v for v in values if isinstance(v, str) and v.strip("/ ")), "")
