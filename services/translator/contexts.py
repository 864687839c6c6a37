"""What a translation depends on beside its input: facts about the cluster, and definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.chassis.errors import SchemasMissing
from services.chassis.kube.objects import Ref
from services.chassis.messages import ClusterFacts, MeshFact, Step
from services.translator import smi
from services.translator.definitions.schemas import Schemas
from services.translator.istio.versions import nearest, parsed
from services.translator.options import Options
from services.translator.reports import Line
from services.translator.translating import (
    KNOWN_GROUPS,
    MADE_KINDS,
    Context,
    known_smi,
    smi_objects,
)
from services.translator.work import Definitions


class Knowing(Protocol):
    """What can tell facts about the cluster (`work.Cluster`)."""

    async def facts(
        self,
        *,
        namespaces: Sequence[str] = (),
        kinds: Sequence[str] = (),
        managed_kinds: Sequence[str] = (),
    ) -> ClusterFacts: ...


async def context_of(
    steps: Sequence[Step],
    *,
    options: Options,
    is_deletion: bool,
    cluster: Knowing | None,
    definitions: Definitions,
) -> tuple[Context, list[Line]]:
    """What the translation of `steps` depends on, and what to say of it."""
    facts, schemas, version = ClusterFacts(), None, ""
    notes: list[Line] = []
    depends = _depends_on_the_cluster(steps)
    if depends and cluster is not None:
        facts = await _facts(cluster, steps)
    if depends or options.istioVersion:
        schemas, version, notes = await schemas_for(facts, options, definitions)
    context = Context(
        facts=facts,
        schemas=schemas,
        version=version,
        options=options,
        is_deletion=is_deletion,
    )
    return context, notes


def _depends_on_the_cluster(steps: Sequence[Step]) -> bool:
    """Plain Kubernetes objects need no look at the cluster, and no wait for one."""
    groups = {Ref.of(obj).group for step in steps for obj in step.objects}
    return bool(groups & KNOWN_GROUPS)


async def _facts(cluster: Knowing, steps: Sequence[Step]) -> ClusterFacts:
    given = smi_objects(steps)
    if not given:
        return await cluster.facts()
    namespaces = smi.namespaces_of(given)
    facts = await _smi_facts(cluster, namespaces)
    # Objects that the cluster keeps are translated again when their routes change.
    wider = smi.namespaces_of(given, known_smi(facts))
    return facts if wider <= namespaces else await _smi_facts(cluster, wider)


async def _smi_facts(cluster: Knowing, namespaces: set[str]) -> ClusterFacts:
    return await cluster.facts(
        namespaces=sorted(namespaces), kinds=sorted(smi.SMI_KINDS), managed_kinds=MADE_KINDS
    )


async def schemas_for(
    facts: ClusterFacts, options: Options, definitions: Definitions
) -> tuple[Schemas | None, str, list[Line]]:
    """Definitions of the wanted or the installed version, the version, and what to say of it.

    The version is "" where the cluster tells none that can be compared.
    """
    available = definitions.versions()
    if options.istioVersion:
        return await definitions.schemas(options.istioVersion), options.istioVersion, []
    installed = installed_version(facts.meshes)
    version = nearest(installed, available) if installed else (available or [""])[0]
    # An image may have a tag of its own, such as `latest`.
    comparable = installed.removeprefix("v") if parsed(installed) else ""
    if not version:
        note = f"there are no definitions of {f'Istio {installed}' if installed else 'any version'}"
        return None, comparable, [Line(source="Validation", note=note)]
    try:
        return await definitions.schemas(version), version, []
    except SchemasMissing as error:
        return None, comparable, [Line(source="Validation", note=error.summary)]


def installed_version(meshes: Sequence[MeshFact]) -> str:
    """The version of the default revision, or of the first one that tells its own; "" if none."""
    return next((mesh.version for mesh in meshes if mesh.version), "")
