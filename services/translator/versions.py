"""Istio versions, as far as choosing definitions needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PATTERN = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?:-([0-9A-Za-z.-]{1,32}))?\Z")


def parsed(text: str) -> tuple[int, int, int, bool] | None:
    """Major, minor, patch, and whether it is a release; None when `text` is no version."""
    found = _PATTERN.match(text.strip())
    if found is None:
        return None
    return (int(found[1]), int(found[2]), int(found[3] or 0), found[4] is None)


def newest_first(versions: Iterable[str]) -> list[str]:
    """Those that are versions, newest first."""
    known = [(parsed(version), version) for version in versions]
    return [version for key, version in sorted((k, v) for k, v in known if k)][::-1]


def nearest(wanted: str, available: Iterable[str]) -> str:
    """The available version whose definitions hold for `wanted`: itself, or one of its minor.

    "" when there is none: definitions change from minor to minor, not within one.
    """
    key = parsed(wanted)
    if key is None:
        return ""
    same = [v for v in newest_first(available) if (p := parsed(v)) and p[:2] == key[:2]]
    if wanted in same:
        return wanted
    exact = [v for v in same if parsed(v) == key]
    return (exact or same or [""])[0]
