"""Designs of the generation v1alpha2: a map `services`, each with a `type` and `settings`.

Source of the fields: meshery/schemas, models/v1alpha2, and its conversion to v1beta1, which tells
what of the trait `meshmap` means something: the component's id and whether it is a drawing.
"""

from __future__ import annotations

from typing import Any

from services.translator.designs.components import Component, quoted
from services.translator.designs.fields import Fields, plain_kind, plain_version
from services.translator.designs.problems import Problems
from services.translator.designs.settings import read_settings, read_traits

_CANVAS = "meshmap"


def is_services(document: dict[str, Any]) -> bool:
    """True for a v1alpha2 design. A compose file has `services` as well, but none with a `type`."""
    services = document.get("services")
    if not isinstance(services, dict) or "kind" in document:
        return False
    return any(isinstance(one, dict) and "type" in one for one in services.values())


def read_service(key: str, value: Any, *, problems: Problems) -> Component:
    """The component under `key`; what is wrong with it is added to `problems`."""
    fields = Fields(value, label=f"component {quoted(key)}", problems=problems)
    kind = plain_kind(fields.text("type"))
    name = fields.text("name") or key
    fields.label = f"{kind or 'component'} {quoted(name)}"
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
    """The trait's properties; nothing in them can be wrong enough to refuse a design for it."""
    canvas = fields.mapping("traits").get(_CANVAS)
    return canvas if isinstance(canvas, dict) else {}


def _is_drawing(canvas: dict[str, Any]) -> bool:
    metadata = canvas.get("meshmodel-metadata")
    return isinstance(metadata, dict) and metadata.get("isAnnotation") in (True, "true")
