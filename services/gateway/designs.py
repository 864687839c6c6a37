"""Calls that deploy components of a design: ProcessOAM and Provision, laid into one body.

Meshery's declarations carry the whole model of a component, and in it the credentials of the
cluster that registered the model. They are dropped here, before anything is stored: only what a
component is made of goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from services.chassis.errors import MalformedRequest, RequestTooLarge
from services.chassis.kube.manifests import parse_documents

KIND = "design"
"""The operation that the call becomes; the translator offers it."""

_DECLARATION = {
    "schemaVersion": None,
    "id": None,
    "displayName": None,
    "configuration": None,
    "component": {"kind": None, "version": None},
    "model": {"name": None, "version": None, "model": {"version": None}},
    "metadata": {"dependsOn": None, "isAnnotation": None, "isNamespaced": None},
    "traits": None,
}
_COMPONENT = {"kind": None, "apiVersion": None, "metadata": None, "spec": None}
_SECRET_PARTS = ("registrant", "connection")


def process_oam_body(components: Sequence[str], config: str, *, limit: int) -> str:
    """The body for ProcessOAM's components and their ApplicationConfiguration."""
    kept = [_kept(text, _COMPONENT, what=f"oam_comps[{i}]") for i, text in enumerate(components)]
    _require(kept, "oam_comps")
    return _body({"components": kept, "config": config}, limit=limit)


def provision_body(declarations: Sequence[str], *, limit: int) -> str:
    """The body for Provision's declarations."""
    kept = [_kept(t, _DECLARATION, what=f"declarations[{i}]") for i, t in enumerate(declarations)]
    _require(kept, "declarations")
    return _body({"declarations": kept}, limit=limit)


def without_registrants(body: str) -> str:
    """A manifest in which designs have lost their registrants' credentials; others stay as text."""
    if not any(part in body for part in _SECRET_PARTS) or "schemaVersion" not in body:
        return body
    documents = list(parse_documents(body))
    if not any(_is_design(document) for document in documents):
        return body
    for document in documents:
        if _is_design(document):
            for component in document.get("components") or []:
                _drop(component)
    # JSON is YAML, and dumping it is fast.
    return "\n---\n".join(orjson.dumps(document).decode() for document in documents)


def _is_design(document: Any) -> bool:
    return isinstance(document, dict) and str(document.get("schemaVersion", "")).startswith(
        "designs.meshery.io/"
    )


def _drop(component: Any) -> None:
    if not isinstance(component, dict):
        return
    for holder in (component, component.get("model")):
        if isinstance(holder, dict):
            for part in _SECRET_PARTS:
                holder.pop(part, None)


def _kept(text: str, allowed: dict[str, Any], *, what: str) -> str:
    """A component's JSON with the allowed parts only."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise MalformedRequest(f"{what} is not a JSON object")
    if str(value.get("apiVersion", "")).startswith("core.oam.dev/"):
        allowed = _COMPONENT
    return orjson.dumps(_allowed(value, allowed)).decode()


def _allowed(value: dict[str, Any], allowed: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, inner in allowed.items():
        if key not in value:
            continue
        part = value[key]
        if inner is None:
            kept[key] = part
        elif isinstance(part, dict):
            kept[key] = _allowed(part, inner)
    return kept


def _require(kept: Sequence[str], field: str) -> None:
    if not kept:
        raise MalformedRequest(f"{field} is empty: there is no component to deploy")


def _body(call: dict[str, Any], *, limit: int) -> str:
    body = orjson.dumps(call).decode()
    size = len(body.encode())
    if size > limit:
        raise RequestTooLarge(f"the components have {size} bytes, the limit is {limit}")
    return body
