"""Multi-document manifests: YAML text to objects, with bounds, and the words of kubectl.

How YAML is read stands in `chassis/reading/yamls.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import yaml

from services.chassis.errors import ManifestMalformed, shortened
from services.chassis.kube.objects import KubeObject
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import (
    KUBECTL_ONLY,
    YamlProblem,
    read_yaml,
    read_yaml_documents,
)

SIZE_LIMIT_BYTES = 8 * 1024 * 1024
DOCUMENT_LIMIT = 5000
# What can stand in a URL's path as it is; Kubernetes itself refuses most of the rest.
_NAME = re.compile(r"(?!\.{1,2}\Z)[^\s/%?#\x00-\x1f\x7f]{1,253}\Z")


class Dumper(yaml.CSafeDumper):
    """CSafeDumper that quotes text which kubectl would read as another type.

    What two places share is written out in both, because aliases are not taken.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _form, _first in KUBECTL_ONLY:
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
        # All of them before the first one is looked at: a text that is cut off holds no object.
        documents = list(islice(read_yaml_documents(text), DOCUMENT_LIMIT + 1))
    except YamlProblem as error:
        place = f"line {error.line}: " if error.line else ""
        words = "the manifest is not YAML: " if error.is_syntax else ""
        raise ManifestMalformed(f"{words}{place}{error}", remedy=error.remedy) from None
    if len(documents) > DOCUMENT_LIMIT:
        raise ManifestMalformed(f"the manifest has more than {DOCUMENT_LIMIT} documents")
    for number, document in enumerate(documents, start=1):
        if document is not None:
            yield number, document


def parse_trusted_document(text: str) -> KubeObject | None:
    """One document that our own tools rendered: no bounds needed. Raises `YamlProblem`."""
    document = read_yaml(text, budget=Budget.trusted())
    return document if isinstance(document, dict) and document.get("kind") else None


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
