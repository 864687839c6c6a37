"""Sample applications and add-ons: what there is, and whose distribution they come from.

Names, categories and texts are those of Meshery's older adapter (internal/config/operations.go in
meshery/meshery-istio). Unlike it, samples come from the distribution of the installed version:
an add-on of another version may not understand the mesh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.chassis.errors import SampleMissing
from services.chassis.messages import Category
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.inventory import Found, Inventory
from services.lifecycle.cluster.versions import Version

_OLDEST = Version(0, 0, 0)
_HELM_VERSION = "app.kubernetes.io/version"
_HELM_CHART = "helm.sh/chart"


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
        """True for what belongs to the mesh and not to a namespace of the user's."""
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


@dataclass(frozen=True, slots=True)
class Mesh:
    """What samples have to fit. `version` is "" when the cluster does not tell one."""

    version: str = ""
    namespace: str = istio.SYSTEM_NAMESPACE


def mesh_of(inventory: Inventory) -> Mesh:
    """The unnamed revision, else the one with the default tag, else the newest.

    A control plane of another installer counts as well.
    """
    versions = inventory.revisions()
    meshes = {name: Mesh(text, _home(inventory, name)) for name, text in versions.items()}
    for plane in inventory.foreign_planes:
        revision = plane.labels.get(istio.REVISION, istio.DEFAULT_REVISION)
        meshes.setdefault(revision, Mesh(_foreign_version(plane), plane.ref.namespace))
    if not meshes:
        return Mesh(namespace=inventory.namespace(istio.SYSTEM_NAMESPACE))
    for name in (istio.DEFAULT_REVISION, inventory.tags().get(istio.DEFAULT_TAG, "")):
        if name in meshes:
            return meshes[name]
    newest = max(meshes, key=lambda name: (Version.parse(meshes[name].version) or _OLDEST, name))
    return meshes[newest]


def is_in_mesh(labels: Mapping[str, str]) -> bool:
    """Whether pods of a namespace with these labels get sidecars or the ambient mesh."""
    if istio.INJECTION in labels:
        return labels[istio.INJECTION] == "enabled"
    return bool(labels.get(istio.REVISION)) or labels.get(istio.DATAPLANE_MODE) == "ambient"


def _home(inventory: Inventory, revision: str) -> str:
    """The namespace of the revision's control plane."""
    for found in inventory.of_revision(revision):
        is_plane = found.labels.get(istio.COMPONENT) == istio.PILOT
        if is_plane and found.ref.kind == "Deployment":
            return found.ref.namespace
    return inventory.namespace(istio.SYSTEM_NAMESPACE)


def _foreign_version(plane: Found) -> str:
    chart = plane.labels.get(_HELM_CHART, "").removeprefix("istiod-")
    return plane.labels.get(_HELM_VERSION) or chart


def choose_distribution(installed: str, available: Sequence[str]) -> tuple[str, str]:
    """The distribution to take samples from, and what to warn of ("" for nothing).

    Raises `SampleMissing` when there is none of the installed minor version.
    """
    parsed = {v: text for text in available if (v := Version.parse(text)) is not None}
    listing = ", ".join(parsed[v] for v in sorted(parsed, reverse=True)) or "none"
    wanted = Version.parse(installed)
    if not parsed:
        raise SampleMissing("there is no Istio distribution to take samples from")
    if wanted is None:
        newest = parsed[max(parsed)]
        found = f"Istio {installed!r}" if installed else "no Istio"
        return newest, f"the cluster shows {found}, so the samples are those of Istio {newest}"
    if wanted in parsed:
        return parsed[wanted], ""
    near = [v for v in parsed if v.line == wanted.line]
    if not near:
        minor = f"{wanted.major}.{wanted.minor}"
        raise SampleMissing(
            f"Istio {wanted} is installed, and no distribution of Istio {minor} is available; "
            f"available: {listing}",
            cause="samples of another minor version may not fit the mesh",
            remedy=f"add a distribution folder of Istio {minor}, or upgrade the mesh",
        )
    nearest = parsed[max(near, key=lambda v: (-abs(v.patch - wanted.patch), v.is_release, v))]
    return nearest, f"Istio {wanted} is installed, the samples are those of Istio {nearest}"
