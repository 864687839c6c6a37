"""Describes every problem of a test, without quoting it.

Pydantic finds the problems; its words are put into ours here, because some of them quote the value,
and a value may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn, get_args

from pydantic import BaseModel, ValidationError

from services.chassis.errors import LoadTestMalformed

_SHOWN = 20
_WORD = re.compile(r"[\w./-]{1,64}\Z")
_TYPES = {
    "string": "must be text; put it into quotes",
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a number",
    "list": "must be a list",
    "dict": "must be a mapping",
    "model": "must be a mapping",
}
"""Words for pydantic's errors, by the first part of their name."""
_LIMITS = {
    "greater_than": ("must be above {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be below {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
    "string_too_long": ("must have at most {} characters", "max_length"),
    "string_too_short": ("must have at least {} characters", "min_length"),
    "too_long": ("must have at most {} entries", "max_length"),
    "too_short": ("must have at least {} entries", "min_length"),
}


def refuse(problems: Sequence[str]) -> NoReturn:
    """Raises all `problems` as one error."""
    shown = "; ".join(problems[:_SHOWN])
    more = len(problems) - _SHOWN
    raise LoadTestMalformed(f"{shown}; and {more} more" if more > 0 else shown)


def problems_in(error: ValidationError, model: type[BaseModel], *, place: str) -> Iterator[str]:
    """Each problem as `place: problem`."""
    for each in error.errors(include_input=False, include_url=False):
        location = each["loc"]
        if each["type"] == "extra_forbidden":
            yield _unknown(place, location, _names_at(model, location[:-1]))
        else:
            yield f"{_path(place, location) or 'the test'}: {_words(each)}"


def _path(place: str, location: Iterable[int | str]) -> str:
    """Such as `test.clients[0].rps`."""
    text = place
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not _WORD.match(part):
            text += ".…"  # a name that is none, which may be anything
        else:
            text += f".{part}" if text else part
    return text


def _names_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """The names of the fields that may stand at a location within the model's document."""
    for part in location:
        field = model.model_fields.get(str(part))
        model = next(_models(field.annotation), model) if field else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a field's type, such as that of `list[Client]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def near(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one; "" when none is."""
    folded = {_folded(other): other for other in known}
    found = difflib.get_close_matches(_folded(name[:256]), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def _folded(name: str) -> str:
    return name.replace("_", "").casefold()


def _unknown(place: str, location: tuple[int | str, ...], known: list[str]) -> str:
    name = str(location[-1])
    if not _WORD.match(name):
        return f"{_path(place, location[:-1]) or 'the test'}: a field has a name that no field has"
    close = near(name, known)
    hint = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
    return f"{_path(place, location)}: unknown field, {hint}"


def _words(error: Any) -> str:
    kind: str = error["type"]
    context = error.get("ctx", {})
    if kind in _LIMITS:
        words, limit = _LIMITS[kind]
        bound = context[limit]
        return words.format(int(bound) if bound == int(bound) else bound)
    if kind in ("value_error", "literal_error"):
        expected = context.get("expected")
        return f"must be {expected}" if expected else str(context["error"])
    if kind == "missing":
        return "is missing"
    return _TYPES.get(kind.partition("_")[0], "has a value that cannot be used")
