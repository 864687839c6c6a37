"""The body of the operation `istio-rollout`: where, in which waves, and what would stop it.

What the new revision is like stands beside it, as in the body of `istio`: an IstioOperator and a
LifecycleOptions (its revision, profile, force).

    apiVersion: meshbus.io/v1
    kind: RolloutOptions
    spec:
      version: 1.31.0
      waves: [{clusters: 1}, {labels: {region: eu}}, {share: 50}, {}]
      labels: {shop-eu: {region: eu}}
      namespacesAtOnce: 2
      gate: {errorRatio: 0.01, p99Ms: 500, proxiesInSync: 1.0, windowSeconds: 120}
      soakSeconds: 600
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.labelling import Text, has_labels
from services.chassis.kube.manifests import dump_manifest, parse_documents
from services.chassis.kube.objects import KubeObject
from services.chassis.operations.bodies import API_VERSION, find_options
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.versions import Version
from services.lifecycle.manifests.writing import read_manifest
from services.lifecycle.mesh.requests import MeshRequest, parse_request
from services.lifecycle.rollouts.records import OTHERS, RolloutRecord

KIND = "RolloutOptions"
_MOST_WAVES = 50
_MOST_LABELLED = 1000
_A_DAY_S = 24 * 3600
_LONGEST_TEST = 64 * 1024
_NOT_TOLD = {"gate": {"performance": {"test"}}}
"""Of the options: it may hold what others must not read."""


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WaveOptions(_Written):
    """Which clusters a wave takes, of those that no wave before it took. Without any field: all."""

    clusters: int | None = Field(default=None, ge=1, le=10_000)
    share: float | None = Field(default=None, gt=0, le=100)
    """In percent of the whole fleet, rounded up."""
    names: list[Text] | None = Field(default=None, max_length=1000)
    """What people call them; `*` stands for any text."""
    labels: dict[Text, Text] | None = None

    @model_validator(mode="after")
    def _has_one_measure(self) -> WaveOptions:
        if self.clusters is not None and self.share is not None:
            raise ValueError("clusters and share exclude each other")
        return self


class PerformanceGateOptions(_Written):
    """Load tests on each cluster, before it changes and after its namespaces have moved."""

    test: str = Field(default="", max_length=_LONGEST_TEST, repr=False)
    """As the operation `performance-test` takes it; `{cluster}` stands for what people call the
    cluster. It stays in the signed command: where a rollout stands does not have it."""
    runs: int = Field(default=3, ge=1, le=10)
    """On each side. Fewer than three prove no difference; a test's own objective holds with one."""
    threshold: float = Field(default=0.1, gt=0, le=10)
    """The share by which a figure may get worse."""


class GateOptions(_Written):
    """What has to hold for the moved namespaces, before and during the soak."""

    error_ratio: float | None = Field(default=None, alias="errorRatio", ge=0, le=1)
    """Requests answered by 5xx or not at all, of all requests."""
    p99_ms: float | None = Field(default=None, alias="p99Ms", gt=0)
    proxies_in_sync: float | None = Field(default=None, alias="proxiesInSync", ge=0, le=1)
    """Of the proxies in the moved namespaces."""
    window_s: int = Field(default=60, alias="windowSeconds", ge=5, le=3600)
    """What rates are taken over. So long it also waits before its first verdict."""
    within_s: int = Field(default=60, alias="withinSeconds", ge=0, le=3600)
    """How long it may be broken before the wave has failed."""
    performance: PerformanceGateOptions | None = None
    on_silence: Literal["stop", "pass"] | None = Field(default=None, alias="onSilence")
    """What it makes of figures that nobody can tell. Without it, `stop` where a limit is named, and
    `pass` where none is."""

    @property
    def is_named(self) -> bool:
        """Whether any limit was asked for."""
        return (self.error_ratio, self.p99_ms, self.proxies_in_sync) != (None, None, None)

    @property
    def stops_on_silence(self) -> bool:
        return self.is_named if self.on_silence is None else self.on_silence == "stop"


class RolloutOptions(_Written):
    """The spec of a RolloutOptions document, checked."""

    what: Literal["istio", "manifest", "mesh", "mesh-leave", "ambient", "ambient-report"] = "istio"
    """What is rolled out: a version of Istio, or the objects beside this document. The others are
    of `istio-multicluster` and `istio-ambient`, and nobody may write them."""
    version: str = Field(default="", max_length=64)
    waves: list[WaveOptions] = Field(default_factory=list, max_length=_MOST_WAVES)
    """One canary and then the rest, where it is silent."""
    labels: dict[Text, dict[Text, Text]] = Field(default_factory=dict, max_length=_MOST_LABELLED)
    """Labels of clusters, by what people call them."""
    from_revision: str = Field(default="", alias="fromRevision", max_length=63)
    """The revision to move from, where several are installed."""
    namespaces_at_once: int = Field(default=1, alias="namespacesAtOnce", ge=1, le=100)
    workloads_at_once: int = Field(default=4, alias="workloadsAtOnce", ge=1, le=100)
    """Of one namespace; those that share a PodDisruptionBudget go one after the other."""
    disruption_timeout_s: int = Field(
        default=300, alias="disruptionTimeoutSeconds", ge=1, le=_A_DAY_S
    )
    """How long a PodDisruptionBudget may allow no disruption before the wave has failed."""
    back_timeout_s: int = Field(default=3600, alias="backTimeoutSeconds", ge=0, le=_A_DAY_S)
    """How long a cluster's way back may come no further before it is given up."""
    gate: GateOptions = Field(default_factory=GateOptions)
    soak_s: int = Field(default=300, alias="soakSeconds", ge=0, le=3 * _A_DAY_S)
    remove_old: Literal["afterWave", "afterAll"] = Field(default="afterWave", alias="removeOld")
    """When old revisions go: each after its wave's soak, or all after the last wave. Until then
    their clusters can be rolled back."""

    @property
    def chooses_by_labels(self) -> bool:
        return any(wave.labels for wave in self.waves)

    def labels_of(self, name: str) -> Mapping[str, str]:
        return self.labels.get(name, {})


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """What was asked for: how to go through the fleet, and what the new revision is like."""

    options: RolloutOptions
    mesh: MeshRequest = field(default_factory=MeshRequest)
    """Of the new revision; its tags are found in each cluster."""
    version: str = ""
    objects: tuple[KubeObject, ...] = ()
    """Those of a manifest."""

    @property
    def title(self) -> str:
        """What is rolled out, for people."""
        if self.version:
            return f"Istio {self.version}"
        count = len(self.objects)
        return f"{count} object{'s' if count != 1 else ''}"

    def record(self, record: RolloutRecord) -> RolloutRecord:
        """The record with what is rolled out."""
        return record.model_copy(
            update={
                "version": self.version,
                "revision": self.mesh.revision if self.version else "",
                "options": self.options.model_dump(mode="json", by_alias=True, exclude=_NOT_TOLD),
            }
        )

    def old(self, revision: str) -> MeshRequest:
        """The request that removes a revision which the new one has replaced."""
        return MeshRequest(
            revision=revision,
            revision_given=True,
            namespace=self.mesh.namespace,
            namespace_given=self.mesh.namespace_given,
            readiness_timeout=self.mesh.readiness_timeout,
        )


def parse_rollout(body: str, *, version: str = "") -> RolloutRequest:
    """The request in `body`; `version` is the operation's own field. Raises `OptionsMalformed`, and
    what `parse_request` raises."""
    options = find_options(body, KIND, RolloutOptions)
    if options is None:
        raise OptionsMalformed(
            f"the body holds no {KIND}",
            cause="a rollout has to be told its waves and its gate",
            remedy="docs/how-to/rollouts.md has a body to begin with",
        )
    if options.what in OTHERS:
        raise OptionsMalformed(
            f"spec.what of the {KIND}: {options.what} is no rollout",
            remedy=f"send the operation `{OTHERS[options.what]}`; see docs/how-to",
        )
    performance = options.gate.performance
    if performance is not None and not performance.test.strip():
        raise OptionsMalformed(
            "spec.gate.performance.test of the RolloutOptions is missing",
            cause="a performance gate has to be told its load test",
            remedy="docs/how-to/perf.md has a test to begin with",
        )
    if options.what == "manifest":
        return RolloutRequest(options=options, objects=tuple(_objects(body)))
    named = _agreed_version(options.version, version)
    mesh = parse_request(body)
    if mesh.tags is not None or mesh.purge:
        raise OptionsMalformed(
            "tags and purge of the LifecycleOptions are not for a rollout",
            cause="a rollout moves the tags that each cluster's old revision has",
            remedy="leave them out",
        )
    revision = mesh.revision if mesh.revision_given else str(named).replace(".", "-").lower()
    if revision == istio.DEFAULT_REVISION:
        raise OptionsMalformed(
            "a rollout needs a revision with a name of its own",
            remedy="leave revision out: it is made of the version",
        )
    return RolloutRequest(
        options=options,
        mesh=replace(mesh, revision=revision, revision_given=True),
        version=str(named),
    )


def _objects(body: str) -> list[KubeObject]:
    """The objects beside the options; raises what `read_manifest` raises."""
    return read_manifest(
        dump_manifest(
            document
            for document in parse_documents(body)
            if not (isinstance(document, dict) and document.get("apiVersion") == API_VERSION)
        )
    )


def _agreed_version(option: str, field: str) -> Version:
    named = {str(v): v for text in (option, field) if (v := Version.parse(text)) is not None}
    unread = [text for text in (option, field) if text.strip() and Version.parse(text) is None]
    if unread or len(named) != 1:
        raise OptionsMalformed(
            "spec.version of the RolloutOptions: one exact version is needed",
            cause="the newest one of today would be another one tomorrow, for the last wave",
            remedy="name a release, such as 1.31.0",
        )
    return next(iter(named.values()))


def planned_waves(
    options: RolloutOptions,
    clusters: Sequence[tuple[str, str]],
    labels: Mapping[str, Mapping[str, str]],
) -> list[list[str]]:
    """The waves, as tokens of `clusters` (token, name): each cluster in one of them. What no wave
    takes comes last. Waves that take none are left out. `labels` are the clusters' own, by token;
    those of the options win."""
    written = options.waves or [WaveOptions(clusters=1), WaveOptions()]
    left = sorted(clusters, key=lambda cluster: (cluster[1], cluster[0]))
    total, waves = len(left), []
    for wave in [*written, WaveOptions()]:
        able = [one for one in left if _takes(wave, options, one, labels.get(one[0], {}))]
        taken = able[: _most(wave, total)]
        left = [one for one in left if one not in taken]
        if taken:
            waves.append([token for token, _ in taken])
    return waves


def _takes(
    wave: WaveOptions, options: RolloutOptions, cluster: tuple[str, str], labels: Mapping[str, str]
) -> bool:
    name = cluster[1]
    own = {**labels, **options.labels_of(name)}
    if not has_labels(own, wave.labels or {}):
        return False
    return not wave.names or any(fnmatch.fnmatchcase(name, pattern) for pattern in wave.names)


def _most(wave: WaveOptions, total: int) -> int:
    if wave.clusters is not None:
        return wave.clusters
    if wave.share is not None:
        return max(1, -int(-total * wave.share // 100))
    return total
