"""Options in a request's body: documents of our own among whatever else stands there.

Meshery sends with every operation what its editor happens to hold, so a body is searched for our
documents and the rest is left alone; but one of ours that is wrong is an error, never a default.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from services.chassis.errors import ManifestMalformed, OptionsMalformed, shortened
from services.chassis.kube.manifests import parse_documents

API_VERSION = "meshbus.io/v1"

T = TypeVar("T", bound=BaseModel)


def find_options(body: str, kind: str, model: type[T]) -> T | None:
    """The spec of the document `kind` in `body`, checked; None when there is none.

    Raises `OptionsMalformed` for a document of ours that cannot be used.
    """
    if API_VERSION not in body:
        return None
    try:
        documents = [d for d in parse_documents(body) if isinstance(d, dict)]
    except ManifestMalformed as error:
        raise OptionsMalformed(
            error.summary.replace("the manifest", "the body"), cause=error.cause
        ) from None
    ours = [d for d in documents if d.get("apiVersion") == API_VERSION]
    strange = [d for d in ours if d.get("kind") != kind]
    if strange:
        raise OptionsMalformed(
            f"the body holds {str(strange[0].get('kind'))[:64]!r} of {API_VERSION}",
            remedy=f"this operation takes {kind}",
        )
    if len(ours) > 1:
        raise OptionsMalformed(f"the body holds more than one {kind}")
    return read_options(ours[0], kind, model) if ours else None


def read_options(document: dict[str, Any], kind: str, model: type[T]) -> T:
    """The document's spec as `model`; raises `OptionsMalformed` with the field."""
    try:
        return model.model_validate(document.get("spec") or {}, strict=True)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(("spec", *(str(part) for part in problem["loc"])))
        raise OptionsMalformed(f"{shortened(place)} of the {kind}: {problem['msg']}") from None
