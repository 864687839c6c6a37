"""What an API server made of an object that was sent: defaults added, values written its own way.

Kept beside what was sent, it tells a value that somebody wrote out as the server would have from
one that somebody chose. A tree has the form of the object: under a field's name, or the place in a
list as text, what was made of it; `{"=": value}` is a value that was not sent, or not in this form
(`1000m` is kept as `1` by some kinds). `+` has the items that admission added to a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chassis.hiding import field_under, is_hidden
from services.chassis.kube.objects import KubeObject

_VALUE, _ITEMS = "=", "+"
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
    elif isinstance(sent, list) and isinstance(found, list):
        inner = _of_items(path, sent, found, kind)
        if inner:
            tree[name] = inner
    elif sent != found and not isinstance(sent, (dict, list)):
        tree[name] = {_VALUE: found}


def _of_items(path: str, sent: list[Any], found: list[Any], kind: str) -> Tree:
    """What was made of each item, by its place among those that were sent."""
    inner: Tree = {}
    rest = list(found)
    for index, one in enumerate(sent):
        if len(sent) == len(found):
            other = found[index]
        else:
            other = next((item for item in rest if _is_part(one, item)), one)
        rest = [item for item in rest if item is not other]
        _note(inner, str(index), f"{path}[{index}]", one, other, kind)
    is_known = len(rest) == len(found) - len(sent) > 0
    if is_known and not _hides(kind, f"{path}[{len(sent)}]", rest):
        inner[_ITEMS] = rest
    return inner


def _is_part(part: Any, whole: Any) -> bool:
    """Whether all that `part` says is in `whole`."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and _is_part(value, whole[name]) for name, value in part.items())
    return bool(part == whole)


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
        items = [completed(item, tree.get(str(index), {})) for index, item in enumerate(sent)]
        return [*items, *tree.get(_ITEMS, [])]
    return tree.get(_VALUE, sent)
