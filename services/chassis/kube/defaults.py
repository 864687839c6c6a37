"""What an API server added to an object that was sent: defaults of its definition.

Kept beside what was sent, it tells a default that somebody wrote out from a value that somebody
chose. A tree has the form of the object: under a field's name, or the place in a list as text, what
was added there; `{"=": value}` is a value that was not sent at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chassis.hiding import field_under, is_hidden
from services.chassis.kube.objects import KubeObject

_VALUE = "="
_DEFINITION = "apiextensions.k8s.io/CustomResourceDefinition"
_NOT_OF_DEFINITIONS = frozenset({"apiVersion", "kind", "metadata", "status"})

Tree = dict[str, Any]


def added(kind: str, sent: KubeObject, answer: Mapping[str, Any]) -> Tree:
    """What `answer` has and `sent` has not. Values that must not be read are left out, and so are
    definitions: they are large, and nobody edits them back and forth."""
    tree: Tree = {}
    if kind == _DEFINITION:
        return tree
    for name, value in answer.items():
        if name not in _NOT_OF_DEFINITIONS:
            _note(tree, name, name, sent.get(name, _ABSENT), value, kind)
    return tree


_ABSENT = object()


def _note(tree: Tree, name: str, path: str, sent: Any, found: Any, kind: str) -> None:
    if is_hidden(kind, path):
        return
    if sent is _ABSENT:
        if not _hides(kind, path, found):
            tree[name] = {_VALUE: found}
    elif isinstance(sent, dict) and isinstance(found, dict):
        inner: Tree = {}
        for field, value in found.items():
            at = field_under(path, field)
            _note(inner, field, at, sent.get(field, _ABSENT), value, kind)
        if inner:
            tree[name] = inner
    elif isinstance(sent, list) and isinstance(found, list) and len(sent) == len(found):
        inner = {}
        for index, (one, other) in enumerate(zip(sent, found, strict=True)):
            _note(inner, str(index), f"{path}[{index}]", one, other, kind)
        if inner:
            tree[name] = inner


def _hides(kind: str, path: str, value: Any) -> bool:
    """Whether anything in a value must not be read."""
    if isinstance(value, dict):
        return any(_hides(kind, field_under(path, name), inner) for name, inner in value.items())
    if isinstance(value, list):
        return any(_hides(kind, f"{path}[{index}]", one) for index, one in enumerate(value))
    return is_hidden(kind, path)


def completed(sent: Any, tree: Mapping[str, Any]) -> Any:
    """The value as the API server made it whole."""
    if not tree:
        return sent
    if isinstance(sent, dict):
        whole = dict(sent)
        for name, inner in tree.items():
            if set(inner) == {_VALUE} and name not in sent:
                whole[name] = inner[_VALUE]
            elif name in sent:
                whole[name] = completed(sent[name], inner)
        return whole
    if isinstance(sent, list):
        return [completed(item, tree.get(str(index), {})) for index, item in enumerate(sent)]
    return sent
