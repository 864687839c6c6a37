"""Sample applications and add-ons: the list, their manifests, and the changes made to these.

Names, categories and texts are those of Meshery's older adapter (internal/config/operations.go in
meshery/meshery-istio). Unlike it, samples come from the distribution of the installed version: an
add-on of another version may not understand the mesh. Istio's samples name `istio-system`
throughout, and some of them were once exposed by hand or by that adapter; here add-ons go to the
namespace of the mesh and stay inside the cluster unless the request asks otherwise.

A request's body may hold the operation's options:

    apiVersion: meshbus.io/v1
    kind: ApplicationOptions
    spec: {gateway: true, readinessTimeoutSeconds: 120}

    apiVersion: meshbus.io/v1
    kind: AddonOptions
    spec: {expose: false, readinessTimeoutSeconds: 120}
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

from cachetools import LRUCache
from pydantic import BaseModel, ConfigDict, Field

from services.chassis.errors import ManifestMalformed, SampleMissing
from services.chassis.kube.manifests import parse_manifest
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.messages import Category
from services.chassis.operations.bodies import find_options
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.versions import Version
from services.lifecycle.manifests.objects import identity

APPLICATION = "meshbus.io/application"
"""Label of an application's objects; its value is the operation's name."""
SIZE_LIMIT_BYTES = 2 * 1024 * 1024

_BUNDLE = resources.files("services.lifecycle.applications") / "bundled"
# The largest one (Grafana's dashboards, 240 kB) takes 6 ms to parse.
_CACHED = 32
_SERVICE = ("", "Service")
_CLUSTER_IP, _LOAD_BALANCER = "ClusterIP", "LoadBalancer"
# As a whole word: `kiali-istio-system` is the name of something else.
_NAMED = re.compile(rf"(?<![\w-]){re.escape(istio.SYSTEM_NAMESPACE)}(?![\w-])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A sample application or an add-on."""

    name: str
    description: str
    category: Category
    files: tuple[str, ...] = ()
    """Below `samples` of a distribution; empty for a manifest of our own."""
    service: str = ""
    """Of an add-on: the Service that people open."""
    rival: str = ""
    """Of an add-on: another one that has Services of the same names."""

    @property
    def is_addon(self) -> bool:
        """True for an application that belongs to the mesh and not to a namespace of the user's."""
        return self.category is Category.CONFIGURE


def _sample(name: str, description: str, *files: str) -> Application:
    return Application(
        name=name, description=description, category=Category.SAMPLE_APPLICATION, files=files
    )


def _addon(title: str, file: str, *, service: str, rival: str = "") -> Application:
    return Application(
        name=f"{title.lower()}-addon",
        # Meshery draws a switch for a description that begins so.
        description=f"Add-on: {title}",
        category=Category.CONFIGURE,
        files=(file,),
        service=service,
        rival=rival,
    )


APPLICATIONS: tuple[Application, ...] = (
    _sample(
        "bookinfo",
        "Istio Book Info Application",
        "bookinfo/platform/kube/bookinfo.yaml",
        "bookinfo/networking/bookinfo-gateway.yaml",
    ),
    _sample(
        "httpbin",
        "HTTPBin Application",
        "httpbin/httpbin.yaml",
        "httpbin/httpbin-gateway.yaml",
    ),
    _sample("imagehub", "Image Hub Application"),
    _sample("emojivoto", "EmojiVoto Application"),
    _addon("Prometheus", "addons/prometheus.yaml", service="prometheus"),
    _addon("Grafana", "addons/grafana.yaml", service="grafana"),
    _addon("Kiali", "addons/kiali.yaml", service="kiali"),
    _addon("Jaeger", "addons/jaeger.yaml", service="tracing", rival="zipkin-addon"),
    _addon("Zipkin", "addons/extras/zipkin.yaml", service="zipkin", rival="jaeger-addon"),
)

BY_NAME = {application.name: application for application in APPLICATIONS}


# --- options --------------------------------------------------------------------------------------


class ApplicationOptions(BaseModel):
    """Options of a sample application."""

    model_config = ConfigDict(extra="forbid")

    gateway: bool = True
    """Whether the mesh's ingress gateway leads to it."""
    readinessTimeoutSeconds: int = Field(default=120, ge=1, le=3600)  # noqa: N815


class AddonOptions(BaseModel):
    """Options of an add-on."""

    model_config = ConfigDict(extra="forbid")

    expose: bool = False
    """Whether its Service gets a load balancer."""
    readinessTimeoutSeconds: int = Field(default=120, ge=1, le=3600)  # noqa: N815


Options = ApplicationOptions | AddonOptions


def options_of(application: Application, body: str) -> Options | None:
    """The options in a request's body, None without any; raises `OptionsMalformed`."""
    if application.is_addon:
        return find_options(body, "AddonOptions", AddonOptions)
    return find_options(body, "ApplicationOptions", ApplicationOptions)


# --- manifests ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Samples:
    """Reads samples of the distributions in one folder."""

    folder: Path
    _parsed: LRUCache[tuple[str, str], list[KubeObject]] = field(
        default_factory=lambda: LRUCache(_CACHED)
    )

    async def distributed(self, version: str, path: str) -> list[KubeObject]:
        """A copy of the objects of `<version>/samples/<path>`; raises `SampleMissing`."""
        return await self._objects((version, path), partial(self._read, version, path))

    async def bundled(self, name: str) -> list[KubeObject]:
        """A copy of the objects of a manifest of our own."""
        return await self._objects(("", name), partial(_read_bundled, name))

    async def _objects(self, key: tuple[str, str], read: Callable[[], str]) -> list[KubeObject]:
        parsed = self._parsed.get(key)
        if parsed is None:
            parsed = await asyncio.to_thread(_parsed, read, " ".join(part for part in key if part))
            self._parsed[key] = parsed
        return copy.deepcopy(parsed)

    def _read(self, version: str, path: str) -> str:
        """The file's text; a path that leads out of the version's samples counts as missing."""
        if Version.parse(version) is None:
            raise SampleMissing(f"{version[:64]!r} is not a version of Istio")
        root = (self.folder / version / "samples").resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            raise SampleMissing(f"Istio {version} has no samples/{path}")
        with file.open("rb") as opened:
            content = opened.read(SIZE_LIMIT_BYTES + 1)
        if len(content) > SIZE_LIMIT_BYTES:
            raise SampleMissing(
                f"samples/{path} of Istio {version} has more than {SIZE_LIMIT_BYTES} bytes",
                cause="no sample of a release is that large",
            )
        return content.decode("utf-8", "replace")


def _parsed(read: Callable[[], str], what: str) -> list[KubeObject]:
    try:
        return parse_manifest(read())
    except ManifestMalformed as error:
        raise SampleMissing(
            f"the sample {what} cannot be used: {error.summary}", cause=error.cause
        ) from None
    except OSError as error:
        raise SampleMissing(
            f"the sample {what} cannot be read", cause=str(error.strerror)
        ) from None


def _read_bundled(name: str) -> str:
    return (_BUNDLE / f"{name}.yaml").read_text("utf-8")


# --- changes --------------------------------------------------------------------------------------


def mark(objects: Iterable[KubeObject], application: Application) -> None:
    """Puts the label on the objects, in place; their pods do not get it."""
    for obj in objects:
        obj["metadata"]["labels"] = {**labels_of(obj), APPLICATION: application.name}


def move(objects: Iterable[KubeObject], namespace: str) -> None:
    """Moves a sample's objects to `namespace`, in place; cluster-scoped ones are left alone.

    Bindings follow their accounts, and the texts of ConfigMaps (Kiali's root namespace, Grafana's
    queries) name the mesh's namespace too.
    """
    for obj in objects:
        if obj["metadata"].get("namespace"):
            obj["metadata"]["namespace"] = namespace
        for subject in obj.get("subjects") or []:
            if subject.get("namespace"):
                subject["namespace"] = namespace
        if obj["kind"] == "ConfigMap" and namespace != istio.SYSTEM_NAMESPACE:
            obj["data"] = {
                name: _NAMED.sub(namespace, text) for name, text in (obj.get("data") or {}).items()
            }


def expose(objects: Iterable[KubeObject], name: str) -> None:
    """Gives the Service `name` a load balancer ("" for none) and closes the others, in place.

    The type is always sent: a field that is left out keeps the value of another manager.
    """
    for obj in objects:
        if Ref.of(obj).group_kind == _SERVICE:
            is_exposed = bool(name) and obj["metadata"]["name"] == name
            obj["spec"]["type"] = _LOAD_BALANCER if is_exposed else _CLUSTER_IP


def exposed_services(objects: Iterable[KubeObject]) -> list[Ref]:
    """The Services that are open to the outside."""
    refs = [(Ref.of(obj), obj) for obj in objects]
    return [
        ref
        for ref, obj in refs
        if ref.group_kind == _SERVICE and obj["spec"].get("type") == _LOAD_BALANCER
    ]


def shared(ours: Sequence[KubeObject], theirs: Sequence[KubeObject]) -> list[KubeObject]:
    """Those of `theirs` that `ours` has as well."""
    mine = {identity(Ref.of(obj)) for obj in ours}
    return [obj for obj in theirs if identity(Ref.of(obj)) in mine]
