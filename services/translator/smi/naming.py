"""Names of what is made out of SMI objects, and the marks that say where it came from.

Names follow from the source alone, so that a repeat finds its objects again. Names of Kubernetes
objects end up in host names and in principals, where `*` is a wildcard: `is_label` and
`is_subdomain` say what Kubernetes itself would take.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages.following import TRANSLATED_FROM
from services.translator.istio.objects import managed

_NAME_LIMIT = 253
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")


def is_label(text: str) -> bool:
    """Whether `text` can name a Service or a namespace."""
    return bool(_LABEL.match(text))


def is_subdomain(text: str) -> bool:
    """Whether `text` can name most other objects."""
    return len(text) <= _NAME_LIMIT and bool(_SUBDOMAIN.match(text))


def origin_of(ref: Ref) -> str:
    """The value of `TRANSLATED_FROM`. It has no version: all versions are one object."""
    return f"{ref.kind}.{ref.group} {ref.namespace}/{ref.name}"


def digest_of(*parts: str) -> str:
    """Ten hexadecimal digits that tell `parts` apart."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def derived_name(base: str, suffix: str) -> str:
    """`<base>-<suffix>`; a longer name than Kubernetes takes is cut and made unique again."""
    name = f"{base}-{suffix}"
    if len(name) <= _NAME_LIMIT:
        return name
    tail = f"{digest_of(name)}-{suffix}"
    return f"{base[: _NAME_LIMIT - len(tail) - 1].rstrip('-.')}-{tail}"


def made(ref: Ref, *, origin: str, spec: Mapping[str, Any]) -> KubeObject:
    """An object that says what it was translated from."""
    return managed(ref, spec, annotations={TRANSLATED_FROM: origin})
