"""The operations that lifecycle offers, by the names, categories and texts that Meshery shows."""

from __future__ import annotations

from collections.abc import Callable

from services.chassis.messages import AdvertisedOperation, Category, Command, SlotKind, Verb
from services.chassis.operations.completion import Result
from services.chassis.reading.aside import read_aside
from services.lifecycle.ambient.steps import Ambient
from services.lifecycle.applications.deploying import Applications
from services.lifecycle.manifests.work import Operation, Waiting, Work
from services.lifecycle.manifests.writing import run_manifest
from services.lifecycle.mesh.injection import label_namespace
from services.lifecycle.mesh.installing import Installer
from services.lifecycle.mesh.requests import MeshRequest, parse_injection, parse_request
from services.lifecycle.mesh.uninstalling import uninstall
from services.lifecycle.multicluster.steps import MultiCluster
from services.lifecycle.rollouts.steps import Rollouts

MESH = AdvertisedOperation(
    name="istio", description="Istio Service Mesh", category=Category.INSTALL, slot=SlotKind.MESH
)
INJECTION = AdvertisedOperation(
    name="label-namespace",
    description="Automatic Sidecar Injection",
    category=Category.CONFIGURE,
    slot=SlotKind.APPLY,
    stays_in_namespace=True,
)
MANIFEST = AdvertisedOperation(
    # For people with the nats CLI; the gateway's `custom` goes through the translator.
    name="manifest",
    description="A manifest as it is",
    category=Category.CUSTOM,
    slot=SlotKind.APPLY,
    is_listed=False,
)
ROLLOUT = AdvertisedOperation(
    name="istio-rollout",
    description="Istio Service Mesh: Rollout over Clusters",
    category=Category.INSTALL,
    slot=SlotKind.APPLY,
    may_take_s=5 * 24 * 3600.0,
)


MULTICLUSTER = AdvertisedOperation(
    name="istio-multicluster",
    description="Istio Service Mesh: One Mesh of Several Clusters",
    category=Category.INSTALL,
    slot=SlotKind.APPLY,
    may_take_s=6 * 3600.0,
)


AMBIENT = AdvertisedOperation(
    name="istio-ambient",
    description="Istio Service Mesh: Ambient",
    category=Category.CONFIGURE,
    slot=SlotKind.APPLY,
    may_take_s=24 * 3600.0,
    judges_objects=True,
)


def waiting(rollouts: Rollouts, meshes: MultiCluster, ambient: Ambient) -> dict[str, Waiting]:
    """Operations whose commands wait in a bucket for their turn, by name."""
    operations = [
        Waiting(ROLLOUT, rollouts.run, lambda _: "rolling out the Istio service mesh"),
        Waiting(
            MULTICLUSTER, meshes.run, _changing("a mesh of several clusters", applying="making")
        ),
        Waiting(AMBIENT, ambient.run, lambda _: "changing what is in ambient"),
    ]
    return {operation.advertised.name: operation for operation in operations}


def offered(*, installer: Installer, applications: Applications) -> dict[str, Operation]:
    """Operation by name."""

    async def run_mesh(work: Work) -> Result:
        request = await _request(work, parse_request)
        if work.command.verb is Verb.DELETE:
            return await uninstall(work, request)
        return await installer.install(work, request)

    async def run_label(work: Work) -> Result:
        return await label_namespace(work, await _request(work, parse_injection))

    operations = [
        Operation(MESH, run_mesh, _changing("Istio service mesh")),
        Operation(INJECTION, run_label, lambda command: f"labeling {command.namespace}"),
        Operation(MANIFEST, run_manifest, _changing("the manifest", applying="deploying")),
        *applications.operations(),
    ]
    return {operation.advertised.name: operation for operation in operations}


async def _request(work: Work, parse: Callable[[str], MeshRequest]) -> MeshRequest:
    body = work.command.body
    request = await read_aside(lambda: parse(body), size=len(body))
    if request.ignored:
        # Meshery's page sends what its editor holds, whatever was clicked.
        work.progress.note(
            f"Not for this operation, and ignored: {request.ignored}",
            "Apply objects with the operation `custom`.",
        )
    return request


def _changing(what: str, *, applying: str = "installing") -> Callable[[Command], str]:
    """Says "installing" or "removing" `what`, as the command's verb is."""
    return lambda command: f"{'removing' if command.verb is Verb.DELETE else applying} {what}"
