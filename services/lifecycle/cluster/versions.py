"""Istio versions: exact or refused, and which steps between them are safe.

An Istio control plane may be one minor ahead of its data plane, so an in-place upgrade goes one
minor at a time (https://istio.io/latest/docs/releases/supported-releases/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.chassis.errors import SampleMissing, VersionUnknown

_PATTERN = re.compile(r"v?(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:-([0-9A-Za-z.-]{1,32}))?\Z")

# Kubernetes minors (1.x) that an Istio minor supports, from Istio's release announcements.
SUPPORTED_KUBERNETES: dict[tuple[int, int], tuple[int, int]] = {
    (1, 31): (32, 36),
    (1, 29): (31, 35),
    (1, 28): (30, 34),
    (1, 27): (29, 33),
    (1, 25): (29, 32),
    (1, 24): (28, 31),
}


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version; a pre-release sorts before its release."""

    major: int
    minor: int
    patch: int
    is_release: bool = True
    pre_release: str = ""

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """None when `text` is not a version."""
        found = _PATTERN.match(text.strip())
        if found is None:
            return None
        pre = found[4] or ""
        return cls(int(found[1]), int(found[2]), int(found[3]), not pre, pre)

    @property
    def line(self) -> tuple[int, int]:
        """Major and minor, which skew rules compare."""
        return (self.major, self.minor)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        return f"{text}-{self.pre_release}" if self.pre_release else text


def choose_version(wanted: str, available: Iterable[str]) -> str:
    """The wanted version, or the newest when none is wanted; never silently another one."""
    parsed = {str(v): v for v in (Version.parse(text) for text in available) if v is not None}
    newest_first = sorted(parsed, key=lambda text: parsed[text], reverse=True)
    listing = ", ".join(newest_first) or "none"
    if not newest_first:
        raise VersionUnknown(
            "there is no Istio distribution at all",
            remedy="put <version>/bin/istioctl under MESHBUS_LIFECYCLE_DISTRIBUTIONS, or let "
            "releases be fetched (MESHBUS_LIFECYCLE_RELEASES)",
        )
    if not wanted.strip():
        return newest_first[0]
    version = Version.parse(wanted)
    if version is None or str(version) not in parsed:
        raise VersionUnknown(
            f"Istio {wanted.strip()[:64]!r} is not available; available: {listing}"
        )
    return str(version)


def choose_distribution(installed: str, available: Sequence[str]) -> tuple[str, str]:
    """The distribution to take samples from, and a warning ("" for none).

    Raises `SampleMissing` when there is none of the installed minor version.
    """
    parsed = {v: text for text in available if (v := Version.parse(text)) is not None}
    listing = ", ".join(parsed[v] for v in sorted(parsed, reverse=True)) or "none"
    wanted = Version.parse(installed)
    if not parsed:
        raise SampleMissing("there is no Istio distribution to take samples from")
    if wanted is None:
        newest = parsed[max(parsed)]
        found = f"Istio {installed!r}" if installed else "no Istio"
        return newest, f"the cluster shows {found}, so the samples are those of Istio {newest}"
    if wanted in parsed:
        return parsed[wanted], ""
    near = [v for v in parsed if v.line == wanted.line]
    if not near:
        minor = f"{wanted.major}.{wanted.minor}"
        raise SampleMissing(
            f"Istio {wanted} is installed, and no distribution of Istio {minor} is available; "
            f"available: {listing}",
            cause="samples of another minor version may not fit the mesh",
            remedy=f"add a distribution folder of Istio {minor}, or upgrade the mesh",
        )
    nearest = parsed[max(near, key=lambda v: (-abs(v.patch - wanted.patch), v.is_release, v))]
    return nearest, f"Istio {wanted} is installed, the samples are those of Istio {nearest}"


def unsafe_step(current: str, wanted: str) -> str:
    """Why an in-place change between two versions is refused; "" when it is fine."""
    before, after = Version.parse(current), Version.parse(wanted)
    if before is None or after is None:
        return ""
    if after < before:
        return f"{current} to {wanted} is a downgrade"
    if after.major != before.major or after.minor - before.minor > 1:
        return f"{current} to {wanted} jumps over more than one minor version"
    return ""


def kubernetes_range(version: str) -> tuple[int, int] | None:
    """Lowest and highest supported Kubernetes minor, or None when Istio never told us."""
    parsed = Version.parse(version)
    return SUPPORTED_KUBERNETES.get(parsed.line) if parsed else None
