"""All rules, and what is said about each code."""

from __future__ import annotations

from services.topology.analysis.ist import catalog as ist
from services.topology.analysis.kia import catalog as kia

RULES = (*ist.RULES, *kia.RULES)
ENTRIES = (*ist.ENTRIES, *kia.ENTRIES)
