"""Protocol buffers: how many fields a message has, before it is parsed.

A part that is empty costs two bytes on the wire, and sixteen and more in memory.
"""

from __future__ import annotations

from services.chassis.errors import TooManyValues


def require_few_fields(body: bytes, *, most: int) -> None:
    """Raises `TooManyValues` for a message with more than `most` fields, known or unknown. What is
    no message passes: the parser has better words for it."""
    if len(body) <= 2 * most:
        return
    place, end = 0, len(body)
    try:
        for _ in range(most):
            if place >= end:
                return
            tag, place = _varint(body, place)
            match tag & 7:  # the wire type: varint, eight bytes, length and bytes, four bytes
                case 0:
                    _, place = _varint(body, place)
                case 1:
                    place += 8
                case 2:
                    length, place = _varint(body, place)
                    place += length
                case 5:
                    place += 4
    except IndexError:
        return
    if place < end:
        raise TooManyValues(
            f"the message holds more than {most} fields",
            remedy="send fewer kubeconfigs or components in one call",
        )


def _varint(body: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place behind it."""
    number = shift = 0
    while True:
        byte = body[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
        if shift > 63:
            raise IndexError
