"""Messages with something in every field, made from their models, so a new field is there too."""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any, Literal, Union

from pydantic import AwareDatetime, BaseModel

import services
from services.chassis.messages.models import Message

_TIME = datetime(2999, 1, 1, tzinfo=timezone.utc)
"""So far away that a recorded command can still be begun."""


def message_models() -> dict[str, type[Message]]:
    """Every message of every service, by its name."""
    for module in pkgutil.walk_packages(services.__path__, f"{services.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {model.__name__: model for model in _derived(Message)}


def filled(model: type[BaseModel]) -> Any:
    """One of `model`, with texts that are the names of their fields."""
    return model.model_validate(
        {
            name: _value(field.rebuild_annotation(), name)
            for name, field in model.model_fields.items()
        }
    )


def _derived(model: type[Message]) -> Iterator[type[Message]]:
    for child in model.__subclasses__():
        if child.__module__.startswith(f"{services.__name__}."):
            yield child
            yield from _derived(child)


def _value(kind: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _value(arguments[0], name)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return _value(next(one for one in arguments if one is not types.NoneType), name)
    if origin is tuple:
        return [_value(one, name) for one in arguments if one is not Ellipsis]
    if origin is list:
        return [_value(arguments[0], name)]
    if origin in (dict, Mapping):
        return {"key": _value(arguments[1], name)}
    return _plain(kind, name)


def _plain(kind: type[Any], name: str) -> Any:
    if kind is Any:
        return name
    if kind in (datetime, AwareDatetime):
        return _TIME
    if issubclass(kind, BaseModel):
        return filled(kind)
    if issubclass(kind, Enum):
        return next(iter(kind))
    plain = {str: name.replace("_", "-").lower(), bool: True, int: 1, float: 0.5}
    return plain[kind]
