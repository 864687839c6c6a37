"""Values of an object: when two are equal to the API server, and how a difference is shown.

Of what must not be read in an event (`chassis/hiding.py`) the paths are published, and the values
are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson

from services.chassis.hiding import field_under, is_hidden
from services.topology.drift.fieldsets import ABSENT, is_under
from services.topology.drift.rules import DEFAULTS, QUANTITIES

HIDDEN = "(hidden)"
_LONGEST = 80
_QUANTITY = re.compile(r"([+-]?[0-9.]+)([numkMGTPE]|[KMGTPE]i)?\Z")
_FACTORS = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    **{unit: Decimal(10) ** (3 * power) for power, unit in enumerate("MGTPE", start=2)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def differences(path: str, wanted: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, wanted and found value of each leaf that differs; `ABSENT` where there is none."""
    if same(path, wanted, found):
        return
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in dict.fromkeys([*wanted, *found]):
            if name not in wanted and DEFAULTS.get(name, ABSENT) == found[name]:
                continue
            yield from differences(
                field_under(path, name), wanted.get(name, ABSENT), found.get(name, ABSENT)
            )
    elif isinstance(wanted, list) and isinstance(found, list):
        for index in range(max(len(wanted), len(found))):
            yield from differences(
                f"{path}[{index}]",
                wanted[index] if index < len(wanted) else ABSENT,
                found[index] if index < len(found) else ABSENT,
            )
    else:
        yield path, wanted, found


def same(path: str, wanted: Any, found: Any) -> bool:
    """Whether two values are equal to the API server."""
    if _is_empty(wanted) and _is_empty(found):
        return True
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if wanted == found:
        return True
    if QUANTITIES.isdisjoint(re.split(r"[.\[\]]", path)):
        return False
    amounts = _amount(wanted), _amount(found)
    return amounts[0] is not None and amounts[0] == amounts[1]


def _is_empty(value: Any) -> bool:
    return value is ABSENT or value is None or value == "" or value == [] or value == {}


def _amount(value: Any) -> Decimal | None:
    match = _QUANTITY.match(str(value))
    if match is None:
        return None
    try:
        return Decimal(match[1]) * _FACTORS[match[2] or ""]
    except ArithmeticError:
        return None


def shown(kind: str, path: str, value: Any) -> Any:
    """The value cut short, hidden where it may be secret; None for none."""
    if value is ABSENT:
        return None
    if is_hidden(kind, path):
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else orjson.dumps(_bare(kind, path, value)).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _bare(kind: str, path: str, value: Any) -> Any:
    """A structure without the values of environment variables in it."""
    if isinstance(value, list):
        return [_bare(kind, f"{path}[{index}]", item) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return HIDDEN if is_hidden(kind, path) else value
    return {name: _bare(kind, field_under(path, name), item) for name, item in value.items()}


def is_ignored(path: str, ignored: list[str]) -> bool:
    """Whether the intent leaves the field to others."""
    return any(is_under(path, stem) for stem in ignored)
