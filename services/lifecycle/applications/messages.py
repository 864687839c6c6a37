"""What operations on applications tell: warnings on the way, and the words at the end.

Summaries are those of Meshery's older adapter, except that a deletion says "removed": by this word
Meshery tells a deletion from a deployment.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.applications.addons import exposed_services, shared
from services.lifecycle.applications.samples import Application
from services.lifecycle.manifests.applying import Deletion
from services.lifecycle.manifests.objects import PlannedObject, listing
from services.lifecycle.work import Result, Work


def warn_of_openings(application: Application, work: Work, objects: Sequence[KubeObject]) -> None:
    """An add-on with a load balancer is open to everybody who finds it."""
    opened = exposed_services(objects) if application.is_addon else []
    if opened:
        work.progress.warn(
            f"{listing(opened)} can be reached from outside the cluster without authentication",
            "Apply the add-on again without `expose: true` to close it",
        )


def warn_of_takings(
    application: Application,
    work: Work,
    objects: Sequence[KubeObject],
    rivals: Sequence[KubeObject],
) -> None:
    """What another installed add-on, whose objects are `rivals`, loses to this one."""
    taken = [Ref.of(obj) for obj in shared(objects, rivals)]
    if taken:
        work.progress.warn(
            f"{application.rival} is installed too: {listing(taken)} now lead to "
            f"{application.name}",
            f"When {application.name} goes, {application.rival} gets them back",
        )


def installed(
    application: Application,
    work: Work,
    namespace: str,
    planned: Sequence[PlannedObject],
    *,
    origin: str,
) -> Result:
    """The end of an apply; `origin` says whose manifest it was."""
    applied = work.engine.outcome.applied
    created = sum(1 for one in planned if applied[one.ref].created)
    counts = (
        f"{len(planned)} objects {origin}: {created} created, {len(planned) - created} "
        f"configured; {listing([one.ref for one in planned])}"
    )
    numbers = (
        ("objects", len(planned)),
        ("created", created),
        ("seconds", work.progress.seconds),
    )
    name = application.name
    if application.is_addon:
        summary = f"Successfully installed {name}"
        return Result(summary, f"{summary} in the {namespace} namespace: {counts}", numbers)
    return Result(
        f"{name} application installed successfully",
        f"The {name} application is now installed in the {namespace} namespace: {counts}",
        numbers,
    )


def removed(
    application: Application, work: Work, namespace: str, deletion: Deletion, kept: Sequence[Ref]
) -> Result:
    """The end of a deletion; `kept` is what another add-on goes on with."""
    name = application.name
    title = name if application.is_addon else f"{name} application"
    staying = f". {listing(kept)} stay for {application.rival}" if kept else ""
    return Result(
        f"{title} removed successfully",
        f"The {title} is now removed from the {namespace} namespace: {deletion}{staying}",
        deletion.numbers(work),
    )
