"""Small definitions of our own, for one feature of a schema each."""

from __future__ import annotations

import json
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.definitions.schemas import Schemas
from services.translator.definitions.validating import validate
from services.translator.reports import Finding

GROUP = "things.example"


def definition(
    spec: dict[str, Any],
    *,
    kind: str = "Thing",
    group: str = GROUP,
    versions: tuple[str, ...] = ("v1",),
    unserved: tuple[str, ...] = (),
    **root: Any,
) -> str:
    """A definition whose objects have `spec` as the schema of their spec; the first is stored."""
    schema = {"type": "object", "properties": {"spec": spec}, **root}
    entries = [
        {
            "name": name,
            "served": name not in unserved,
            "storage": name == versions[0],
            "schema": {"openAPIV3Schema": schema},
        }
        for name in versions
    ]
    # JSON is YAML, but not as tools print definitions: `read` has to parse it to know the kind.
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{kind.lower()}s.{group}"},
            "spec": {
                "group": group,
                "names": {"kind": kind, "plural": f"{kind.lower()}s"},
                "scope": "Namespaced",
                "versions": entries,
            },
        },
        indent=0,
    )


def with_field(schema: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A spec with one field `x` of the given schema."""
    return {"type": "object", "properties": {"x": schema}, **spec}


def thing(spec: Any, **fields: Any) -> KubeObject:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": spec,
        **fields,
    }


def findings(spec_schema: dict[str, Any], spec: Any, **root: Any) -> list[Finding]:
    """What is found in a Thing with `spec`."""
    return validate(thing(spec), schemas=Schemas.read([definition(spec_schema, **root)]))


def told(found: list[Finding]) -> list[str]:
    """Place and message of each."""
    return [f"{finding.place}: {finding.message}" for finding in found]
