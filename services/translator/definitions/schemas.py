"""Definitions of Istio's and the Gateway API's kinds, read when a kind is first asked for.

The file with all of Istio's definitions has a megabyte, and parsing it takes a third of a second;
an operation needs a few of its kinds. So the text is only split into documents at first, and two
lines of each tell which kind it defines.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jsonschema_rs

from services.chassis.errors import SchemasMissing
from services.chassis.kube.manifests import parse_trusted_document
from services.chassis.kube.objects import KubeObject
from services.translator.definitions.rules import Checks, checks_of
from services.translator.definitions.structures import Schema, json_schema, validator_of
from services.translator.definitions.values import Defaults, completed, defaults_of
from services.translator.istio.versions import by_priority

_SEPARATOR = re.compile(r"^---(?:\s.*)?$", re.MULTILINE)
_IS_DEFINITION = re.compile(r"""^["']?kind["']?:\s*["']?CustomResourceDefinition\b""", re.MULTILINE)
# As all tools write definitions that print them with an indent of two, in any order of fields.
_WORD = r"""["']?([A-Za-z0-9.-]+)["']?[ \t]*$"""
_SPEC = re.compile(r"^spec:[ \t]*$", re.MULTILINE)
_GROUP = re.compile(rf"^  group:[ \t]*{_WORD}", re.MULTILINE)
_NAMES = re.compile(r"^  names:[ \t]*\n((?:    .*\n|[ \t]*\n)+)", re.MULTILINE)
_KIND = re.compile(rf"^    kind:[ \t]*{_WORD}", re.MULTILINE)
# Prose is two thirds of a definition, and nothing here reads it.
_PROSE = ("description", "example", "externalDocs", "title")
_ANYTHING: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One kind. Versions with equal schemas share one."""

    group: str
    kind: str
    plural: str
    namespaced: bool
    versions: tuple[str, ...]
    """Those that are served, the newest stable one first."""
    storage: str
    """The version that the API server stores."""
    schemas: Mapping[str, Schema]
    """Structural schema of each version, without descriptions; also of those not served."""

    @property
    def group_kind(self) -> tuple[str, str]:
        return (self.group, self.kind)


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """One structural schema, compiled to validate objects."""

    schema: Schema
    """The JSON Schema that `validator` was made of."""
    validator: jsonschema_rs.Validator
    unread_patterns: tuple[str, ...]
    """Patterns in the schema that no engine here can read."""
    defaults: Defaults | None
    checks: Checks | None

    @classmethod
    def of(cls, structural: Schema) -> CompiledSchema:
        schema = json_schema(structural)
        validator, unread = validator_of(schema)
        return cls(schema, validator, unread, defaults_of(structural), checks_of(structural))

    def completed(self, obj: KubeObject) -> KubeObject:
        """`obj` with the defaults that the API server would add."""
        whole: KubeObject = obj if self.defaults is None else completed(obj, self.defaults)
        return whole


class Schemas:
    """The definitions of one Istio version, or of several projects together."""

    def __init__(self, documents: Mapping[tuple[str, str], str]) -> None:
        """`documents`: the YAML text of each kind's definition. See `read`."""
        self._documents = documents
        self._definitions: dict[tuple[str, str], Definition] = {}
        self._compiled: dict[int, CompiledSchema] = {}
        self._lock = threading.RLock()

    @classmethod
    def read(cls, texts: Iterable[str]) -> Schemas:
        """Reads the definitions in YAML files; other objects in them are skipped.

        A kind that is defined twice is taken from the last text. Raises `SchemasMissing` for text
        that is not YAML.
        """
        documents: dict[tuple[str, str], str] = {}
        for text in texts:
            for document in _SEPARATOR.split(text):
                if _IS_DEFINITION.search(document):
                    documents[_kind_of(document)] = document
        return cls(documents)

    def kinds(self) -> frozenset[tuple[str, str]]:
        """(group, kind) of every definition."""
        return frozenset(self._documents)

    def kinds_of(self, group: str) -> tuple[str, ...]:
        """The kinds of one group, by alphabet."""
        return tuple(sorted(kind for known, kind in self._documents if known == group))

    def find(self, group: str, kind: str) -> Definition | None:
        """The definition of a kind; None when there is none.

        Raises `SchemasMissing` when its text cannot be read.
        """
        key = (group, kind)
        if key not in self._documents:
            return None
        return self._once(
            self._definitions,
            key,
            lambda: _definition(_parsed(self._documents[key], what=f"{kind} ({group})")),
        )

    def compiled(self, definition: Definition, version: str) -> CompiledSchema:
        """Compiles the schema of one version of a kind, once; raises `SchemasMissing`."""
        structural = definition.schemas[version]

        def compile_schema() -> CompiledSchema:
            try:
                return CompiledSchema.of(structural)
            except (ValueError, TypeError, AttributeError, RecursionError):
                what = f"{definition.kind} ({definition.group}/{version})"
                raise _unreadable(what) from None

        return self._once(self._compiled, id(structural), compile_schema)

    def _once(self, known: dict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
        """Makes a value only once, although threads ask for it at the same time.

        Compiled schemas are found by the identity of the definition's schema, so a second
        definition of the same kind would do more than waste time.
        """
        if key not in known:
            with self._lock:
                if key not in known:
                    known[key] = make()
        return known[key]


def _unreadable(what: str) -> SchemasMissing:
    return SchemasMissing(
        f"the definition of {what} cannot be used",
        cause="its text in the distribution folder is damaged or of an unknown form",
        remedy="unpack the release archive of the version again",
    )


def _kind_of(document: str) -> tuple[str, str]:
    spec = _SPEC.search(document)
    place = spec.end() if spec else 0
    group, names = _GROUP.search(document, place), _NAMES.search(document + "\n", place)
    kind = _KIND.search(names[1]) if names else None
    if spec and group and kind:
        return (group[1], kind[1])
    parsed = _definition(_parsed(document, what="a kind"))
    return parsed.group_kind


def _parsed(document: str, *, what: str) -> KubeObject:
    try:
        parsed = parse_trusted_document(document)
    except ValueError:
        raise _unreadable(what) from None
    if parsed is None:
        raise _unreadable(what)
    return parsed


def _definition(parsed: KubeObject) -> Definition:
    try:
        spec = parsed["spec"]
        schemas = _schemas(spec["versions"])
        return Definition(
            group=str(spec["group"]),
            kind=str(spec["names"]["kind"]),
            plural=str(spec["names"]["plural"]),
            namespaced=spec["scope"] == "Namespaced",
            versions=by_priority(v["name"] for v in spec["versions"] if v.get("served")),
            storage=next(str(v["name"]) for v in spec["versions"] if v.get("storage")),
            schemas=schemas,
        )
    except (KeyError, TypeError, AttributeError, StopIteration):
        name = (parsed.get("metadata") or {}).get("name", "a kind")
        raise _unreadable(str(name)) from None


def _schemas(versions: list[Any]) -> dict[str, Schema]:
    schemas: dict[str, Schema] = {}
    for version in versions:
        given = (version.get("schema") or {}).get("openAPIV3Schema")
        schema = _without_prose(given) if isinstance(given, dict) else _ANYTHING
        same = next((known for known in schemas.values() if known == schema), schema)
        schemas[version["name"]] = same
    return schemas


def _without_prose(schema: Schema) -> Schema:
    """A structural schema without its descriptions; fields that are called so stay."""
    result: Schema = {}
    for name, part in schema.items():
        if name in _PROSE:
            continue
        if name == "properties" and isinstance(part, dict):
            result[name] = {key: _without_prose(value) for key, value in part.items()}
        elif name in ("default", "enum", "x-kubernetes-validations"):
            result[name] = part
        elif isinstance(part, dict):
            result[name] = _without_prose(part)
        elif isinstance(part, list):
            result[name] = [_without_prose(p) if isinstance(p, dict) else p for p in part]
        else:
            result[name] = part
    return result
