"""Routes of a VirtualService that no request reaches (IST0130, IST0131)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.cluster import kinds
from services.topology.cluster.forms import part, parts, text
from services.topology.cluster.objects import Config


def _order(_: Lens, config: Config) -> Iterator[Finding]:
    for protocol in ("http", "tcp", "tls"):
        yield from _unreached(config, protocol)
    yield from _overlaps(config)


def _unreached(config: Config, protocol: str) -> Iterator[Finding]:
    first_with: dict[str, str] = {}
    catch_all = ""
    for index, route in parts(config.spec, protocol):
        path = f"spec.{protocol}[{index}]"
        found = list(parts(route, "match"))
        if catch_all:
            message = f"Route {_name(route, index)} comes after {catch_all}, which takes all."
            yield tell("IST0130", config.key, message, path)
        if not found:
            catch_all = path
            continue
        if catch_all:
            continue
        repeated = 0
        for place, match in found:
            same = _same(match)
            if same in first_with:
                repeated += 1
                message = (
                    f"Match {_name(match, place)} of route {_name(route, index)} is in "
                    f"{first_with[same]} already."
                )
                yield tell("IST0131", config.key, message, f"{path}.match[{place}]")
            else:
                first_with[same] = path
        if repeated == len(found):
            message = f"All matches of route {_name(route, index)} are in routes before it."
            yield tell("IST0130", config.key, message, path)


def _same(match: Mapping[str, Any]) -> str:
    """Equal for matches that match the same; their names do not matter."""
    kept = {
        name: value
        for name, value in match.items()
        if name != "name" and (value or name in ("uri", "scheme", "method", "authority"))
    }
    return json.dumps(kept, sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A match by a prefix of the path, as far as overlaps are looked for."""

    path: str
    name: str
    prefix: str
    port: object
    method: str
    authority: str
    maps: tuple[dict[str, str], ...]
    """Headers, query parameters, headers that must be absent."""

    def covers(self, other: _Prefix) -> bool:
        """Whether this one, coming first, leaves nothing to the other. A condition covers one that
        is equal or a beginning of it: istioctl has it this way round."""
        return (
            other.prefix.startswith(self.prefix)
            and self.port == other.port
            and self.method.startswith(other.method)
            and self.authority.startswith(other.authority)
            and all(_covers(one, two) for one, two in zip(self.maps, other.maps, strict=True))
        )


def _covers(one: dict[str, str], other: dict[str, str]) -> bool:
    return one.keys() == other.keys() and all(
        value.startswith(other[name]) for name, value in one.items()
    )


def _overlaps(config: Config) -> Iterator[Finding]:
    found = list(_prefixes(config.spec))
    for index, later in enumerate(found):
        for earlier in found[:index]:
            if earlier.prefix != later.prefix and earlier.covers(later):
                message = (
                    f"Match {later.name} of prefix {later.prefix} is covered by prefix "
                    f"{earlier.prefix} in {earlier.path}."
                )
                yield tell("IST0131", config.key, message, later.path)
                break


def _prefixes(spec: Mapping[str, Any]) -> Iterator[_Prefix]:
    seen: set[str] = set()
    for index, route in parts(spec, "http"):
        found = list(parts(route, "match"))
        if not found:
            return
        for place, match in found:
            same = _same(match)
            prefix = text(part(match, "uri"), "prefix")
            if same in seen or not prefix:
                continue
            seen.add(same)
            yield _Prefix(
                path=f"spec.http[{index}].match[{place}]",
                name=_name(match, place),
                prefix=prefix,
                port=match.get("port") or 0,
                method=_condition(part(match, "method")) or "exact GET",
                authority=_condition(part(match, "authority")),
                maps=tuple(
                    {name: _condition(part(match, field, name)) for name in part(match, field)}
                    for field in ("headers", "queryParams", "withoutHeaders")
                ),
            )


def _condition(match: Mapping[str, Any]) -> str:
    """A text to compare; regular expressions are not compared."""
    for kind in ("exact", "prefix"):
        if text(match, kind):
            return f"{kind} {text(match, kind)}"
    return ""


def _name(item: Mapping[str, Any], index: int) -> str:
    return text(item, "name") or f"#{index}"


RULES = (Rule(finds=("IST0130", "IST0131"), kinds=(kinds.VIRTUAL_SERVICE,), check=_order),)
