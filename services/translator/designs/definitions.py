"""Components of the generations v1beta1 to v1beta3: declarations, alone or in a design.

Sources: meshery/schemas, constructs v1beta1/component, v1beta2/component and v1beta3/component
(for what is read here the three are alike), and meshkit's converter for what becomes of
`configuration`.
"""

from __future__ import annotations

from typing import Any

from services.translator.designs.components import Component, quoted
from services.translator.designs.fields import Fields, plain_kind, plain_version
from services.translator.designs.problems import Problems
from services.translator.designs.settings import read_settings, read_traits

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


def read_definition(value: Any, *, position: int, problems: Problems) -> Component:
    """The component; what is wrong with it is added to `problems`. `position` counts from 1."""
    fields = Fields(value, label=f"component {position}", problems=problems)
    name = fields.text("displayName")
    component = fields.inside("component")
    kind = plain_kind(component.text("kind"))
    if name:
        fields.label = component.label = f"{kind or 'component'} {quoted(name)}"
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
