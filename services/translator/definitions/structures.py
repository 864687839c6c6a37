"""Structural schemas of Kubernetes as JSON Schemas, for a validator that finds all errors at once.

A structural schema is OpenAPI 3 with extensions of its own
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
Three things differ on purpose from a plain translation: fields that Kubernetes would prune without
a word are errors here, as with `fieldValidation=Strict`; `status` is not looked at, for it is not
the user's; and `x-kubernetes-list-type` and CEL rules are left to `rules`, which need the object.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jsonschema_rs

from services.translator.definitions.formats import FORMATS, INTEGER_RANGES, SPELLINGS
from services.translator.istio.patterns import Pattern

Schema: TypeAlias = dict[str, Any]

RE2 = "x-re2"
"""Keyword of our own, for patterns that the validator's engine cannot read."""
_KEPT = (
    "enum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minItems",
    "minLength",
    "minProperties",
    "multipleOf",
    "pattern",
)
_COMBINED = ("allOf", "anyOf", "oneOf")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_TEXT = {"type": "string"}
_ANNOTATION = {"type": ["string", "null"]}
_LABEL = {
    "type": ["string", "null"],
    "maxLength": 63,
    "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
}

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
METADATA: Schema = {
    "type": "object",
    "properties": {
        "annotations": {"type": ["object", "null"], "additionalProperties": _ANNOTATION},
        "creationTimestamp": {"type": ["string", "null"]},
        "deletionGracePeriodSeconds": {"type": ["integer", "null"]},
        "deletionTimestamp": {"type": ["string", "null"]},
        "finalizers": {"type": ["array", "null"], "items": _TEXT},
        "generateName": {"type": ["string", "null"]},
        "generation": {"type": ["integer", "null"]},
        "labels": {"type": ["object", "null"], "additionalProperties": _LABEL},
        "managedFields": {"type": ["array", "null"]},
        "name": {"type": ["string", "null"]},
        "namespace": {"type": ["string", "null"]},
        "ownerReferences": {"type": ["array", "null"]},
        "resourceVersion": {"type": ["string", "null"]},
        "selfLink": {"type": ["string", "null"]},
        "uid": {"type": ["string", "null"]},
    },
    "additionalProperties": False,
}


def json_schema(structural: Schema) -> Schema:
    """The JSON Schema of a whole object of the kind whose structural schema is given."""
    schema = _object(structural)
    own = structural.get("properties", {}).get("metadata", {}).get("properties", {})
    narrowed = [{"properties": {name: _node(own[name], nested=True) for name in own}}]
    schema["type"] = "object"
    schema["properties"] = {
        **schema.get("properties", {}),
        "apiVersion": _TEXT,
        "kind": _TEXT,
        "metadata": {**METADATA, "allOf": narrowed} if own else METADATA,
        "status": {},
    }
    required = [name for name in schema.pop("required", ()) if name not in ("metadata", "status")]
    return {**schema, "required": required} if required else schema


def validator_of(schema: Schema) -> tuple[jsonschema_rs.Validator, tuple[str, ...]]:
    """The validator of a JSON Schema, and the patterns in it that no engine here can read."""
    try:
        return _validator(schema), ()
    except ValueError:
        # Some pattern is not of the validator's dialect, which is narrower than Go's.
        unread: set[str] = set()
        return _validator(_with_other_patterns(schema, unread)), tuple(sorted(unread))


def _validator(schema: Schema) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft7Validator(
        schema,
        formats=dict(FORMATS),
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(),
        keywords={RE2: _Re2Pattern},
        offline=True,
    )


class _Re2Pattern:
    """A pattern that only RE2 itself reads, such as one with `[[:alpha:]]`."""

    def __init__(self, parent: Schema, expression: str, path: list[str | int]) -> None:
        self._expression = expression
        self._pattern = Pattern.of(expression)

    def validate(self, instance: Any) -> None:
        if self._pattern is None or not isinstance(instance, str):
            return
        if not self._pattern.finds(instance):
            raise ValueError(f"must match the pattern {self._expression}")


def _with_other_patterns(schema: Any, unread: set[str]) -> Any:
    if isinstance(schema, list):
        return [_with_other_patterns(part, unread) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _with_other_patterns(part, unread) for name, part in schema.items()}
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not _is_native(pattern):
        del changed["pattern"]
        if Pattern.of(pattern) is None:
            unread.add(pattern)
        else:
            changed[RE2] = pattern
    return changed


def _is_native(pattern: str) -> bool:
    try:
        return bool(_validator({"pattern": pattern}))
    except ValueError:
        return False


def _node(node: Schema, *, nested: bool = False) -> Schema:
    """One schema. `nested` ones stand below allOf, anyOf, oneOf or not: they close no object."""
    schema = {name: node[name] for name in _KEPT if name in node}
    schema |= _type(node)
    schema |= _limits(node)
    name = SPELLINGS.get(str(node.get("format", "")).replace("-", ""))
    if name is not None and node.get("type", "string") == "string":
        schema["format"] = name
    schema |= _object(node, nested=nested)
    if isinstance(node.get("items"), dict):
        schema["items"] = _node(node["items"], nested=nested)
    combined = _combinations(node)
    if combined and node.get("nullable"):
        # Null passes every combination in Kubernetes, and none of them was written with it in mind.
        return {**schema, "if": {"type": "null"}, "else": combined}
    return schema | combined


def _type(node: Schema) -> Schema:
    if node.get("x-kubernetes-int-or-string"):
        types = ["integer", "string"]
    elif isinstance(node.get("type"), str) and node["type"]:
        types = [node["type"]]
    else:
        return {}
    if node.get("nullable"):
        types.append("null")
    return {"type": types if len(types) > 1 else types[0]}


def _limits(node: Schema) -> Schema:
    """Minimum and maximum; `exclusive…` is a flag in OpenAPI 3 and a number in JSON Schema."""
    low, high = node.get("minimum"), node.get("maximum")
    limits: Schema = {}
    if low is not None:
        limits["exclusiveMinimum" if node.get("exclusiveMinimum") else "minimum"] = low
    if high is not None:
        limits["exclusiveMaximum" if node.get("exclusiveMaximum") else "maximum"] = high
    if node.get("type") == "integer" and node.get("format") in INTEGER_RANGES:
        lowest, highest = INTEGER_RANGES[node["format"]]
        limits.setdefault("minimum", lowest)
        limits.setdefault("maximum", highest)
    return limits


def _object(node: Schema, *, nested: bool = False) -> Schema:
    schema: Schema = {}
    properties = node.get("properties")
    if isinstance(properties, dict):
        schema["properties"] = {
            name: _node(part, nested=nested) for name, part in properties.items()
        }
    if node.get("required"):
        schema["required"] = list(node["required"])
    others = node.get("additionalProperties")
    if isinstance(others, dict):
        schema["additionalProperties"] = _node(others, nested=nested)
    elif others is None and not nested and _is_closed(node):
        schema["additionalProperties"] = False
    if node.get("x-kubernetes-embedded-resource"):
        embedded = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": METADATA}
        schema["properties"] = {**schema.get("properties", {}), **embedded}
        schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind"})
    return schema


def _is_closed(node: Schema) -> bool:
    """Whether Kubernetes would prune the fields that the schema does not name."""
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return False
    return node.get("type") == "object" or "properties" in node


def _combinations(node: Schema) -> Schema:
    combined: Schema = {}
    for name in _COMBINED:
        parts = node.get(name)
        if not parts or (node.get("x-kubernetes-int-or-string") and _says_int_or_string(parts)):
            continue
        combined[name] = [_node(part, nested=True) for part in parts]
    if isinstance(node.get("not"), dict):
        combined["not"] = _node(node["not"], nested=True)
    return combined


def _says_int_or_string(parts: list[Any]) -> bool:
    """`x-kubernetes-int-or-string` must stand beside this in a schema; the type says it already."""
    return parts == _INT_OR_STRING
