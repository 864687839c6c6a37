"""One model for designs of all generations: components, their settings and their traits.

Only what is needed later is carried on. A declaration of Meshery's carries its whole model, and the
model's registrant carries the credentials of the cluster that registered it, so nothing is copied
that is not named here, and what may be secret stays out of every `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.chassis.errors import DesignMalformed
from services.chassis.kube.objects import Ref
from services.translator.reports import Line, Report

COMPONENT_LIMIT = 1000
_MOST_ERRORS = 20

# Meshery's own notes on an object: where it came from and where it stands on the canvas.
_BOOKKEEPING = ("design.meshmodel.io", "pattern.meshery.io", "resource.pattern.meshery.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One component. Texts that its generation does not tell are empty."""

    name: str
    """Name of the object."""
    kind: str
    """Without a suffix such as `.Istio` and without the `/` of the core group."""
    api_version: str = ""
    model: str = ""
    model_version: str = ""
    """Such as `1.31.0`: the version of what the model describes, not of its description."""
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The user's own; Meshery's bookkeeping is dropped."""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """In either of the two shapes (see objects.py), with the fields' real names."""
    depends_on: tuple[str, ...] = ()
    """Ids, keys or names of other components."""
    traits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Properties by name; those of unknown traits are dropped."""
    is_annotation: bool = False
    """Whether it is only a drawing on the canvas."""
    ids: tuple[str, ...] = ()
    """Identifiers by which others may refer to it, beside its name."""

    @property
    def ref(self) -> Ref:
        """The subject of what is reported about it."""
        return ref_of(self.kind or "component", quoted(self.name))

    @property
    def label(self) -> str:
        return str(self.ref)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A design as it was read; `lines` has the parts that were left out."""

    name: str = ""
    components: tuple[Component, ...] = ()
    lines: tuple[Line, ...] = ()


def is_bookkeeping(key: str) -> bool:
    """True for a label or an annotation that is Meshery's own."""
    return any(key == own or key.startswith(own + ".") for own in _BOOKKEEPING) or (
        key.startswith("resource.pattern.meshery.io/")
    )


def quoted(text: object) -> str:
    """A user's name for an error's text: in quotes, cut to 64 characters."""
    return repr(str(text)[:64])


def ref_of(kind: str, name: object) -> Ref:
    """A component, or another part of a design, as the subject of what is reported about it."""
    return Ref(api_version="", kind=kind, namespace="", name=str(name))


THE_DESIGN = ref_of("the", "design")


def refuse(report: Report) -> None:
    """Raises `DesignMalformed` with every error (the first twenty in words), if there is any.

    An error names the component and the field; it never repeats a value, because settings may hold
    secrets.
    """
    texts = list(dict.fromkeys(f"{one.subject}: {one.message}" for one in report.findings))
    if not texts:
        return
    more = len(texts) - _MOST_ERRORS
    tail = f"; and {more} more problems" if more > 0 else ""
    raise DesignMalformed("; ".join(texts[:_MOST_ERRORS]) + tail)
