"""What belongs to an application in a cluster: objects with a label that names its operation.

By the label a deletion finds what an earlier version of a sample brought, a repeat prunes what is
not wanted any more, and two add-ons with Services of the same names know whose they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.lifecycle.applications.addons import identity
from services.lifecycle.applications.samples import Application
from services.lifecycle.manifests.objects import PlannedObject
from services.lifecycle.work import Work

APPLICATION = "meshbus.io/application"
"""The label; its value is the operation's name."""

ROUTES = "networking.istio.io"
_NAMESPACED = (
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    (ROUTES, "Gateway"),
    (ROUTES, "VirtualService"),
)
_CLUSTER_SCOPED = (
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
)


def mark(objects: Iterable[KubeObject], application: Application) -> None:
    """Puts the label on the objects, in place; their pods do not get it."""
    for obj in objects:
        obj["metadata"]["labels"] = {**labels_of(obj), APPLICATION: application.name}


async def belongings(
    work: Work, application: Application, *, namespace: str, kinds: Sequence[tuple[str, str]] = ()
) -> list[Ref]:
    """The application's objects in the cluster, of all kinds that samples bring or of `kinds`.

    An add-on is looked for in all namespaces: it moves with the mesh.
    """
    scoped = _CLUSTER_SCOPED if application.is_addon else ()
    found = await work.surveyor.select(
        kinds or (*_NAMESPACED, *scoped),
        selector=f"{APPLICATION}={application.name}",
        namespace="" if application.is_addon else namespace,
    )
    return [one.ref for one in found]


async def leftovers(
    work: Work, application: Application, *, namespace: str, planned: Sequence[PlannedObject]
) -> list[Ref]:
    """What the application brought before and does not have in `planned`."""
    wanted = {identity(one.ref) for one in planned}
    found = await belongings(work, application, namespace=namespace)
    return [ref for ref in found if identity(ref) not in wanted]
