"""Deflated bodies."""

from __future__ import annotations

import zlib

from services.chassis.reading.limits import limits


def inflated(body: bytes) -> bytes:
    """The body without its compression; raises `ValueError` for one that is no deflated data or
    grows beyond the limit. Of one that is cut off it is what is there."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, limits().inflated_bytes)
    except zlib.error:
        raise ValueError("the body is not deflated data") from None
    if inflater.unconsumed_tail:
        raise ValueError("the body is larger than it may be")
    return data
