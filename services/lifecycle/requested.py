"""What a person's own body names: the measure of what services may make of it.

A body is YAML or JSON of any of the forms that the gateway takes: objects, Lists, designs of every
generation, options with a manifest in one of their texts. Lifecycle does not translate them; it
looks whether an object that a service asks for stands there, with everything that it says. Keys are
compared without blanks and case, because Meshery's forms show `role Ref` for `roleRef`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import ManifestMalformed
from services.chassis.kube.manifests import parse_documents
from services.chassis.kube.objects import MANAGED_BY, KubeObject
from services.chassis.reading.jsons import read_json

_DEEPEST = 100
_EMBEDDED = ("kind", "type", "component")
"""Of these words a text has at least one that is a manifest or a component itself."""
_OURS = ("meshbus.io/", MANAGED_BY)
"""Labels and annotations that the translator adds."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """A mapping of the body that names an object, and its key in the mapping around it."""

    value: Mapping[str, Any]
    key: str = ""

    def names(self, kind: str, name: str) -> bool:
        """Whether it is an object or a component of this kind and name."""
        return name in self._names() and kind in self.kinds

    def named(self) -> Iterator[Pair]:
        """Each kind and name that it may stand for."""
        names = self._names()
        return ((kind, name) for kind in self.kinds for name in names)

    @property
    def namespace(self) -> str:
        """The namespace in its metadata, if it is an object."""
        return str(_inside(self.value, "metadata").get("namespace") or "")

    def holds(self, obj: KubeObject, *, namespace: str) -> bool:
        """Whether all that the object says stands here. Where the part names no namespace, the
        object's is the request's (`namespace`)."""
        metadata = dict(obj.get("metadata") or {})
        own = metadata.pop("namespace", "") or namespace
        for field in ("labels", "annotations"):
            if isinstance(metadata.get(field), Mapping):
                kept = {k: v for k, v in metadata[field].items() if not k.startswith(_OURS)}
                metadata[field] = kept
        is_object = self.value.get("kind") == obj.get("kind")
        if is_object and self.value.get("apiVersion") == obj.get("apiVersion"):
            in_place = own == (self.namespace or namespace) or not obj["metadata"].get("namespace")
            return in_place and _includes(self.value, {**obj, "metadata": metadata})
        # A component says the same in another arrangement: its kind and name, then the fields.
        rest = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")}
        notes = {k: v for k, v in metadata.items() if k != "name"}
        said = set(_pairs(self.value))
        in_place = own == namespace or own in {value for _, value in said}
        return in_place and set(_pairs([rest, notes])) <= said

    def words(self) -> set[str]:
        """All texts and numbers in it, as text."""
        return {value for _, value in _pairs(self.value)}

    def _names(self) -> set[str]:
        found = {self.key} if self.key else set()
        found |= {str(v) for k, v in self.value.items() if _plain(k) in ("name", "displayname")}
        return found | {str(_inside(self.value, "metadata").get("name", ""))} - {""}

    @property
    def kinds(self) -> set[str]:
        """The kinds that it may be of; its own kind, a component's, or one in OAM's notes."""
        component, spec = _inside(self.value, "component"), _inside(self.value, "spec")
        noted = _inside(_inside(self.value, "metadata"), "annotations")
        texts = [v for k, v in self.value.items() if _plain(k) in ("kind", "type")]
        texts += [component.get("kind"), spec.get("type"), *noted.values()]
        # `/Service` and `VirtualService.Istio` were written by older designs.
        plain = (t.strip().lstrip("/").partition(".")[0] for t in texts if isinstance(t, str))
        return {text for text in plain if text}


def parts(body: str) -> list[Part]:
    """All parts of a body that could name something; none of one that cannot be read. Raises
    `TooManyValues`."""
    return [part for document in _documents(body) for part in _parts(document, "", 0)]


def _documents(body: str) -> list[Any]:
    if body.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):  # it may be YAML in braces
            return [read_json(body)]
    try:
        return list(parse_documents(body))
    except ManifestMalformed:
        return []


def _parts(value: Any, key: str, depth: int) -> Iterator[Part]:
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        yield Part(value, key)
        for name, inner in value.items():
            yield from _parts(inner, str(name), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner, "", depth + 1)
    elif isinstance(value, str) and _may_name(value):
        for document in _documents(value):
            # A text that is a text again is only that.
            if isinstance(document, dict | list):
                yield from _parts(document, "", depth + 1)


def _may_name(text: str) -> bool:
    lower = text.lower()
    return "name" in lower and any(word in lower for word in _EMBEDDED)


def _inside(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = next((v for k, v in value.items() if _plain(k) == name), None)
    return {_plain_known(k): v for k, v in found.items()} if isinstance(found, dict) else {}


def _plain_known(key: str) -> str:
    """Go's designs write `Name` for `name`."""
    plain = _plain(key)
    return plain if plain in ("name", "namespace", "annotations", "kind", "type") else key


def _includes(whole: Any, part: Any) -> bool:
    """Whether `part` is `whole` without some of its fields."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            key in whole and _includes(whole[key], value)
            for key, value in part.items()
            if value not in (None, {}, [])
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(_includes(a, b) for a, b in zip(whole, part, strict=True))
        )
    return _text(whole) == _text(part)


def _pairs(value: Any, key: str = "") -> Iterator[Pair]:
    """Each text, number and flag with the name of its field."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _pairs(inner, _plain(str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner, key)
    elif value is not None:
        yield key, _text(value)


def _plain(key: str) -> str:
    return key.replace(" ", "").lower()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
