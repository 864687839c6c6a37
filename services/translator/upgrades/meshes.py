"""Indexes the objects of a mesh, for conditions on one object that depend on the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from services.chassis.errors import ManifestMalformed, TooManyValues
from services.chassis.kube.manifests import parse_documents
from services.chassis.kube.objects import KubeObject
from services.translator.istio.objects import (
    containers,
    entries,
    group_kind,
    inner,
    mapping,
    name_of,
    namespace_of,
    text,
    texts,
)
from services.translator.reports import Path

DEFAULT_ROOT = "istio-system"
_CORE = ("", "ConfigMap")
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The objects of a mesh by their kinds, and what conditions look up in them."""

    by_kind: Mapping[tuple[str, str], tuple[KubeObject, ...]]
    root_namespace: str
    kubernetes_minor: int
    """0 when the version of the nodes is not known."""
    is_ambient: bool
    """Whether a namespace is in the ambient data plane, or there is a waypoint."""
    configs: tuple[MeshConfig, ...]
    suffixes: Mapping[tuple[str, str], frozenset[str]]
    """Gateway and a part of a host such as `.example.com`, to up to two VirtualServices (as
    namespace/name) that have a more specific host there."""
    owners: Mapping[str, frozenset[str]]
    """Host of a ServiceEntry to the namespaces that declare it."""

    @classmethod
    def of(
        cls,
        objects: Iterable[KubeObject],
        *,
        root_namespace: str = DEFAULT_ROOT,
        kubernetes_minor: int = 0,
    ) -> Mesh:
        found: dict[tuple[str, str], list[KubeObject]] = {}
        for obj in objects:
            found.setdefault(group_kind(obj), []).append(obj)
        by_kind = {key: tuple(values) for key, values in found.items()}
        configs = tuple(filter(None, (MeshConfig.of(obj) for obj in by_kind.get(_CORE, ()))))
        return cls(
            by_kind=by_kind,
            root_namespace=root_namespace,
            kubernetes_minor=kubernetes_minor,
            is_ambient=_is_ambient(by_kind),
            configs=configs,
            suffixes=_suffixes(by_kind.get(("networking.istio.io", "VirtualService"), ())),
            owners=_owners(by_kind.get(("networking.istio.io", "ServiceEntry"), ())),
        )

    def all(self, group: str, kind: str) -> tuple[KubeObject, ...]:
        return self.by_kind.get((group, kind), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """The settings in a ConfigMap `istio` or `istio-<revision>`."""

    obj: KubeObject
    values: Mapping[str, Any]
    is_readable: bool = True

    @classmethod
    def of(cls, obj: KubeObject) -> MeshConfig | None:
        """None for any other object."""
        name = name_of(obj)
        if group_kind(obj) != _CORE or not (name == "istio" or name.startswith("istio-")):
            return None
        content = text(mapping(obj.get("data")).get("mesh"))
        if not content:
            return None
        try:
            documents = list(parse_documents(content))
        except (ManifestMalformed, TooManyValues):
            return cls(obj=obj, values=_EMPTY, is_readable=False)
        if not documents:
            return cls(obj=obj, values=_EMPTY)
        is_readable = len(documents) == 1 and isinstance(documents[0], dict)
        return cls(obj=obj, values=mapping(documents[0]), is_readable=is_readable)

    def providers(self, field_name: str) -> Iterator[tuple[Path, str]]:
        """The extension providers of one type, such as `opencensus`: path and name."""
        for index, provider in entries(self.values.get("extensionProviders")):
            if field_name in provider:
                path: Path = ("data", "mesh", "extensionProviders", index, field_name)
                yield path, text(provider.get("name"))


def gateways_of(obj: KubeObject) -> list[str]:
    """The gateways of a VirtualService as namespace/name, or `mesh`."""
    names = texts(inner(obj, "spec").get("gateways")) or ["mesh"]
    return [
        name if name == "mesh" or "/" in name else f"{namespace_of(obj)}/{name}" for name in names
    ]


def identity(obj: KubeObject) -> str:
    return f"{namespace_of(obj)}/{name_of(obj)}"


def environment(obj: KubeObject) -> Iterator[tuple[Path, str]]:
    """The environment of a workload's containers: path of each variable, and its name."""
    for path, container in containers(obj):
        for index, variable in entries(container.get("env")):
            yield (*path, "env", index), text(variable.get("name"))


def _is_ambient(by_kind: Mapping[tuple[str, str], tuple[KubeObject, ...]]) -> bool:
    namespaces = by_kind.get(("", "Namespace"), ())
    gateways = by_kind.get(("gateway.networking.k8s.io", "Gateway"), ())
    modes = (inner(obj, "metadata", "labels").get("istio.io/dataplane-mode") for obj in namespaces)
    classes = (inner(obj, "spec").get("gatewayClassName") for obj in gateways)
    return "ambient" in modes or "istio-waypoint" in classes


def _suffixes(services: Iterable[KubeObject]) -> dict[tuple[str, str], frozenset[str]]:
    """Keeps two names for each suffix: enough to find one that is another's."""
    found: dict[tuple[str, str], set[str]] = {}
    for obj in services:
        for host in texts(inner(obj, "spec").get("hosts")):
            for suffix in _suffixes_of(host):
                for gateway in gateways_of(obj):
                    names = found.setdefault((gateway, suffix), set())
                    if len(names) < 2:
                        names.add(identity(obj))
    return {key: frozenset(names) for key, names in found.items()}


def _suffixes_of(host: str) -> Iterator[str]:
    """`.b.c`, `.c` and "" of `a.b.c`; `.c` and "" of `*.b.c`, which is less specific."""
    if host == "*":
        return
    labels = host.removeprefix("*.").split(".")
    for start in range(1, len(labels)):
        yield "." + ".".join(labels[start:])
    yield ""


def _owners(service_entries: Iterable[KubeObject]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for obj in service_entries:
        for host in texts(inner(obj, "spec").get("hosts")):
            found.setdefault(host, set()).add(namespace_of(obj))
    return {host: frozenset(namespaces) for host, namespaces in found.items()}
