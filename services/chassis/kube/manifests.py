"""Multi-document manifests: YAML text to objects, with bounds, and the words of kubectl.

YAML 1.1 readings that kubectl does not share (dates, sexagesimal numbers) are left as text, and
duplicate keys are refused instead of silently dropped.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from services.chassis.errors import ManifestMalformed
from services.chassis.kube.objects import KubeObject

SIZE_LIMIT_BYTES = 8 * 1024 * 1024
DOCUMENT_LIMIT = 5000
_DEPTH_LIMIT = 100
_TEXT_ONLY = ("tag:yaml.org,2002:timestamp",)


class _Loader(yaml.CSafeLoader):
    """CSafeLoader without dates, and with an error for duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(getattr(key_node, "value", ""))
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key[:64]!r} stands there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT_ONLY]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def parse_manifest(text: str) -> list[KubeObject]:
    """All objects of a manifest, `List` objects unpacked; raises `ManifestMalformed`."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > SIZE_LIMIT_BYTES:
        raise ManifestMalformed(f"the manifest has {size} bytes, the limit is {SIZE_LIMIT_BYTES}")
    objects: list[KubeObject] = []
    for number, document in enumerate(parse_documents(text), start=1):
        objects.extend(_objects(document, where=f"document {number}"))
    if not objects:
        raise ManifestMalformed("the manifest holds no object")
    return objects


def parse_documents(text: str) -> Iterator[Any]:
    """The non-empty YAML documents of `text`; raises `ManifestMalformed` with the line."""
    try:
        _check_structure(text)
        for document in yaml.load_all(text, Loader=_Loader):
            if document is not None:
                yield document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        problem = str(getattr(error, "problem", "") or "it cannot be read")[:120]
        raise ManifestMalformed(f"the manifest is not YAML: {place}{problem}") from None
    except (ValueError, RecursionError, TypeError):
        raise ManifestMalformed("the manifest holds a value that cannot be read") from None


def parse_trusted_document(text: str) -> KubeObject | None:
    """One document that our own tools rendered: no bounds needed, so the text is read once."""
    document = yaml.load(text, Loader=_Loader)
    return document if isinstance(document, dict) and document.get("kind") else None


def _check_structure(text: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ManifestMalformed(
                f"line {_line(event)}: YAML aliases are not taken",
                remedy="write the repeated part out",
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


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def _objects(document: Any, *, where: str) -> Iterator[KubeObject]:
    if not isinstance(document, dict):
        raise ManifestMalformed(f"{where} is not a mapping")
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for index, item in enumerate(document["items"], start=1):
            yield from _objects(item, where=f"{where}, item {index}")
        return
    for name in ("apiVersion", "kind"):
        if not isinstance(document.get(name), str) or not document[name]:
            raise ManifestMalformed(f"{where} has no {name}")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        generated = isinstance(metadata, dict) and "generateName" in metadata
        raise ManifestMalformed(
            f"{where} ({document['kind']}) has no metadata.name",
            cause=(
                "generateName would make a new object with each repeat"
                if generated
                else "every object that is applied needs a name"
            ),
        )
    yield document
