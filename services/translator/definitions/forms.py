"""All that is needed to judge objects of one kind in one version, made from its schema once."""

from __future__ import annotations

from dataclasses import dataclass

import jsonschema_rs

from services.chassis.kube.objects import KubeObject
from services.translator.definitions.checks import Check, checks_of
from services.translator.definitions.defaulting import Defaults, defaults_of
from services.translator.definitions.expressions import Compiler
from services.translator.definitions.structures import Schema, compiled, json_schema


@dataclass(frozen=True, slots=True)
class Form:
    """One structural schema, made ready."""

    structural: Schema
    schema: Schema
    """The JSON Schema that `validator` was made of."""
    validator: jsonschema_rs.Validator
    unread_patterns: tuple[str, ...]
    """Patterns in the schema that nothing here can read."""
    defaults: Defaults | None
    checks: Check | None

    @classmethod
    def of(cls, structural: Schema, compiler: Compiler) -> Form:
        schema = json_schema(structural)
        validator, unread = compiled(schema)
        return cls(
            structural=structural,
            schema=schema,
            validator=validator,
            unread_patterns=unread,
            defaults=defaults_of(structural),
            checks=checks_of(structural, compiler),
        )

    def completed(self, obj: KubeObject) -> KubeObject:
        """`obj` with the defaults that the API server would add."""
        completed: KubeObject = obj if self.defaults is None else self.defaults.applied(obj)
        return completed
