"""Settings and traits of a component, with the fields' real names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.translator.designs.components import quoted
from services.translator.designs.fields import Fields

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
    metadata = Fields(values.pop("metadata", None), fields.report, place=f"{name}.metadata")
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


# ---- Prettified keys -----------------------------------------------------------------------------

# Meshery's forms show `cors Policy` for `corsPolicy`: its prettifier (meshkit, utils/manifests)
# puts a blank before each word that begins with a capital, and its server takes the blanks out
# again before it calls an adapter, as a rule. So a key is a prettified field when each of its
# blanks stands before a capital. Keys of maps that belong to the user (labels, a ConfigMap's data,
# headers) are never looked at, because there a blank may be meant.

# Blanks after a small letter or digit, or after a capital that ends an acronym (`external I Ps`).
_PRETTIFIED = re.compile(r"[A-Za-z](?:[A-Za-z0-9]|(?<=[a-z0-9]) (?=[A-Z])|(?<=[A-Z]) (?=[A-Z]))*\Z")
# Meshery's dictionary of exceptions.
_EXCEPTIONS = {"CA Bundle": "caBundle", "Mesh Sync": "meshSync"}

# All that stands below these is the user's, however deep.
_FREE = frozenset(
    {
        "annotations",
        "binaryData",
        "data",
        "openAPIV3Schema",
        "parameters",
        "pluginConfig",
        "stringData",
        "value",
        "values",
        "volumeAttributes",
    }
)
# Maps with the user's keys; their values have fields again.
_MAPS = frozenset(
    {
        "add",
        "customTags",
        "environmentVariables",
        "headers",
        "labels",
        "limits",
        "matchLabels",
        "nodeSelector",
        "queryParams",
        "requests",
        "set",
        "setHeaders",
        "sourceLabels",
        "tagOverrides",
        "withoutHeaders",
    }
)


def plain_key(key: str) -> str:
    """The field's real name; any other key as it is."""
    if " " not in key:
        return key
    if key in _EXCEPTIONS:
        return _EXCEPTIONS[key]
    if not _PRETTIFIED.match(key):
        return key
    first, *others = key.split(" ")
    # A form's title begins with a capital, a field of Kubernetes never does.
    first = first.lower() if first.isupper() else first[0].lower() + first[1:]
    return first + "".join(others)


def plain(value: Any, *, twice: Callable[[str], None]) -> Any:
    """`value` with the fields' real names; `twice` is called with a name that occurs twice."""
    return _plain(value, is_map=False, twice=twice)


def _plain(value: Any, *, is_map: bool, twice: Callable[[str], None]) -> Any:
    if isinstance(value, list):
        return [_plain(item, is_map=False, twice=twice) for item in value]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key, part in value.items():
        name = key if is_map else plain_key(key)
        if name in result:
            twice(name)
        if not is_map and name in _FREE and isinstance(part, dict | list):
            result[name] = part
        else:
            result[name] = _plain(part, is_map=not is_map and name in _MAPS, twice=twice)
    return result
