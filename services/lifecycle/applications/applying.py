"""Sample applications and add-ons as operations: applied, pruned, waited for, taken away whole.

Sample applications go to the request's namespace, add-ons to the mesh's. An apply ends when the
workloads are ready; a repeat changes nothing. A deletion takes everything but the namespace.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from services.chassis.errors import (
    KindUnknown,
    NamespaceMissing,
    NotReadyInTime,
    ObjectNotFound,
    SampleMissing,
)
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.messages import AdvertisedOperation, Phase, SlotKind, Verb
from services.lifecycle.applications.addons import expose, identity, move, shared
from services.lifecycle.applications.labels import ROUTES, belongings, leftovers, mark
from services.lifecycle.applications.messages import (
    installed,
    removed,
    warn_of_openings,
    warn_of_takings,
)
from services.lifecycle.applications.options import Options, addon_options, application_options
from services.lifecycle.applications.samples import (
    APPLICATIONS,
    BY_NAME,
    Application,
    choose_distribution,
    is_in_mesh,
    mesh_of,
)
from services.lifecycle.manifests.applying import apply_objects, delete_objects, place, tell_plan
from services.lifecycle.manifests.objects import PlannedObject, listing, planned_object
from services.lifecycle.manifests.readiness import why_not_ready
from services.lifecycle.work import Operation, Result, Work


class SampleSource(Protocol):
    """Manifests, parsed; the objects are the caller's own to change. Raises `SampleMissing`."""

    async def distributed(self, version: str, path: str) -> list[KubeObject]: ...

    async def bundled(self, name: str) -> list[KubeObject]: ...


@dataclass(frozen=True, slots=True)
class _Site:
    """Where an application goes, and which distribution it comes from ("" for our own)."""

    namespace: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Applications:
    """Applies and deletes sample applications and add-ons."""

    samples: SampleSource
    versions: Sequence[str]

    def operations(self) -> list[Operation]:
        """All of them, as the catalog shows them."""
        return [
            Operation(
                AdvertisedOperation(
                    name=application.name,
                    description=application.description,
                    category=application.category,
                    slot=SlotKind.APPLY,
                ),
                partial(self.run, application),
            )
            for application in APPLICATIONS
        ]

    async def run(self, application: Application, work: Work) -> Result:
        """Applies or deletes `application`, as the command's verb says."""
        options = _options(application, work)
        site = await self._site(application, work)
        work = _moved(work, site.namespace)
        if work.command.verb is Verb.DELETE:
            return await self._remove(application, work, site)
        return await self._install(application, work, site, options)

    async def _site(self, application: Application, work: Work) -> _Site:
        if not application.files:
            return _Site(work.command.namespace)
        mesh = mesh_of(await work.surveyor.inventory())
        version, warning = choose_distribution(mesh.version, self.versions)
        if warning:
            work.progress.warn(f"{application.name}: {warning}")
        return _Site(mesh.namespace if application.is_addon else work.command.namespace, version)

    # --- applying ---------------------------------------------------------------------------------

    async def _install(
        self, application: Application, work: Work, site: _Site, options: Options
    ) -> Result:
        objects = await self._objects(application, site, options)
        await _check_namespace(application, work, site)
        await _place(work, objects)
        rivals = await self._rivals(application, work, site)
        planned = [planned_object(obj) for obj in objects]
        tell_plan(work, planned)
        await apply_objects(work, planned)
        warn_of_openings(application, work, objects)
        warn_of_takings(application, work, objects, rivals)
        await _await_ready(work, planned, options)
        await _prune(application, work, site, planned)
        origin = f"from the samples of Istio {site.version}" if site.version else "of Meshbus' own"
        return installed(application, work, site.namespace, planned, origin=origin)

    async def _objects(
        self, application: Application, site: _Site, options: Options
    ) -> list[KubeObject]:
        """The application's objects as they are to be, but for namespaces that they do not name."""
        objects = [
            obj
            for file in application.files
            for obj in await self.samples.distributed(site.version, file)
        ]
        if not application.files:
            objects = await self.samples.bundled(application.name)
        if not options.gateway:
            objects = [obj for obj in objects if Ref.of(obj).group != ROUTES]
        if application.is_addon:
            move(objects, site.namespace)
            expose(objects, application.service if options.expose else "")
        mark(objects, application)
        return objects

    async def _rivals(self, application: Application, work: Work, site: _Site) -> list[KubeObject]:
        """The objects of the add-on with the same Services, if its Deployment is there."""
        rival = BY_NAME.get(application.rival)
        if rival is None:
            return []
        try:
            objects = await self._objects(rival, site, Options())
        except SampleMissing:
            return []
        refs = [Ref.of(obj) for obj in objects]
        deployments = [ref for ref in refs if ref.group_kind == ("apps", "Deployment")]
        found = await work.surveyor.select([("apps", "Deployment")], namespace=site.namespace)
        names = {one.ref.name for one in found}
        return objects if any(ref.name in names for ref in deployments) else []

    # --- deleting ---------------------------------------------------------------------------------

    async def _remove(self, application: Application, work: Work, site: _Site) -> Result:
        objects = await self._objects(application, site, Options())
        kept = await self._give_back(application, work, site, objects)
        spared = {identity(ref) for ref in kept}
        objects = await _served(work, objects)
        await _place(work, objects)
        planned = [planned_object(obj) for obj in objects]
        extra = await leftovers(work, application, namespace=site.namespace, planned=planned)
        planned += [PlannedObject(ref, b"") for ref in extra]
        planned = [one for one in planned if identity(one.ref) not in spared]
        tell_plan(work, planned)
        deletion = await delete_objects(work, planned)
        return removed(application, work, site.namespace, deletion, kept)

    async def _give_back(
        self, application: Application, work: Work, site: _Site, objects: Sequence[KubeObject]
    ) -> list[Ref]:
        """Leaves what both have to the other add-on, in the other's form."""
        rivals = await self._rivals(application, work, site)
        theirs = shared(objects, rivals)
        if not theirs:
            return []
        rival, kinds = BY_NAME[application.rival], [Ref.of(obj).group_kind for obj in theirs]
        owned = await belongings(work, rival, namespace=site.namespace, kinds=list(set(kinds)))
        held = {identity(ref) for ref in owned}
        returned = [obj for obj in theirs if identity(Ref.of(obj)) not in held]
        if returned:
            work.progress.warn(
                f"{application.rival} is installed: it gets back what both have",
                listing([Ref.of(obj) for obj in returned]),
            )
            await apply_objects(work, [planned_object(obj) for obj in returned])
        return [Ref.of(obj) for obj in theirs]


def _options(application: Application, work: Work) -> Options:
    body = work.command.body
    options = addon_options(body) if application.is_addon else application_options(body)
    if body.strip() and not options.is_given:
        work.progress.note(f"{application.name} takes no manifest: the request's body is left out")
    return options


def _moved(work: Work, namespace: str) -> Work:
    """The same work in a namespace."""
    command = work.command.model_copy(update={"namespace": namespace})
    return dataclasses.replace(work, command=command)


async def _check_namespace(application: Application, work: Work, site: _Site) -> None:
    """Applications need a namespace that is there; a sample wants to be in the mesh, too."""
    ref = Ref("v1", "Namespace", "", site.namespace)
    resource = await work.resources.find("v1", "Namespace")
    try:
        namespace = await work.client.get(resource.path(ref), subject=str(ref))
    except (ObjectNotFound, NamespaceMissing):
        raise NamespaceMissing(
            f"namespace {site.namespace} does not exist",
            remedy="install Istio first" if application.is_addon else "create the namespace first",
            subject=str(ref),
        ) from None
    if not application.is_addon and not is_in_mesh(labels_of(namespace)):
        work.progress.warn(
            f"Namespace {site.namespace} asks for no sidecars, so {application.name} runs outside "
            "the mesh",
            "The operation label-namespace turns injection on; pods get sidecars when they restart",
        )


async def _place(work: Work, objects: Sequence[KubeObject]) -> None:
    try:
        await place(work, objects)
    except KindUnknown as error:
        raise KindUnknown(
            error.summary,
            cause="the definitions of Istio are not in the cluster",
            remedy="install Istio first, or leave the gateway out: `gateway: false` in "
            "ApplicationOptions",
            subject=error.subject,
        ) from None


async def _served(work: Work, objects: Iterable[KubeObject]) -> list[KubeObject]:
    """Objects of kinds that the cluster has: with Istio's definitions their resources went, too."""
    served = []
    for obj in objects:
        try:
            await work.resources.find(obj["apiVersion"], obj["kind"])
        except KindUnknown:
            continue
        served.append(obj)
    return served


async def _prune(
    application: Application, work: Work, site: _Site, planned: Sequence[PlannedObject]
) -> None:
    stale = await leftovers(work, application, namespace=site.namespace, planned=planned)
    if not stale:
        return
    pruned = await work.engine.delete_all(stale)
    work.progress.tell(
        Phase.PRUNED,
        f"Pruned {len(pruned)} objects that {application.name} does not have any more",
        listing(pruned),
        numbers={"objects": len(pruned)},
    )


async def _await_ready(work: Work, planned: Sequence[PlannedObject], options: Options) -> None:
    async def tell(ref: Ref) -> None:
        work.progress.tell(
            Phase.READY, f"{ref} is ready", numbers={"seconds": work.progress.seconds}
        )

    timeout = options.readiness_timeout
    late = await work.engine.ready(planned, within=timeout, on_ready=tell)
    if late:
        first = min(late)
        raise NotReadyInTime(
            f"not ready after {timeout.total_seconds():.0f} s: {listing(sorted(late))}",
            cause=await why_not_ready(work.client, work.resources, first),
            subject=str(first),
        )
