"""The context of a translation: facts about the cluster, and the definitions of its kinds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.chassis.errors import SchemasMissing
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import ClusterFacts, MeshFact, Step
from services.chassis.messages.following import MADE_KINDS
from services.translator import smi
from services.translator.definitions.schemas import Schemas
from services.translator.istio.objects import SYSTEM_NAMESPACE
from services.translator.istio.versions import nearest, parsed
from services.translator.options import Options
from services.translator.reports import Line
from services.translator.smi import is_smi
from services.translator.work import Cluster, Definitions

NAMESPACED_GROUPS = frozenset(
    {
        "networking.istio.io",
        "security.istio.io",
        "telemetry.istio.io",
        "extensions.istio.io",
        "split.smi-spec.io",
        "access.smi-spec.io",
        "specs.smi-spec.io",
    }
)
KNOWN_GROUPS = NAMESPACED_GROUPS | {
    "authentication.istio.io",
    "gateway.networking.k8s.io",
    "gateway.networking.x-k8s.io",
    "inference.networking.k8s.io",
}
"""Groups whose objects depend on the cluster: on what it serves, and on what is there."""

_DEFAULT_TRUST_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that a translation depends on beside its input."""

    facts: ClusterFacts
    schemas: Schemas | None
    """Definitions of the cluster's Istio version; None when there are none for it."""
    version: str
    """The Istio version that they stand for, or the cluster's; "" stands for the newest."""
    options: Options
    is_deletion: bool
    only: str = ""
    """The one source that is translated, as `origin_of` names it; "" for all of the request."""

    @property
    def root_namespace(self) -> str:
        return root_namespace(self.facts)

    @property
    def trust_domain(self) -> str:
        meshes = self.facts.meshes
        known = meshes[0].trust_domain if meshes else _DEFAULT_TRUST_DOMAIN
        return self.options.trustDomain or known


def smi_objects(steps: Iterable[Step]) -> list[KubeObject]:
    return [obj for step in steps for obj in step.objects if is_smi(obj)]


def known_smi(facts: ClusterFacts) -> list[KubeObject]:
    """The SMI objects that the cluster keeps."""
    return [obj for obj in facts.objects if is_smi(obj)]


async def context_of(
    steps: Sequence[Step],
    *,
    options: Options,
    is_deletion: bool,
    cluster: Cluster | None,
    definitions: Definitions,
    only: str = "",
) -> tuple[Context, list[Line]]:
    """The context of the translation of `steps`, and lines about it."""
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
        only=only,
    )
    return context, notes


def _depends_on_the_cluster(steps: Sequence[Step]) -> bool:
    """Plain Kubernetes objects need no look at the cluster, and no wait for one."""
    groups = {Ref.of(obj).group for step in steps for obj in step.objects}
    return bool(groups & KNOWN_GROUPS)


async def _facts(cluster: Cluster, steps: Sequence[Step]) -> ClusterFacts:
    given = smi_objects(steps)
    if not given:
        return await cluster.facts()
    namespaces = smi.namespaces_of(given)
    facts = await _smi_facts(cluster, namespaces)
    # Objects that the cluster keeps are translated again when their routes change.
    wider = smi.namespaces_of(given, known_smi(facts))
    return facts if wider <= namespaces else await _smi_facts(cluster, wider)


async def _smi_facts(cluster: Cluster, namespaces: set[str]) -> ClusterFacts:
    return await cluster.facts(
        namespaces=sorted(namespaces), kinds=sorted(smi.SMI_KINDS), managed_kinds=MADE_KINDS
    )


async def schemas_for(
    facts: ClusterFacts, options: Options, definitions: Definitions
) -> tuple[Schemas | None, str, list[Line]]:
    """Definitions of the wanted or the installed version, the version, and what to say of it.

    The version is "" where the cluster has none that can be compared.
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
    """The version of the default revision, or the first known one; "" without any."""
    return next((mesh.version for mesh in meshes if mesh.version), "")


def root_namespace(facts: ClusterFacts) -> str:
    """The namespace whose objects hold for the whole mesh."""
    return facts.meshes[0].namespace if facts.meshes else SYSTEM_NAMESPACE
