"""What an upgrade of Istio would break, change or leave behind, told before it is done.

Objects are held against the definitions of both versions, so that what is wrong already is not
blamed on the upgrade, and against what each minor between them does differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.definitions.schemas import Schemas
from services.translator.extensions.filters import check_filter
from services.translator.extensions.plugins import check_plugin
from services.translator.istio.reading import group_kind, minor_of, subject_of, told_minor
from services.translator.reports import Finding, Level, Path
from services.translator.upgrades.behaviours import Behaviour
from services.translator.upgrades.comparing import Step, definition_changes
from services.translator.upgrades.histories import behaviours_between
from services.translator.upgrades.meshes import DEFAULT_ROOT, Mesh
from services.translator.upgrades.reports import Change, UpgradeReport, order

_GROUPS = ("istio.io", "gateway.networking.k8s.io", "smi-spec.io")
_SUFFIXES = (".istio.io", ".smi-spec.io", ".networking.k8s.io", ".networking.x-k8s.io")
_OTHERS = frozenset(
    {
        ("", "ConfigMap"),
        ("", "Namespace"),
        ("", "Pod"),
        ("", "Service"),
        ("apps", "DaemonSet"),
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("apps", "StatefulSet"),
        ("batch", "CronJob"),
        ("batch", "Job"),
    }
)


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
    """What going from Istio `current` to `target` (such as 1.30.0 and 1.31.0) does to a mesh.

    Only objects of Istio, the Gateway API and SMI are looked at, and the core kinds that concern a
    mesh. Without `current_schemas` every object is taken to be valid now, as what lies in a cluster
    is; without `target_schemas` the definitions are not compared. For the same minor, or an older
    target, only the definitions are compared: whether a downgrade may be is not asked here.

    Raises `OptionsMalformed` for what is no version, and `SchemasMissing` for a damaged definition.
    """
    relevant = [obj for obj in objects if _is_relevant(obj)]
    before, after = minor_of(current), minor_of(target)
    step = Step(
        current=current,
        target=target,
        root_namespace=root_namespace,
        current_schemas=current_schemas,
        target_schemas=target_schemas,
    )
    changes: list[Change] = []
    for obj in relevant:
        changes.extend(definition_changes(obj, step))
    if before < after:
        mesh = Mesh.of(relevant, root_namespace=root_namespace, kubernetes_minor=kubernetes_minor)
        changes.extend(_by_behaviour(relevant, mesh, behaviours_between(before, after)))
        changes.extend(_unreadable(mesh))
        for obj in relevant:
            changes.extend(_by_care(obj, step))
    return UpgradeReport(current=current, target=target, changes=tuple(sorted(changes, key=order)))


def _is_relevant(obj: KubeObject) -> bool:
    group, kind = group_kind(obj)
    return group in _GROUPS or group.endswith(_SUFFIXES) or (group, kind) in _OTHERS


def _by_behaviour(
    objects: Sequence[KubeObject], mesh: Mesh, behaviours: Sequence[Behaviour]
) -> Iterator[Change]:
    for behaviour in behaviours:
        if behaviour.concerns is not None and behaviour.concerns(mesh):
            whole = Ref(
                api_version="meshbus.io/v1", kind="Mesh", namespace="", name=mesh.root_namespace
            )
            yield _change(behaviour, subject=whole, path=())
        if behaviour.places is None:
            continue
        for obj in mesh.all(*behaviour.kind) if behaviour.kind else objects:
            paths = list(behaviour.places(obj, mesh))
            rewritten = behaviour.rewrite(obj) if behaviour.rewrite and paths else None
            for path in paths:
                yield _change(
                    behaviour,
                    subject=subject_of(obj),
                    path=path,
                    rewritten=rewritten if rewritten != obj else None,
                )


def _change(
    behaviour: Behaviour, *, subject: Ref, path: Path, rewritten: KubeObject | None = None
) -> Change:
    return Change(
        subject=subject,
        path=path,
        level=behaviour.level,
        rule=behaviour.rule,
        since=told_minor(behaviour.minor),
        reason=f"{behaviour.title}: {behaviour.reason}",
        remedy=behaviour.remedy,
        rewritten=rewritten,
    )


def _unreadable(mesh: Mesh) -> Iterator[Change]:
    for config in mesh.configs:
        if not config.is_readable:
            yield Change(
                subject=subject_of(config.obj),
                path=("data", "mesh"),
                level=Level.WARNING,
                rule="mesh-config",
                since="",
                reason="the mesh's settings cannot be read, so they were not looked at",
                remedy="write them as one YAML document",
            )


def _by_care(obj: KubeObject, step: Step) -> Iterator[Change]:
    """EnvoyFilters and plugins: what the target changes for them, and what was fragile before."""
    root = step.root_namespace
    before = check_filter(obj, target=step.current, root_namespace=root)
    known = {(finding.path, finding.rule) for finding in before}
    for finding in check_filter(obj, target=step.target, root_namespace=root):
        is_new = (finding.path, finding.rule) not in known
        yield _finding(finding, since=step.since if is_new else "")
    for finding in check_plugin(obj):
        yield _finding(finding, since="")


def _finding(finding: Finding, *, since: str) -> Change:
    return Change(
        subject=finding.subject,
        path=finding.path,
        level=finding.level,
        rule=finding.rule,
        since=since,
        reason=finding.message,
        remedy=finding.remedy,
    )
