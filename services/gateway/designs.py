"""Calls that deploy components of a design: ProcessOAM and Provision, laid into one body.

Meshery's declarations carry the whole model of a component, and in it the credentials of the
cluster that registered the model. They are dropped here, before anything is stored: only what a
component is made of goes on. The same holds for designs in a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from services.chassis.errors import MalformedRequest, RequestTooLarge
from services.chassis.kube.manifests import read_documents
from services.chassis.reading.jsons import read_json
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import document_lines

KIND = "design"
"""The operation that the call becomes; the translator offers it."""

Kept: TypeAlias = "str | Mapping[str, Kept]"
"""What stays of a value: text, numbers and lists of them (`_PLAIN`), all of it (`_WHOLE`), or of a
mapping, and of the mappings in a list, the named fields; `*` names all the others."""
_PLAIN = "plain"
_WHOLE = "whole"

# The first two are those of a trait, the others of `meshmap`, which is the component on the canvas.
_TRAIT: Kept = {
    "policy": _PLAIN,
    "namespaces": _PLAIN,
    "id": _PLAIN,
    "meshmodel-metadata": {"isAnnotation": _PLAIN},
}
_MODEL: Kept = {"name": _PLAIN, "version": _PLAIN, "model": {"version": _PLAIN}}
_LABELS: Kept = {"*": _PLAIN}
_COMPONENT: Kept = {
    "schemaVersion": _PLAIN,
    "apiVersion": _PLAIN,
    "kind": _PLAIN,
    "id": _PLAIN,
    "displayName": _PLAIN,
    "configuration": _WHOLE,
    "component": {"kind": _PLAIN, "version": _PLAIN},
    "model": _MODEL,
    "modelReference": _MODEL,
    "metadata": {
        "name": _PLAIN,
        "namespace": _PLAIN,
        "labels": _LABELS,
        "annotations": _LABELS,
        "dependsOn": _PLAIN,
        "isAnnotation": _PLAIN,
        "isNamespaced": _PLAIN,
    },
    "spec": {
        "type": _PLAIN,
        "version": _PLAIN,
        "apiVersion": _PLAIN,
        "model": _PLAIN,
        "settings": _WHOLE,
    },
    "traits": {"*": _TRAIT},
}
"""A component of ProcessOAM or of Provision, of any generation."""
_CONFIGURATION: Kept = {
    "apiVersion": _PLAIN,
    "kind": _PLAIN,
    "metadata": {"name": _PLAIN},
    "spec": {
        "components": {
            "componentName": _PLAIN,
            "traits": {"name": _PLAIN, "properties": _TRAIT},
        }
    },
}
_SERVICE: Kept = {
    "name": _PLAIN,
    "type": _PLAIN,
    "id": _PLAIN,
    "apiVersion": _PLAIN,
    "model": _PLAIN,
    "version": _PLAIN,
    "namespace": _PLAIN,
    "labels": _LABELS,
    "annotations": _LABELS,
    "dependsOn": _PLAIN,
    "isAnnotation": _PLAIN,
    "settings": _WHOLE,
    "traits": {"*": _TRAIT},
}
_DESIGN: Kept = {
    "schemaVersion": _PLAIN,
    "name": _PLAIN,
    "components": _COMPONENT,
    "services": {"*": _SERVICE},
}
# Text without these holds nothing of Meshery's that could carry a secret.
_MARKS = ("schemaVersion", "meshmodel-", "registrant")
_SLICE = 128 * 1024
# A line with its end, which may be any of YAML 1.1's.
_LINE = re.compile(
    "[^\n\r\x85\u2028\u2029]*(?:\r\n|[\n\r\x85\u2028\u2029])|[^\n\r\x85\u2028\u2029]+"
)
# JSON has these as they are; YAML takes them for line ends, or not at all.
_UNLIKE_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def process_oam_body(components: Sequence[str], config: str, *, limit: int) -> str:
    """The body for ProcessOAM's components and their ApplicationConfiguration."""
    budget = Budget.fresh(is_shared=True)
    kept = _all_kept(components, field="oam_comps", budget=budget)
    # Go writes a configuration that is not there as null.
    given = config.strip() not in ("", "null")
    settled = _kept(config, _CONFIGURATION, what="oam_config", budget=budget) if given else ""
    return _body({"components": kept, "config": settled}, limit=limit)


def provision_body(declarations: Sequence[str], *, limit: int) -> str:
    """The body for Provision's declarations."""
    budget = Budget.fresh(is_shared=True)
    kept = _all_kept(declarations, field="declarations", budget=budget)
    return _body({"declarations": kept}, limit=limit)


def without_registrants(body: str) -> str:
    """A manifest whose designs have lost their registrants' credentials; all else stays as text.

    Lines keep their numbers. Raises `ManifestMalformed` for a text that may hold a design and
    cannot be read.
    """
    if not _is_marked(body):
        return body
    designs = {number: value for number, value in read_documents(body) if _is_design(value)}
    if not designs:
        return body
    parts = [
        _rewritten(designs[number], lines=len(lines)) if number in designs else "".join(lines)
        for number, lines in _document_lines(body)
    ]
    return "".join(parts)


def _is_marked(body: str) -> bool:
    """Looked for in slices that overlap: nobody else runs while one is searched."""
    longest = max(map(len, _MARKS))
    return any(
        body.find(mark, start, start + _SLICE + longest) >= 0
        for start in range(0, len(body), _SLICE)
        for mark in _MARKS
    )


def _is_design(document: Any) -> bool:
    """True for a design of any generation, and for other documents of Meshery's with a schema."""
    if not isinstance(document, dict):
        return False
    if "meshery.io/" in str(document.get("schemaVersion", "")):
        return True
    services = document.get("services")
    return "kind" not in document and isinstance(services, dict)


def _document_lines(body: str) -> Iterator[tuple[int, list[str]]]:
    """Each document's number and its lines: every document begins a new one."""
    lines = _LINE.findall(body)
    starts = [line - 1 for line in document_lines(body)]
    ends = [*starts[1:], len(lines)]
    # Comments may stand before the first document.
    starts[0] = 0
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1):
        yield number, lines[start:end]


def _rewritten(document: dict[str, Any], *, lines: int) -> str:
    """A design as one line, with empty ones after it."""
    kept = orjson.dumps(_allowed(document, _DESIGN)).decode()
    text = _UNLIKE_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", kept)
    # Directives of the next document may only follow an end that is told.
    return f"--- {text}\n" if lines == 1 else f"--- {text}\n...\n" + "\n" * (lines - 2)


def _all_kept(texts: Sequence[str], *, field: str, budget: Budget) -> list[str]:
    if not texts:
        raise MalformedRequest(f"{field} is empty: there is no component to deploy")
    return [
        _kept(text, _COMPONENT, what=f"{field}[{index}]", budget=budget)
        for index, text in enumerate(texts)
    ]


def _kept(text: str, allowed: Kept, *, what: str, budget: Budget) -> str:
    """A component's JSON with the allowed parts only."""
    try:
        value = read_json(text, budget=budget)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise MalformedRequest(f"{what} is not a JSON object")
    try:
        return orjson.dumps(_allowed(value, allowed)).decode()
    except (orjson.JSONEncodeError, RecursionError):
        raise MalformedRequest(f"{what} is nested too deeply") from None


def _allowed(value: Any, allowed: Kept) -> Any:
    """The allowed parts of a value; None for a value of another form.

    Fields are known in any case: Go reads them so, and writes those of a configuration so.
    """
    if allowed == _WHOLE:
        return value
    if isinstance(value, list):
        return [_allowed(item, allowed) for item in value]
    if isinstance(allowed, str):
        return None if isinstance(value, dict) else value
    if not isinstance(value, dict):
        return None
    by_name = {name.lower(): inner for name, inner in allowed.items()}
    kept: dict[str, Any] = {}
    for name, part in value.items():
        inner = by_name.get(name.lower(), by_name.get("*"))
        if inner is not None:
            kept[name] = _allowed(part, inner)
    return kept


def _body(call: dict[str, Any], *, limit: int) -> str:
    body = orjson.dumps(call).decode()
    size = len(body.encode())
    if size > limit:
        raise RequestTooLarge(f"the components have {size} bytes, the limit is {limit}")
    return body
