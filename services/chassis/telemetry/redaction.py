"""Keeps secrets out of everything that leaves a process as text.

Three nets, because each has holes: key names that promise a secret, shapes that secrets have, and
the very values of the secrets in use, which their readers register.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

MASK = "[redacted]"

_SECRET_KEY = re.compile(
    r"(password|passwd|secret|token|seed|private|credential|authorization|kubeconfig|"
    r"key[-_]data|client[-_]certificate|custom[-_]body|declarations)",
    re.IGNORECASE,
)
# Keys that match the words above but hold names and numbers.
_HARMLESS_KEYS = frozenset({"token_kind", "credential_key", "secret_name"})

_SECRET_SHAPE = re.compile(
    r"-----BEGIN [A-Z ]+-----[\s\S]*?(?:-----END [A-Z ]+-----|\Z)"  # PEM
    # JSON web token; without bounds a text of nothing but its beginnings would take minutes.
    r"|eyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{8,16384}\.[A-Za-z0-9_-]*"
    r"|LS0tLS1CRUdJTi[A-Za-z0-9+/=]{16,}"  # base64 of PEM
    r"|(?<![A-Z2-7])S[UANCOX][A-Z2-7]{56}(?![A-Z2-7])"  # NKey seed
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
)

_SHORTEST_VALUE = 8
_lock = threading.Lock()
_values: Counter[str] = Counter()


def register(values: Iterable[str]) -> None:
    """From now on these very values are masked wherever they appear."""
    with _lock:
        _values.update(v for v in values if len(v) >= _SHORTEST_VALUE)


def forget(values: Iterable[str]) -> None:
    """Takes back one `register` of each value."""
    with _lock:
        for value in values:
            _values[value] -= 1
            if _values[value] <= 0:
                del _values[value]


@contextmanager
def registered(values: Iterable[str]) -> Iterator[None]:
    held = list(values)
    register(held)
    try:
        yield
    finally:
        forget(held)


def redacted_text(text: str) -> str:
    """`text` with everything that is or looks like a secret masked."""
    with _lock:
        # The longest first: one secret may be the beginning of another.
        known = sorted(_values, key=len, reverse=True)
    for value in known:
        if value in text:
            text = text.replace(value, MASK)
    return _SECRET_SHAPE.sub(MASK, text)


def redacted(value: Any, *, key: str = "") -> Any:
    """A copy of a log value with its secrets masked, at any depth."""
    if key and key not in _HARMLESS_KEYS and _SECRET_KEY.search(key) and value is not None:
        return MASK
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return {redacted_text(str(k)): redacted(v, key=str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    # Whatever a renderer would make text of: exceptions, records, paths.
    return redacted_text(str(value))
