"""The input: YAML or JSON text as documents, and the line of every place in them.

Reading is the chassis' bounded one (`chassis/kube/manifests.py`): aliases, tags, duplicate keys,
depth, number and size are refused there with their line. Lines of single fields are looked up only
for findings, because that takes another pass over the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from services.chassis.errors import ManifestMalformed
from services.chassis.kube.manifests import read_documents, unpacked
from services.chassis.kube.objects import Ref
from services.chassis.reading.yamls import Place, document_places
from services.translator.designs import is_design
from services.translator.options import Options, is_options, parse_options
from services.translator.reports import Finding, Path

_Identity: TypeAlias = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Document:
    """One object of the input, or one design."""

    number: int
    """Of the YAML document that it stands in, from 1."""
    value: dict[str, Any]
    prefix: Path = ()
    """Path in the document at which the object begins: objects of a List stand deeper."""


@dataclass(slots=True)
class Input:
    """A request's body, read."""

    text: str
    objects: list[Document]
    designs: list[Document]
    options: Options
    _places: list[Place] | None = field(default=None, repr=False)

    def located(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings with document and line, in the input's order.

        A finding belongs to the first object with its subject's group, kind, namespace and name.
        """
        documents: dict[_Identity, Document] = {}
        for document in self.objects:
            documents.setdefault(_identity(Ref.of(document.value)), document)
        placed = [
            self._placed(finding, documents.get(_identity(finding.subject))) for finding in findings
        ]
        return sorted(
            placed, key=lambda f: (f.document, f.line, str(f.subject), f.place, f.message)
        )

    def _placed(self, finding: Finding, document: Document | None) -> Finding:
        if document is None:
            return finding
        line = self._line(document.number, document.prefix + finding.path)
        return finding.at(document=document.number, line=line)

    def _line(self, number: int, path: Path) -> int:
        if self._places is None:
            self._places = list(document_places(self.text))
        place = self._places[number - 1]
        for part in path:
            found = place.parts.get(part) or place.parts.get(str(part))
            if found is None:
                break
            place = found
        return place.line


def read_input(text: str) -> Input:
    """The objects, designs and options in `text`; raises `ManifestMalformed` or its kin."""
    if not text.strip():
        raise ManifestMalformed("the request has no manifest in its body")
    objects: list[Document] = []
    designs: list[Document] = []
    options: Options | None = None
    for number, value in read_documents(text):
        if is_design(value):
            designs.append(Document(number, value))
        elif is_options(value):
            if options is not None:
                raise ManifestMalformed(f"document {number}: there are TranslationOptions already")
            options = parse_options(value)
        else:
            objects += [
                Document(number, obj, prefix)
                for obj, prefix in unpacked(value, where=f"document {number}")
            ]
    if not objects and not designs:
        raise ManifestMalformed("the manifest holds no object")
    return Input(text, objects, designs, options or Options())


def _identity(ref: Ref) -> _Identity:
    """The object without its version: a finding may be about its current form."""
    return (ref.group, ref.kind, ref.namespace, ref.name)
