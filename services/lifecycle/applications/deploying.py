"""Sample applications and add-ons as operations: applied, pruned, awaited, and removed whole.

Sample applications go to the request's namespace, add-ons to the mesh's. Applying ends when the
workloads are ready; repeating it changes nothing. A label with the operation's name marks every
object: by it a deletion finds objects of an earlier version of the sample, a repeat prunes them,
and two add-ons with Services of the same names tell whose they are. The namespace always stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from services.chassis.errors import KindUnknown, NamespaceMissing, SampleMissing
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.messages import AdvertisedOperation, Command, Phase, SlotKind, Verb
from services.chassis.operations.completion import Result
from services.chassis.reading.aside import read_aside
from services.lifecycle.applications.samples import (
    APPLICATION,
    APPLICATIONS,
    BY_NAME,
    AddonOptions,
    Application,
    ApplicationOptions,
    Options,
    Samples,
    expose,
    exposed_services,
    mark,
    move,
    options_of,
    shared,
)
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.inventory import mesh_of, take_inventory
from services.lifecycle.cluster.versions import choose_distribution
from services.lifecycle.manifests.objects import PlannedObject, identity, listing
from services.lifecycle.manifests.readiness import await_ready
from services.lifecycle.manifests.work import Operation, Work
from services.lifecycle.manifests.writing import (
    Deletion,
    apply_objects,
    delete_objects,
    set_namespaces,
    tell_plan,
)
from services.lifecycle.releases.fetching import Releases

_ROUTES = "networking.istio.io"
_NAMESPACED = (
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    (_ROUTES, "Gateway"),
    (_ROUTES, "VirtualService"),
)
_CLUSTER_SCOPED = (
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
)


@dataclass(frozen=True, slots=True)
class Applications:
    """Applies and deletes sample applications and add-ons."""

    samples: Samples
    releases: Releases

    def operations(self) -> list[Operation]:
        """An operation for each application."""
        return [
            Operation(
                AdvertisedOperation(
                    name=application.name,
                    description=application.description,
                    category=application.category,
                    slot=SlotKind.APPLY,
                    stays_in_namespace=not application.is_addon,
                ),
                partial(self.run, application),
                partial(_doing, application),
            )
            for application in APPLICATIONS
        ]

    async def run(self, application: Application, work: Work) -> Result:
        """Applies or deletes `application`, as the command's verb says."""
        body = work.command.body
        options = await read_aside(lambda: options_of(application, body), size=len(body))
        if options is None:
            options = AddonOptions() if application.is_addon else ApplicationOptions()
            if work.command.body.strip():
                work.progress.note(
                    f"{application.name} takes no manifest: the request's body is left out"
                )
        namespace, version = work.command.namespace, ""
        if application.files:
            mesh = mesh_of(await take_inventory(work.cluster))
            version, warning = await self._distribution(mesh.version, work)
            if warning:
                work.progress.warn(f"{application.name}: {warning}")
            namespace = mesh.namespace if application.is_addon else namespace
        command = work.command.model_copy(update={"namespace": namespace})
        moved = dataclasses.replace(work, command=command)
        instance = _Instance(application, moved, self.samples, version)
        if command.verb is Verb.DELETE:
            return await instance.remove()
        return await instance.install(options)

    async def _distribution(self, installed: str, work: Work) -> tuple[str, str]:
        """The distribution to take samples from, and a warning. One that is here and near enough
        is taken before another one is fetched."""
        try:
            return choose_distribution(installed, self.releases.here())
        except SampleMissing:
            if self.releases.source is None:
                raise
        return await self.releases.wanted(installed, work), ""


@dataclass(frozen=True, slots=True)
class _Instance:
    """An application in one namespace of one cluster."""

    application: Application
    work: Work
    samples: Samples
    version: str
    """Of the distribution that its manifests come from; "" for manifests of our own."""

    @property
    def namespace(self) -> str:
        return self.work.command.namespace

    # --- applying ---------------------------------------------------------------------------------

    async def install(self, options: Options) -> Result:
        objects = await self._objects(self.application, options)
        await self._check_namespace()
        await _set_namespaces(self.work, objects)
        rivals = await self._rivals()
        planned = [PlannedObject.of(obj) for obj in objects]
        tell_plan(self.work, planned)
        await apply_objects(self.work, planned)
        self._warn_of_load_balancers(objects)
        self._warn_of_taken_services(objects, rivals)
        within = timedelta(seconds=options.readinessTimeoutSeconds)
        await await_ready(self.work, planned, within=within)
        await self._prune(planned)
        return self._installed(planned)

    async def _objects(
        self, application: Application, options: Options | None = None
    ) -> list[KubeObject]:
        """The application's objects as they are to be, but for namespaces that they do not name."""
        objects = [
            obj
            for file in application.files
            for obj in await self.samples.distributed(self.version, file)
        ]
        if not application.files:
            objects = await self.samples.bundled(application.name)
        if isinstance(options, ApplicationOptions) and not options.gateway:
            objects = [obj for obj in objects if Ref.of(obj).group != _ROUTES]
        if application.is_addon:
            move(objects, self.namespace)
            is_exposed = isinstance(options, AddonOptions) and options.expose
            expose(objects, application.service if is_exposed else "")
        mark(objects, application)
        return objects

    async def _check_namespace(self) -> None:
        """Refuses a missing namespace; warns of a sample application outside the mesh."""
        ref = Ref("v1", "Namespace", "", self.namespace)
        is_addon, name = self.application.is_addon, self.application.name
        namespace = await self.work.cluster.get(ref)
        if namespace is None:
            raise NamespaceMissing(
                f"namespace {self.namespace} does not exist",
                remedy="install Istio first" if is_addon else "create the namespace first",
                subject=str(ref),
            )
        if not is_addon and not istio.is_in_mesh(labels_of(namespace)):
            self.work.progress.warn(
                f"Namespace {self.namespace} asks for no sidecars, so {name} runs outside the mesh",
                "The operation label-namespace turns injection on; pods get sidecars when they "
                "restart",
            )

    async def _rivals(self) -> list[KubeObject]:
        """The objects of the add-on with the same Services, if its Deployment is there."""
        rival = BY_NAME.get(self.application.rival)
        if rival is None:
            return []
        try:
            objects = await self._objects(rival)
        except SampleMissing:
            return []
        refs = [Ref.of(obj) for obj in objects]
        deployments = [ref for ref in refs if ref.group_kind == ("apps", "Deployment")]
        found = await self.work.cluster.select([("apps", "Deployment")], namespace=self.namespace)
        names = {one.ref.name for one in found}
        return objects if any(ref.name in names for ref in deployments) else []

    def _warn_of_load_balancers(self, objects: Sequence[KubeObject]) -> None:
        opened = exposed_services(objects) if self.application.is_addon else []
        if opened:
            self.work.progress.warn(
                f"{listing(opened)} can be reached from outside the cluster without authentication",
                "Apply the add-on again without `expose: true` to close it",
            )

    def _warn_of_taken_services(
        self, objects: Sequence[KubeObject], rivals: Sequence[KubeObject]
    ) -> None:
        taken = [Ref.of(obj) for obj in shared(objects, rivals)]
        rival, name = self.application.rival, self.application.name
        if taken:
            self.work.progress.warn(
                f"{rival} is installed too: {listing(taken)} now lead to {name}",
                f"When {name} goes, {rival} gets them back",
            )

    async def _prune(self, planned: Sequence[PlannedObject]) -> None:
        stale = await self._unwanted(planned)
        if not stale:
            return
        pruned = await self.work.engine.delete_all(stale)
        self.work.progress.tell(
            Phase.PRUNED,
            f"Pruned {len(pruned)} objects that {self.application.name} does not have any more",
            listing(pruned),
            numbers={"objects": len(pruned)},
        )

    # --- deleting ---------------------------------------------------------------------------------

    async def remove(self) -> Result:
        objects = await self._objects(self.application)
        kept = await self._give_back(objects)
        spared = {identity(ref) for ref in kept}
        objects = await _served(self.work, objects)
        await _set_namespaces(self.work, objects)
        planned = [PlannedObject.of(obj) for obj in objects]
        planned += [PlannedObject(ref, b"") for ref in await self._unwanted(planned)]
        planned = [one for one in planned if identity(one.ref) not in spared]
        tell_plan(self.work, planned)
        deletion = await delete_objects(self.work, planned)
        return self._removed(deletion, kept)

    async def _give_back(self, objects: Sequence[KubeObject]) -> list[Ref]:
        """Leaves objects that another add-on has too to it, in the other's form."""
        theirs = shared(objects, await self._rivals())
        if not theirs:
            return []
        rival, kinds = BY_NAME[self.application.rival], {Ref.of(obj).group_kind for obj in theirs}
        held = {identity(ref) for ref in await self._labelled(rival, list(kinds))}
        returned = [obj for obj in theirs if identity(Ref.of(obj)) not in held]
        if returned:
            self.work.progress.warn(
                f"{rival.name} is installed: it gets back what both have",
                listing([Ref.of(obj) for obj in returned]),
            )
            await apply_objects(self.work, [PlannedObject.of(obj) for obj in returned])
        return [Ref.of(obj) for obj in theirs]

    # --- objects by label -------------------------------------------------------------------------

    async def _unwanted(self, planned: Sequence[PlannedObject]) -> list[Ref]:
        """The application's objects in the cluster that are not in `planned`."""
        wanted = {identity(one.ref) for one in planned}
        scoped = _CLUSTER_SCOPED if self.application.is_addon else ()
        found = await self._labelled(self.application, (*_NAMESPACED, *scoped))
        return [ref for ref in found if identity(ref) not in wanted]

    async def _labelled(
        self, application: Application, kinds: Sequence[tuple[str, str]]
    ) -> list[Ref]:
        """An application's objects in the cluster.

        An add-on is looked for in all namespaces: it moves with the mesh.
        """
        found = await self.work.cluster.select(
            kinds,
            selector=f"{APPLICATION}={application.name}",
            namespace="" if application.is_addon else self.namespace,
        )
        return [one.ref for one in found]

    # --- results ----------------------------------------------------------------------------------
    # Summaries are those of Meshery's older adapter, except that a deletion says "removed": by this
    # word Meshery tells a deletion from a deployment.

    def _installed(self, planned: Sequence[PlannedObject]) -> Result:
        applied, name = self.work.engine.outcome.applied, self.application.name
        created = sum(1 for one in planned if applied[one.ref].created)
        version = self.version
        origin = f"from the samples of Istio {version}" if version else "of Meshbus' own"
        counts = (
            f"{len(planned)} objects {origin}: {created} created, {len(planned) - created} "
            f"configured; {listing([one.ref for one in planned])}"
        )
        numbers = (
            ("objects", len(planned)),
            ("created", created),
            ("seconds", self.work.progress.seconds),
        )
        if self.application.is_addon:
            summary = f"Successfully installed {name}"
            return Result(
                summary, f"{summary} in the {self.namespace} namespace: {counts}", numbers
            )
        return Result(
            f"{name} application installed successfully",
            f"The {name} application is now installed in the {self.namespace} namespace: {counts}",
            numbers,
        )

    def _removed(self, deletion: Deletion, kept: Sequence[Ref]) -> Result:
        name = self.application.name
        title = name if self.application.is_addon else f"{name} application"
        staying = f". {listing(kept)} stay for {self.application.rival}" if kept else ""
        return Result(
            f"{title} removed successfully",
            f"The {title} is now removed from the {self.namespace} namespace: {deletion}{staying}",
            deletion.numbers(self.work),
        )


async def _set_namespaces(work: Work, objects: Sequence[KubeObject]) -> None:
    try:
        await set_namespaces(work, objects)
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
            await work.cluster.resources.find(obj["apiVersion"], obj["kind"])
        except KindUnknown:
            continue
        served.append(obj)
    return served


def _doing(application: Application, command: Command) -> str:
    what = application.name if application.is_addon else f"{application.name} application"
    return f"{'removing' if command.verb is Verb.DELETE else 'installing'} {what}"
