"""Versions, as the names of images tell them."""

from __future__ import annotations

import re

from services.topology.cluster.objects import Runs

PROXY = "istio-proxy"

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
