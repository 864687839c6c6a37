"""All changes of behaviour that are known, and those that lie between two versions."""

from __future__ import annotations

from services.translator.istio.reading import Minor
from services.translator.upgrades.behaviours import Behaviour
from services.translator.upgrades.formerchanges import FORMER_CHANGES
from services.translator.upgrades.recentchanges import RECENT_CHANGES

BEHAVIOURS: tuple[Behaviour, ...] = FORMER_CHANGES + RECENT_CHANGES


def behaviours_between(current: Minor, target: Minor) -> tuple[Behaviour, ...]:
    """The changes after `current` up to and with `target`, oldest first."""
    return tuple(known for known in BEHAVIOURS if current < known.minor <= target)
