"""Reading: designs of every generation, and what ProcessOAM and Provision carry, as one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.chassis.errors import DesignMalformed
from services.translator.designs.admitting import admit, parse_json
from services.translator.designs.applications import (
    is_application_component,
    read_component,
    read_configuration,
    strangers,
)
from services.translator.designs.components import COMPONENT_LIMIT, Component, Design, quoted
from services.translator.designs.definitions import (
    KNOWN_DESIGNS,
    design_name,
    is_definition,
    is_definitions,
    read_definition,
)
from services.translator.designs.problems import Problems
from services.translator.designs.services import is_services, read_service

_DEPENDENCY_LIMIT = 10_000


def is_design(document: Any) -> bool:
    """True for a parsed document that is a design of any generation, sound or not."""
    return isinstance(document, dict) and (is_definitions(document) or is_services(document))


def read_design(document: Any) -> Design:
    """The design in a parsed document; raises `DesignMalformed` with all problems."""
    if not is_design(document):
        raise DesignMalformed("the document is not a Meshery design")
    admit(document, label="the design")
    problems = Problems()
    name = document.get("name")
    if is_definitions(document):
        components = _definitions(document, problems=problems)
    else:
        services = document["services"]
        _check_count(len(services))
        components = [read_service(k, v, problems=problems) for k, v in services.items()]
    _settle(components, problems=problems)
    return Design(name=name if isinstance(name, str) else "", components=tuple(components))


def read_oam(components: Sequence[str], config: str) -> Design:
    """The design in the JSON texts of a ProcessOAM call; raises `DesignMalformed`.

    `config` may be empty or a zero object.
    """
    _check_count(len(components))
    problems = Problems()
    read = [
        read_component(value, position=position, problems=problems)
        for position, value in enumerate(_parsed(components), start=1)
    ]
    value = parse_json(config, label="the configuration") if config.strip() else None
    name, traits = read_configuration(value, problems=problems)
    read = [replace(one, traits=traits.get(one.name, {})) for one in read]
    _settle(read, problems=problems)
    return Design(name=name, components=tuple(read), lines=strangers(traits, read))


def read_declarations(texts: Sequence[str]) -> Design:
    """The design in the JSON texts of a Provision call; raises `DesignMalformed`.

    A text is a ComponentDefinition of v1beta1 to v1beta3, or an OAM Component.
    """
    _check_count(len(texts))
    problems = Problems()
    values = _parsed(texts)
    read = [
        _declaration(value, position=position, problems=problems)
        for position, value in enumerate(values, start=1)
    ]
    _settle(read, problems=problems)
    return Design(
        name=next((name for name in map(design_name, values) if name), ""), components=tuple(read)
    )


def _declaration(value: Any, *, position: int, problems: Problems) -> Component:
    if is_definition(value) or not is_application_component(value):
        return read_definition(value, position=position, problems=problems)
    return read_component(value, position=position, problems=problems)


def _definitions(document: dict[str, Any], *, problems: Problems) -> list[Component]:
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
        read_definition(value, position=position, problems=problems)
        for position, value in enumerate(values or [], start=1)
    ]


def _parsed(texts: Sequence[str]) -> list[Any]:
    return [
        parse_json(text, label=f"component {position}")
        for position, text in enumerate(texts, start=1)
    ]


def _check_count(count: int) -> None:
    if count > COMPONENT_LIMIT:
        raise DesignMalformed(
            f"the design has {count} components, the limit is {COMPONENT_LIMIT}",
            remedy="split it into several designs",
        )


def _settle(components: Sequence[Component], *, problems: Problems) -> None:
    """What every component needs, whatever its generation; a drawing needs nothing."""
    for position, component in enumerate(components, start=1):
        if component.is_annotation:
            continue
        if not component.name:
            problems.add(
                component.label if component.kind else f"component {position}", "it has no name"
            )
        if not component.kind:
            problems.add(
                component.label if component.name else f"component {position}",
                "it does not say of what kind it is",
            )
    count = sum(len(component.depends_on) for component in components)
    if count > _DEPENDENCY_LIMIT:
        problems.add("the design", f"it has more than {_DEPENDENCY_LIMIT} dependencies")
    problems.settle()
