"""Options in a request's body: documents of Meshbus among any others.

Meshery sends with every operation what its editor happens to hold, so a body is searched for the
document that the operation takes, and the rest is left alone, also what another operation of ours
takes. But the operation's own document is never left alone: one that is wrong is an error.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from services.chassis.errors import ManifestMalformed, MeshbusError, OptionsMalformed, shortened
from services.chassis.kube.manifests import parse_documents

API_VERSION = "meshbus.io/v1"
KINDS = frozenset(
    {
        "AddonOptions",
        "AmbientOptions",
        "ApplicationOptions",
        "LifecycleOptions",
        "MultiClusterOptions",
        "PerformanceOptions",
        "PolicyOptions",
        "RolloutOptions",
        "RoutingOptions",
        "TranslationOptions",
    }
)
"""Of all operations: what another one takes is left alone, and what none takes is a mistake."""

T = TypeVar("T", bound=BaseModel)


def find_options(body: str, kind: str, model: type[T]) -> T | None:
    """The spec of the document `kind` in `body`, checked; None without such a document.

    Raises `OptionsMalformed` for one that cannot be used, for a second one, and for a body that
    seems to hold one and cannot be read.
    """
    if API_VERSION not in body or kind not in body:
        return None
    try:
        documents = [d for d in parse_documents(body) if isinstance(d, dict)]
    except ManifestMalformed as error:
        raise OptionsMalformed(
            error.summary.replace("the manifest", "the body"), cause=error.cause
        ) from None
    own = [d for d in documents if (d.get("apiVersion"), d.get("kind")) == (API_VERSION, kind)]
    if len(own) > 1:
        raise OptionsMalformed(f"the body holds more than one {kind}")
    return read_options(own[0], kind, model) if own else None


def read_options(
    document: dict[str, Any],
    kind: str,
    model: type[T],
    *,
    malformed: type[MeshbusError] = OptionsMalformed,
) -> T:
    """The document's spec as `model`; raises `malformed` with the field."""
    spec = document.get("spec")
    try:
        return model.model_validate({} if spec is None else spec, strict=True)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(("spec", *(str(part) for part in found["loc"])))
        # What a validator of ours says has pydantic's word for it before it.
        problem = found["msg"].removeprefix("Value error, ")
        raise malformed(f"{shortened(place)} of the {kind}: {problem}") from None
