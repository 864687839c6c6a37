"""Checks before the first write: the request against the inventory, and the effects of an upgrade.

`force` overrides a refusal; a warning stops nothing. The translator knows what an upgrade means for
the users' own objects. Without its answer the upgrade goes on, because the mesh's own objects do
not depend on it; the events say what was not checked.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.chassis.errors import (
    MeshbusError,
    PrecheckRefused,
    RevisionInUse,
    RevisionUnknown,
)
from services.chassis.kube.objects import KubeObject
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection
from services.lifecycle.cluster.facts import configuration
from services.lifecycle.cluster.inventory import Inventory
from services.lifecycle.cluster.versions import Version, kubernetes_range, unsafe_step
from services.lifecycle.mesh.requests import MeshRequest

_MOST_TOLD = 10

Report = Callable[[Sequence[KubeObject], str, str], Awaitable[dict[str, Any]]]
"""The translator's report for objects, from one version to another (`mesh.translator.upgrade`)."""


@dataclass(slots=True)
class Findings:
    """Results of checks: `refusals` stop an operation that is not forced."""

    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def settle(self, *, force: bool) -> list[str]:
        """The warnings to tell; raises `PrecheckRefused` for the refusals unless forced."""
        if self.refusals and not force:
            raise PrecheckRefused(
                "the mesh is left as it is: " + "; ".join(self.refusals),
                cause="the change is not safe for what runs in the cluster",
            )
        return [f"forced although {text}" for text in self.refusals] + self.warnings


def system_namespace(request: MeshRequest, inventory: Inventory, *revisions: str) -> str:
    """The namespace of the Istio that a request is about: the named one, else that of the first of
    the revisions that is there, else that of any other.

    Raises `RevisionUnknown` where there are several and none is named: any would be a guess.
    """
    if request.namespace_given:
        return request.namespace
    there = next(filter(None, map(inventory.namespaces, revisions)), inventory.namespaces())
    if len(there) > 1:
        raise RevisionUnknown(
            f"Istio is installed in the namespaces {', '.join(there)}",
            cause="the request does not say which one is meant",
            remedy="name it: metadata.namespace of an IstioOperator in the body",
        )
    return there[0] if there else inventory.namespace(request.namespace)


def require_alone(inventory: Inventory, revision: str, namespace: str) -> None:
    """Raises `RevisionInUse` where the revision is installed in another namespace.

    Its objects for the whole cluster, webhooks first of all, have one name: whoever installs or
    removes one Istio of a name would take them from the other. So `force` does not help.
    """
    others = [other for other in inventory.namespaces(revision) if other != namespace]
    if others:
        raise RevisionInUse(
            f"revision {revision} is installed in the namespace {', '.join(others)}, and not only "
            f"in {namespace}",
            cause="webhooks and roles of a revision are there once in a cluster, so two of one "
            "name cannot be told apart",
            remedy="name another revision, or the namespace where this one is; two that are there "
            "already go by istioctl, or both by a deletion with `purge: true`",
        )


def check_install(
    request: MeshRequest, *, version: str, inventory: Inventory, kubernetes_minor: int
) -> Findings:
    """Server version, downgrade, jump, other installers, and neighbours of another version."""
    findings = Findings()
    _check_kubernetes(findings, version=version, minor=kubernetes_minor)
    revisions = inventory.revisions()
    current = revisions.get(request.revision, "")
    step = unsafe_step(current, version) if current else ""
    if step:
        findings.refusals.append(f"revision {request.revision} would go from {step}")
    for plane in inventory.foreign_planes:
        revision = plane.labels.get(istio.REVISION, istio.DEFAULT_REVISION)
        if revision == request.revision:
            findings.refusals.append(
                f"revision {revision} was installed by another tool ({plane.ref})"
            )
        else:
            findings.warnings.append(f"another tool installed revision {revision} ({plane.ref})")
    for revision, other in revisions.items():
        apart = revision != request.revision and _lines_apart(other, version) > 1
        if apart:
            findings.warnings.append(
                f"revision {revision} ({other}) is more than one minor version away: move "
                "workloads in steps, a proxy may not be newer than its control plane"
            )
    return findings


async def check_upgrade(
    connection: Connection, report: Report, *, current: str, target: str
) -> Findings:
    """Refuses an upgrade that breaks objects in the cluster; warns of objects that it changes."""
    try:
        objects = await configuration(connection)
        return judged(await report(objects, current, target))
    except MeshbusError as error:
        return unchecked(error, current=current, target=target)


def judged(report: Mapping[str, Any]) -> Findings:
    """A report as refusals (its errors) and warnings, the first few of each."""
    changes = report.get("changes") or []

    def of_level(level: str) -> list[str]:
        return _bounded([_change(change) for change in changes if change.get("level") == level])

    return Findings(refusals=of_level("error"), warnings=of_level("warning"))


def unchecked(error: MeshbusError, *, current: str, target: str) -> Findings:
    """The warning of an upgrade that could not be checked."""
    text = f"what {current} to {target} means for the cluster's objects was not checked"
    return Findings(warnings=[f"{text}: {error.summary}"])


def check_uninstall(*, revisions: Sequence[str], inventory: Inventory, force: bool) -> None:
    """Refuses to take a revision away from under its tags while others could hold them."""
    others = [name for name in inventory.revisions() if name not in revisions]
    held = sorted(tag for tag, target in inventory.tags().items() if target in revisions)
    if held and others and not force:
        raise RevisionInUse(
            f"revision {', '.join(revisions)} still has the tag{'s' if len(held) > 1 else ''} "
            f"{', '.join(held)}",
            remedy=(
                f"move {'them' if len(held) > 1 else 'it'} first: install revision {others[0]} "
                f"with `tags: [{', '.join(held)}]`; or send `force: true`"
            ),
        )


def revisions_to_remove(request: MeshRequest, inventory: Inventory) -> tuple[str, ...]:
    """The revisions to delete; none when no revision is installed.

    Without a name a purge means all; else it is the only one, or the unnamed one, because anything
    else would be a guess.
    """
    revisions = sorted(inventory.revisions())
    if request.revision_given:
        if request.revision not in revisions and revisions:
            raise RevisionUnknown(
                f"revision {request.revision} is not installed; installed: {', '.join(revisions)}"
            )
        return (request.revision,) if revisions else ()
    if len(revisions) <= 1 or request.purge:
        return tuple(revisions)
    if istio.DEFAULT_REVISION in revisions:
        return (istio.DEFAULT_REVISION,)
    raise RevisionUnknown(
        f"several revisions are installed: {', '.join(revisions)}",
        cause="the request does not say which one to remove",
        remedy="name it: spec.revision of the IstioOperator or of the LifecycleOptions",
    )


def _check_kubernetes(findings: Findings, *, version: str, minor: int) -> None:
    supported = kubernetes_range(version)
    if supported is None or minor == 0:
        return
    lowest, highest = supported
    if minor < lowest:
        findings.refusals.append(
            f"Istio {version} needs Kubernetes 1.{lowest}, the cluster has 1.{minor}"
        )
    elif minor > highest:
        findings.warnings.append(
            f"Istio {version} was not tested with Kubernetes 1.{minor} (supported up to "
            f"1.{highest})"
        )


def _lines_apart(one: str, other: str) -> int:
    first, second = Version.parse(one), Version.parse(other)
    if first is None or second is None:
        return 0
    return abs(first.minor - second.minor) if first.major == second.major else 99


def kubernetes_minor(version: dict[str, str]) -> int:
    """The minor number in an answer of `/version` ("33+" on some clouds); 0 when unreadable."""
    found = re.match(r"\d+", str(version.get("minor", "")))
    return int(found[0]) if found else 0


def _change(change: dict[str, Any]) -> str:
    place = f" {change['path']}" if change.get("path") else ""
    remedy = f" ({change['remedy']})" if change.get("remedy") else ""
    return f"{change.get('object')}{place}: {change.get('reason')}{remedy}"


def _bounded(texts: list[str]) -> list[str]:
    more = len(texts) - _MOST_TOLD
    rest = [f"{more} more; `nats req mesh.translator.upgrade` lists them"] if more > 0 else []
    return texts[:_MOST_TOLD] + rest
