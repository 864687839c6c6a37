"""Plans: what the translator hands to lifecycle, ready to be carried out step by step."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from services.chassis.messages.models import Message, Piece


class StepKind(StrEnum):
    """`manifest` writes objects; the others are lifecycle's operations of the same name."""

    MANIFEST = "manifest"
    MESH = "istio"
    INJECTION = "label-namespace"
    APPLICATION = "application"


class Step(Piece):
    """One step. Steps are carried out in the order in which they stand."""

    title: str
    """What it is about, such as `VirtualService default/reviews`."""
    kind: StepKind = StepKind.MANIFEST
    level: int = 0
    """Manifests that follow each other with the same level, other than 0, are written together."""
    is_deletion: bool = False
    objects: list[dict[str, Any]] = Field(default_factory=list)
    """Of a manifest, with their namespaces; of a deletion only their identities count."""
    obsolete: list[dict[str, Any]] = Field(default_factory=list)
    """Identities of objects that the step replaces: deleted after it, if Meshbus made them."""
    name: str = ""
    """Of an application: the operation that lifecycle offers for it."""
    namespace: str = ""
    """Of an injection or an application."""
    version: str = ""
    """Of a mesh."""
    body: str = ""
    """Of a mesh or an injection: what the operation takes as its body."""


class Plan(Message):
    """A translated operation."""

    steps: list[Step]
    summary: str
    """Summary of the final event when all is done."""
    details: str = ""
    """Its details; the steps' lines follow."""
    failing: str = "running the operation"
    """Completes `Error while …` when a step fails."""
    reports_lines: bool = False
    """Whether the final details have a line for each step, as designs do."""
