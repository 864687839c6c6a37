"""Meshery's designs, all their generations, as objects and operations."""

from services.translator.designs.components import Component, Design
from services.translator.designs.expanding import Expansion, expand
from services.translator.designs.generations import (
    is_design,
    read_declarations,
    read_design,
    read_oam,
)

__all__ = [
    "Component",
    "Design",
    "Expansion",
    "expand",
    "is_design",
    "read_declarations",
    "read_design",
    "read_oam",
]
