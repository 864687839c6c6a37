"""Reports before an upgrade of Istio which objects it will break or change.

Objects are checked against the definitions of both versions, so that an error that is there already
is not blamed on the upgrade, and against what each minor between them does differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.definitions.schemas import Schemas
from services.translator.definitions.validating import validate
from services.translator.deprecations.modernizing import modernized
from services.translator.extensions import check_extension
from services.translator.istio.objects import group_kind, subject_of, text
from services.translator.istio.versions import Minor, minor_of, minor_text
from services.translator.reports import Finding, Level, Path, errors
from services.translator.upgrades.behaviours import Behaviour, behaviours_between
from services.translator.upgrades.meshes import DEFAULT_ROOT, Mesh

_SEVERITY = (Level.ERROR, Level.WARNING, Level.INFO)
_GROUPS = ("istio.io", "gateway.networking.k8s.io", "smi-spec.io")
_SUFFIXES = (".istio.io", ".smi-spec.io", ".networking.k8s.io", ".networking.x-k8s.io")
_OTHERS = frozenset(
    {
        *(("", kind) for kind in ("ConfigMap", "Namespace", "Pod", "Service")),
        *(("apps", kind) for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")),
        *(("batch", kind) for kind in ("CronJob", "Job")),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change that the upgrade brings to one object, or to the mesh as a whole."""

    finding: Finding
    """Its rule is `kind`, `api-version` or `schema` for what the definitions lost,
    `upgrade/<minor>/<key>` for what Istio does differently, else that of a check, such as IST0151.
    """
    since: str
    """The minor that brings it, such as 1.31; "" for a finding that the upgrade does not change."""
    rewritten: KubeObject | None = None
    """The whole object in a form that works after the upgrade as it does before."""

    @property
    def order(self) -> tuple[int, Minor, Ref, str, str, str]:
        """Errors first, then the older minors, then by object and place."""
        found = self.finding
        since = minor_of(self.since) if self.since else (0, 0)
        severity = _SEVERITY.index(found.level)
        return (severity, since, found.subject, found.place, found.rule, found.message)

    def as_json(self) -> dict[str, Any]:
        return {
            "level": self.finding.level.value,
            "rule": self.finding.rule,
            "since": self.since,
            "object": str(self.finding.subject),
            "path": self.finding.place,
            "reason": self.finding.message,
            "remedy": self.finding.remedy,
            "rewritten": self.rewritten,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeReport:
    """All changes, in their order."""

    current: str
    target: str
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Changes of each level; every level is there."""
        levels = [change.finding.level for change in self.changes]
        return {level.value: levels.count(level) for level in _SEVERITY}

    def as_json(self) -> dict[str, Any]:
        return {
            "current": self.current,
            "target": self.target,
            "counts": self.counts,
            "changes": [change.as_json() for change in self.changes],
        }


def upgrade_report(
    objects: Iterable[KubeObject],
    *,
    current: str,
    target: str,
    current_schemas: Schemas | None,
    target_schemas: Schemas | None,
    root_namespace: str = DEFAULT_ROOT,
    kubernetes_minor: int = 0,
) -> UpgradeReport:
    """Reports the changes that an upgrade from Istio `current` to `target` brings to a mesh.

    Only objects of Istio, the Gateway API and SMI count, and the core kinds that concern a
    mesh. Without `current_schemas` every object counts as valid now, as objects in a cluster are;
    without `target_schemas` the definitions are not compared. For the same minor, or an older
    target, only the definitions are compared: whether a downgrade is possible is not asked here.

    Raises `OptionsMalformed` for what is no version, and `SchemasMissing` for a damaged definition.
    """
    relevant = [obj for obj in objects if _is_relevant(obj)]
    upgrade = _Upgrade(
        current=current,
        target=target,
        root_namespace=root_namespace,
        current_schemas=current_schemas,
        target_schemas=target_schemas,
    )
    changes = [change for obj in relevant for change in upgrade.definition_changes(obj)]
    before, after = minor_of(current), minor_of(target)
    if before < after:
        mesh = Mesh.of(relevant, root_namespace=root_namespace, kubernetes_minor=kubernetes_minor)
        for behaviour in behaviours_between(before, after):
            changes += _behaviour_changes(behaviour, relevant, mesh)
        changes += _unreadable_settings(mesh)
        changes += [change for obj in relevant for change in upgrade.extension_changes(obj)]
    changes.sort(key=lambda change: change.order)
    return UpgradeReport(current=current, target=target, changes=tuple(changes))


def _is_relevant(obj: KubeObject) -> bool:
    group, kind = group_kind(obj)
    return group in _GROUPS or group.endswith(_SUFFIXES) or (group, kind) in _OTHERS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upgrade:
    """Compares objects under the current and the target version."""

    current: str
    target: str
    root_namespace: str
    current_schemas: Schemas | None
    target_schemas: Schemas | None

    def definition_changes(self, obj: KubeObject) -> Iterator[Change]:
        """Reports what the definitions of the target lack and those of the current version have."""
        lost = list(self._lost(obj))
        rewritten = self._rewritten(obj) if lost else None
        for finding in lost:
            if rewritten is not None:
                finding = replace(finding, remedy="apply the rewritten object")
            yield Change(finding=finding, since=self._since, rewritten=rewritten)

    def extension_changes(self, obj: KubeObject) -> Iterator[Change]:
        """Reports findings about extensions, and which of them the target version brings."""
        root = self.root_namespace
        before = check_extension(obj, target=self.current, root_namespace=root)
        known = {(found.path, found.rule) for found in before}
        for found in check_extension(obj, target=self.target, root_namespace=root):
            is_new = (found.path, found.rule) not in known
            yield Change(finding=found, since=self._since if is_new else "")

    @property
    def _since(self) -> str:
        return minor_text(minor_of(self.target))

    def _lost(self, obj: KubeObject) -> Iterator[Finding]:
        if self.target_schemas is None:
            return
        group, kind = group_kind(obj)
        version = text(obj.get("apiVersion")).rpartition("/")[2]
        if self.current_schemas is not None:
            now = self.current_schemas.find(group, kind)
            if now is None or version not in now.versions:
                return
        elif not self.target_schemas.kinds_of(group):
            return
        then = self.target_schemas.find(group, kind)
        if then is None:
            yield Finding(
                level=Level.ERROR,
                rule="kind",
                subject=subject_of(obj),
                path=("kind",),
                message=f"Istio {self.target} has no {kind} of {group}",
                remedy=self._successor(obj),
            )
        elif version not in then.versions:
            served = ", ".join(f"{group}/{version}" for version in then.versions)
            yield Finding(
                level=Level.ERROR,
                rule="api-version",
                subject=subject_of(obj),
                path=("apiVersion",),
                message=f"{obj['apiVersion']} is not served any more, only {served}",
                remedy=f"write it as {served}",
            )
        else:
            known = {(found.path, found.rule) for found in _wrong(obj, self.current_schemas)}
            wrong = _wrong(obj, self.target_schemas)
            yield from (found for found in wrong if (found.path, found.rule) not in known)

    def _rewritten(self, obj: KubeObject) -> KubeObject | None:
        """The object in today's forms; None when it has them already or the target refuses it."""
        modern = modernized(obj, target=self.target, root_namespace=self.root_namespace).obj
        schemas = self.target_schemas
        if modern == obj or schemas is None or schemas.find(*group_kind(modern)) is None:
            return None
        return None if _wrong(modern, schemas) else modern

    def _successor(self, obj: KubeObject) -> str:
        """Which kind to use instead; "" when none is known."""
        found = modernized(obj, target=self.target, root_namespace=self.root_namespace).findings
        return next((finding.remedy for finding in found if finding.rule == "gone"), "")


def _wrong(obj: KubeObject, schemas: Schemas | None) -> Sequence[Finding]:
    return errors(validate(obj, schemas=schemas)) if schemas is not None else ()


def _behaviour_changes(
    behaviour: Behaviour, objects: Sequence[KubeObject], mesh: Mesh
) -> Iterator[Change]:
    if behaviour.concerns is not None and behaviour.concerns(mesh):
        yield _change(behaviour, Ref("meshbus.io/v1", "Mesh", "", mesh.root_namespace), ())
    if behaviour.places is None:
        return
    for obj in mesh.all(*behaviour.kind) if behaviour.kind else objects:
        paths = list(behaviour.places(obj, mesh))
        rewritten = behaviour.rewritten(obj, paths)
        for path in paths:
            yield replace(_change(behaviour, subject_of(obj), path), rewritten=rewritten)


def _change(behaviour: Behaviour, subject: Ref, path: Path) -> Change:
    finding = Finding(
        level=behaviour.level,
        rule=behaviour.rule,
        subject=subject,
        path=path,
        message=f"{behaviour.title}: {behaviour.reason}",
        remedy=behaviour.remedy,
    )
    return Change(finding=finding, since=minor_text(behaviour.minor))


def _unreadable_settings(mesh: Mesh) -> Iterator[Change]:
    for config in mesh.configs:
        if not config.is_readable:
            finding = Finding(
                level=Level.WARNING,
                rule="mesh-config",
                subject=subject_of(config.obj),
                path=("data", "mesh"),
                message="the mesh's settings cannot be read, so they were not looked at",
                remedy="write them as one YAML document",
            )
            yield Change(finding=finding, since="")
