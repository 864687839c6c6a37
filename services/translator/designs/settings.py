"""Settings and traits as they stand in a component, of whatever generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.translator.designs.components import quoted
from services.translator.designs.fields import Fields
from services.translator.designs.spelling import plain, plain_key

MTLS = "mTLS"
INJECTION = "automaticSidecarInjection"
KNOWN_TRAITS = (MTLS, INJECTION)

# Its settings may be its spec, and that spec has a field `metadata` of its own.
_WITH_OWN_METADATA = "WorkloadGroup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings without the metadata that they may carry."""

    values: dict[str, Any] = field(repr=False)
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_settings(fields: Fields, name: str, *, kind: str, has_metadata: bool = False) -> Settings:
    """The mapping `name` with the fields' real names.

    `has_metadata` is for a generation whose `metadata` is the object's, never part of a spec.
    """

    def twice(key: str) -> None:
        fields.note(name, f"has {quoted(key)} twice, once with blanks")

    values: dict[str, Any] = plain(fields.mapping(name), twice=twice)
    if kind == _WITH_OWN_METADATA and "spec" not in values and not has_metadata:
        return Settings(values=values)
    metadata = Fields(
        values.pop("metadata", None),
        label=fields.label,
        problems=fields.problems,
        place=f"{name}.metadata",
    )
    return Settings(
        values=values,
        namespace=metadata.text("namespace"),
        labels=metadata.pairs("labels"),
        annotations=metadata.pairs("annotations"),
    )


def read_traits(fields: Fields) -> dict[str, dict[str, Any]]:
    """Traits of a mapping name → properties."""
    traits: dict[str, dict[str, Any]] = {}
    for name, properties in fields.mapping("traits").items():
        add_trait(traits, name, properties, fields=fields)
    return traits


def add_trait(
    traits: dict[str, dict[str, Any]], name: str, properties: Any, *, fields: Fields
) -> None:
    """Adds a trait. Only one that means something here keeps its properties.

    `meshmap` has the component's whole model in it, with the registrant's credentials.
    """
    known = plain_key(name.removesuffix(".Istio"))
    if known not in KNOWN_TRAITS:
        traits.setdefault(name, {})
        return
    if known in traits:
        fields.note(f"traits.{known}", "stands there twice")
    if properties is not None and not isinstance(properties, dict):
        fields.note(f"traits.{known}", "is not a mapping")
    traits[known] = properties if isinstance(properties, dict) else {}
