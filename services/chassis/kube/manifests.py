"""Multi-document manifests: YAML text to objects, with bounds, and the words of kubectl.

YAML 1.1 readings that kubectl does not share (dates, sexagesimal numbers, `=`) are left as text,
and those that only kubectl has (`1e3`, `0o17`, `y`) are read as it reads them. Duplicate keys are
refused instead of silently dropped, and nothing is read that JSON cannot carry.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, ClassVar

import yaml

from services.chassis.errors import ManifestMalformed, shortened
from services.chassis.kube.objects import KubeObject

SIZE_LIMIT_BYTES = 8 * 1024 * 1024
DOCUMENT_LIMIT = 5000
_DEPTH_LIMIT = 100
_TEXT = "tag:yaml.org,2002:str"
_TEXT_ONLY = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_INTEGERS = range(-(2**63), 2**64)
_FLOAT = r"[-+]?((\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)[eE][-+]?[0-9][0-9_]*|0[0-9_]*[89][0-9_]*)\Z"
_KUBECTL_ONLY = (
    ("tag:yaml.org,2002:float", re.compile(_FLOAT), "-+.0123456789"),
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?0o[0-7_]*[0-7]\Z"), "-+0"),
    ("tag:yaml.org,2002:bool", re.compile(r"[yYnN]\Z"), "yYnN"),
)
"""What kubectl takes for more than text and PyYAML does not: tag, form, possible first letters."""
# What can stand in a URL's path as it is; Kubernetes itself refuses most of the rest.
_NAME = re.compile(r"(?!\.{1,2}\Z)[^\s/%?#\x00-\x1f\x7f]{1,253}\Z")


class Loader(yaml.CSafeLoader):
    """CSafeLoader without dates, with text as keys, and with an error for duplicate ones."""

    bool_values: ClassVar = {**yaml.CSafeLoader.bool_values, "y": True, "n": False}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        is_plain = True
        for key_node, _ in node.value:
            is_plain = is_plain and key_node.tag == _TEXT
            key = str(getattr(key_node, "value", ""))
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key[:64]!r} stands there twice", key_node.start_mark
                )
            seen.add(key)
        mapping = super().construct_mapping(node, deep=deep)
        return mapping if is_plain else {_key(key, node): mapping[key] for key in mapping}


def _key(key: Hashable, node: yaml.Node) -> str:
    """A key as kubectl makes JSON of it."""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (str, int, float)):
        return str(key)
    raise yaml.constructor.ConstructorError(
        None, None, "a key is neither text nor a number", node.start_mark
    )


def _integer(loader: Loader, node: yaml.ScalarNode) -> int | str:
    # Base 60 is text to kubectl, and its reading takes time that grows with the square.
    if ":" in node.value:
        return str(node.value)
    number = loader.construct_yaml_int(node)
    if number not in _INTEGERS:
        raise yaml.constructor.ConstructorError(
            None, None, "the number has more than 64 bits", node.start_mark
        )
    return number


def _float(loader: Loader, node: yaml.ScalarNode) -> float | int | str:
    if ":" in node.value:
        return str(node.value)
    number = loader.construct_yaml_float(node)
    if not math.isfinite(number):
        raise yaml.constructor.ConstructorError(
            None, None, "the number is not finite", node.start_mark
        )
    # Go writes a whole number without a point, and a field of whole numbers takes no other.
    whole = int(number)
    return whole if whole == number and whole in _INTEGERS else number


Loader.add_constructor("tag:yaml.org,2002:int", _integer)
Loader.add_constructor("tag:yaml.org,2002:float", _float)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT_ONLY]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class Dumper(yaml.CSafeDumper):
    """CSafeDumper that quotes text which kubectl would read as another type.

    What two places share is written out in both, because aliases are not taken.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _form, _first in _KUBECTL_ONLY:
    Loader.add_implicit_resolver(_tag, _form, list(_first))
    Dumper.add_implicit_resolver(_tag, _form, list(_first))


def dump_manifest(objects: Iterable[KubeObject]) -> str:
    """A manifest with the objects, one document each."""
    return yaml.dump_all(objects, Dumper=Dumper, sort_keys=False)


def parse_manifest(text: str) -> list[KubeObject]:
    """All objects of a manifest, `List` objects unpacked; raises `ManifestMalformed`."""
    objects: list[KubeObject] = []
    for number, document in read_documents(text):
        objects.extend(obj for obj, _ in unpacked(document, where=f"document {number}"))
    if not objects:
        raise ManifestMalformed("the manifest holds no object")
    return objects


def parse_documents(text: str) -> Iterator[Any]:
    """The non-empty YAML documents of `text`; raises `ManifestMalformed` with the line."""
    return (document for _, document in read_documents(text))


def read_documents(text: str) -> Iterator[tuple[int, Any]]:
    """The same with each document's number, from 1; empty ones count but do not come."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > SIZE_LIMIT_BYTES:
        raise ManifestMalformed(f"the manifest has {size} bytes, the limit is {SIZE_LIMIT_BYTES}")
    try:
        _check_structure(text)
        for number, document in enumerate(yaml.load_all(text, Loader=Loader), start=1):
            if document is not None:
                yield number, document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        problem = str(getattr(error, "problem", "") or "it cannot be read")[:120]
        raise ManifestMalformed(f"the manifest is not YAML: {place}{problem}") from None
    except (ValueError, RecursionError, TypeError):
        raise ManifestMalformed("the manifest holds a value that cannot be read") from None


def parse_trusted_document(text: str) -> KubeObject | None:
    """One document that our own tools rendered: no bounds needed, so the text is read once."""
    document = yaml.load(text, Loader=Loader)
    return document if isinstance(document, dict) and document.get("kind") else None


def _check_structure(text: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ManifestMalformed(
                f"line {_line(event)}: YAML aliases are not taken",
                remedy="write the repeated part out",
            )
        if has_foreign_tag(event):
            raise ManifestMalformed(
                f"line {_line(event)}: YAML tags are not taken",
                remedy="write the value without its tag",
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH_LIMIT:
                raise ManifestMalformed(
                    f"line {_line(event)}: nested more than {_DEPTH_LIMIT} levels deep"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > DOCUMENT_LIMIT:
                raise ManifestMalformed(f"the manifest has more than {DOCUMENT_LIMIT} documents")


def has_foreign_tag(event: yaml.Event) -> bool:
    """True for an explicit tag that asks for more than text."""
    return getattr(event, "tag", None) not in (None, "!", _TEXT)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def unpacked(document: Any, *, where: str) -> Iterator[tuple[KubeObject, tuple[str | int, ...]]]:
    """The objects of a document, checked, each with its path: those of a List stand deeper."""
    if not isinstance(document, dict):
        raise ManifestMalformed(f"{where} is not a mapping")
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for index, item in enumerate(document["items"]):
            for obj, path in unpacked(item, where=f"{where}, item {index + 1}"):
                yield obj, ("items", index, *path)
        return
    for name in ("apiVersion", "kind"):
        if not isinstance(document.get(name), str) or not document[name]:
            raise ManifestMalformed(f"{where} has no {name}")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        generated = isinstance(metadata, dict) and "generateName" in metadata
        raise ManifestMalformed(
            f"{where} ({shortened(document['kind'])}) has no metadata.name",
            cause=(
                "generateName would make a new object with each repeat"
                if generated
                else "every object that is applied needs a name"
            ),
        )
    _check_metadata(metadata, where=f"{where} ({shortened(document['kind'])})")
    yield document, ()


def _check_metadata(metadata: dict[str, Any], *, where: str) -> None:
    """Names become parts of a URL, so they are checked before one is made of them."""
    for field in ("name", "namespace"):
        value = metadata.get(field)
        if value in (None, ""):
            continue
        if not (isinstance(value, str) and _NAME.match(value)):
            raise ManifestMalformed(f"{where}: metadata.{field} is not a name")
    for field in ("labels", "annotations"):
        if not isinstance(metadata.get(field) or {}, dict):
            raise ManifestMalformed(f"{where}: metadata.{field} is not a mapping")
