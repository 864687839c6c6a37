"""Labels of clusters: what a kubeconfig says of its own, and what questions and waves choose by.

extensions: [{name: meshbus.io/labels, extension: {region: eu, tier: edge}}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from services.chassis.bus.subjects import is_region
from services.chassis.errors import OptionsMalformed

EXTENSION = "meshbus.io/labels"
"""Of a kubeconfig's context or cluster."""
_REGIONS = ("region", "topology.kubernetes.io/region")
"""The labels that say it; the first that is there counts."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=253)]
_LABELS = TypeAdapter(Annotated[dict[Text, Text], Field(max_length=32)])
FORM = "write it as {region: eu}, with at most 32 labels"


def read_labels(written: Any) -> dict[str, str]:
    """Labels as somebody wrote them, none for nothing; raises `ValueError` for what are none."""
    try:
        return _LABELS.validate_python({} if written is None else written, strict=True)
    except ValidationError:
        raise ValueError("it is no mapping of texts") from None


def own_labels(extensions: Mapping[str, Any]) -> dict[str, str]:
    """What a cluster's kubeconfig says of itself; raises `OptionsMalformed` for what are no
    labels."""
    try:
        return read_labels(extensions.get(EXTENSION))
    except ValueError:
        raise OptionsMalformed(
            f"the extension {EXTENSION} of the kubeconfig is no mapping of texts",
            cause="clusters are chosen by their labels",
            remedy=FORM,
        ) from None


def region_of(labels: Mapping[str, str]) -> str:
    """The region that a cluster says it is in; "" where it names none that could be one."""
    named = next((labels[name] for name in _REGIONS if name in labels), "")
    return named if is_region(named) else ""


def has_labels(own: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a cluster is one of those that are chosen: it has all of them, with these values."""
    return wanted.items() <= own.items()
