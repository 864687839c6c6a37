"""Versions, as the names of images tell them, and which go together."""

from __future__ import annotations

import re

from services.topology.cluster.objects import Runs

PROXY = "istio-proxy"

_MINOR = re.compile(r"(\d+)\.(\d+)")
_TAG = re.compile(r":([\w][\w.-]{0,127})$")


def tag_of(image: str) -> str:
    """The tag; "" for an image named by its digest alone, or without a tag."""
    found = _TAG.search(image.partition("@")[0])
    return found[1] if found else ""


def image_of(runs: Runs, container: str) -> str:
    """The image of a container, "" where there is none of that name."""
    return next((c.image for c in runs.containers if c.name == container), "")


def proxy_version(runs: Runs) -> str:
    """Version of Istio's proxy by its image's tag; "" without a proxy, or with an image that the
    webhook has yet to choose (`auto`)."""
    return tag_of(image_of(runs, PROXY))


def is_supported(proxy: str, control_plane: str) -> bool:
    """Whether Istio supports a proxy under a control plane, by their versions: one of the same
    minor version, or of the one before. What is no version is not judged."""
    own, wanted = _MINOR.match(proxy), _MINOR.match(control_plane)
    if own is None or wanted is None:
        return True
    (major, minor), (wanted_major, wanted_minor) = (map(int, v.groups()) for v in (own, wanted))
    return major == wanted_major and 0 <= wanted_minor - minor <= 1
