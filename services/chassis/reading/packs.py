"""msgpack. Its parser bounds one list, but not all of them together, so they are counted before.

https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from services.chassis.reading.limits import Budget

_SCALAR, _TEXT, _LIST, _MAP = range(4)


def _form(first: int) -> tuple[int, int, int]:
    """What a first byte announces: the sort; how long the number is that follows and counts bytes
    or items; and what is known without it: bytes to skip, or a count."""
    if first <= 0x7F or first >= 0xE0:
        return _SCALAR, 0, 0
    if first <= 0x8F:
        return _MAP, 0, first & 0x0F
    if first <= 0x9F:
        return _LIST, 0, first & 0x0F
    if first <= 0xBF:
        return _SCALAR, 0, first & 0x1F
    return _LONG_FORMS[first - 0xC0]


_LONG_FORMS: Final = (
    *((_SCALAR, 0, 0), (_SCALAR, 0, 0), (_SCALAR, 0, 0), (_SCALAR, 0, 0)),
    *((_TEXT, 1, 0), (_TEXT, 2, 0), (_TEXT, 4, 0)),
    *((_TEXT, 1, 1), (_TEXT, 2, 1), (_TEXT, 4, 1)),
    *((_SCALAR, 0, 4), (_SCALAR, 0, 8)),
    *((_SCALAR, 0, 1), (_SCALAR, 0, 2), (_SCALAR, 0, 4), (_SCALAR, 0, 8)),
    *((_SCALAR, 0, 1), (_SCALAR, 0, 2), (_SCALAR, 0, 4), (_SCALAR, 0, 8)),
    *((_SCALAR, 0, 2), (_SCALAR, 0, 3), (_SCALAR, 0, 5), (_SCALAR, 0, 9), (_SCALAR, 0, 17)),
    *((_TEXT, 1, 0), (_TEXT, 2, 0), (_TEXT, 4, 0)),
    *((_LIST, 2, 0), (_LIST, 4, 0)),
    *((_MAP, 2, 0), (_MAP, 4, 0)),
)
_FORMS: Final = tuple(_form(first) for first in range(256))


def read_msgpack(body: bytes, *, budget: Budget | None = None) -> Any:
    """The value; raises `ValueError` or `TooManyValues`."""
    budget = budget or Budget.fresh()
    # No body has more values than bytes; and a list announces no more items than there are bytes.
    if len(body) > budget.nodes:
        budget.spend(_counted(body, most=budget.nodes))
    try:
        return msgpack.unpackb(body)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError):
        raise ValueError("the body is not msgpack") from None


def _counted(body: bytes, *, most: int) -> int:
    """How many values the body holds, or a number above `most`; stops where it is not msgpack."""
    place, end, nodes, open_items = 0, len(body), 0, 1
    while open_items and place < end:
        nodes += 1
        open_items -= 1
        sort, width, known = _FORMS[body[place]]
        place += 1
        if width:
            known += int.from_bytes(body[place : place + width], "big")
            place += width
        if sort >= _LIST:
            open_items += known if sort == _LIST else 2 * known
            # Each of them is a value to come.
            if nodes + open_items > most:
                return nodes + open_items
        else:
            place += known
    return nodes
