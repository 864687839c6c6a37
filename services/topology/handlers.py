"""Answers to the questions of `mesh.topology.*`, and to those of the page.

What is told about a cluster stands in every replica's view. What needs its objects is asked of the
worker that owns it (`Ask`), which answers from the state it keeps.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import orjson

from services.chassis.bus.queries import Query
from services.chassis.errors import (
    ClusterNotWatched,
    MalformedRequest,
    NotPermitted,
    RequestTooLarge,
    TelemetryUnavailable,
    shortened,
)
from services.chassis.kube.labelling import has_labels, read_labels
from services.chassis.policy import OPERATOR, Identity, Policy
from services.chassis.prometheus import MetricsError
from services.topology.analysis import vetting
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key, Standing
from services.topology.drift.watching import Drifts
from services.topology.feed import rendering, together
from services.topology.feed.deltas import (
    DRIFT_PART,
    FINDINGS_PART,
    Item,
    View,
)
from services.topology.feed.views import ClusterView, Views
from services.topology.gathering import Gathered, One, gathered, name_of
from services.topology.mesh import paths
from services.topology.observing import Observer, finding_item
from services.topology.proxies.surveys import Survey
from services.topology.reports import compliance, history, versions
from services.topology.reports.compliance import ClusterReport
from services.topology.reports.history import By, Kept
from services.topology.telemetry.traffic import Telemetry

_LONGEST_QUERY = 16 * 1024
_MOST_SAMPLES = 20_000
_METRICS_WITHIN_S = 7.0
"""Less than whoever asks an owner waits."""


@dataclass(frozen=True, slots=True)
class Owned:
    """An owned cluster's observer, drift, telemetry and proxies, for answers."""

    observer: Observer
    drifts: Drifts
    telemetry: Telemetry
    survey: Survey


Ask = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Asks the owner of a cluster: token, verb, question."""

Past = Callable[[str, datetime], Awaitable[ClusterView]]
"""A cluster as it was at a moment; raises `HistoryGone`."""
Moments = Callable[[str], Awaitable[Sequence[datetime]]]
"""When a cluster's graph changed, oldest first."""


HAND_OVER = "handover"
"""What a replica asks of the owner of a cluster that it should own itself."""


@dataclass(slots=True, kw_only=True)
class OwnerHandlers:
    """Questions about the objects of the clusters that this process owns."""

    owned: dict[str, Owned] = field(default_factory=dict)
    handing_over: dict[str, Callable[[str], Awaitable[dict[str, Any]]]] = field(
        default_factory=dict
    )
    """How each cluster is handed over to another worker, reached or not."""
    team_label: str = ""

    def answers(self, cluster: str, verb: str) -> bool:
        return cluster in self.handing_over and (verb == HAND_OVER or cluster in self.owned)

    async def answer(self, cluster: str, verb: str, asked: dict[str, Any]) -> Any:
        """Raises `ClusterNotWatched` when another worker owns the cluster by now."""
        if verb == HAND_OVER and cluster in self.handing_over:
            return await self.handing_over[cluster](_text(asked, "to"))
        owned = self.owned.get(cluster)
        if owned is None:
            raise ClusterNotWatched(f"this worker does not watch cluster {cluster}")
        match verb:
            case "path":
                return _path(owned, asked)
            case "object":
                return _object(owned, asked)
            case "vet":
                return _vet(owned)
            case "proxies":
                return _proxies(owned, asked)
            case "versions":
                return versions.versions(owned.observer.state, owned.survey.versions())
            case "compliance":
                report = compliance_of(owned.observer, self.team_label)
                return compliance.to_json([report])["clusters"][0]
            case "heal":
                return {"healing": await owned.drifts.heal(_text(asked, "drift"))}
            case "metrics":
                return await _metrics(owned, asked)
        raise MalformedRequest(f"there is no question {verb!r}")


def compliance_of(observer: Observer, team_label: str) -> ClusterReport:
    """The report on a cluster as its owner sees it."""
    return compliance.report(
        observer.state, findings=observer.analysis.findings, team_label=team_label
    )


@dataclass(slots=True, kw_only=True)
class Handlers:
    """Questions to the service, by `mesh.topology.*` and by HTTP."""

    views: Views
    ask: Ask
    past: Past
    moments: Moments
    kept: Kept
    policy: Callable[[], Policy]
    window_s: int = 60
    """What the rates on the graph are taken over."""

    async def clusters(
        self, asked: dict[str, Any], identity: Identity = OPERATOR
    ) -> dict[str, Any]:
        """The registered clusters that the asker may see, and the state of their watches."""
        return {
            "clusters": [
                _info(view) | {"labels": self.views.labels_of(cluster)}
                for cluster, view in self._seen(identity, "clusters").items()
            ]
        }

    async def graph(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> orjson.Fragment:
        """A graph in Kiali's vendor JSON, of now or of a moment; of several clusters one graph, in
        which edges between them are joined."""
        try:
            kind = View(asked.get("graphType", View.VERSIONED_APP))
        except ValueError:
            raise MalformedRequest(
                "graphType is not one that there is", remedy=f"send one of {', '.join(View)}"
            ) from None
        spaces = _names(asked, "namespaces")
        views = self._chosen(asked, identity, "graph")
        if isinstance(views, ClusterView):
            return orjson.Fragment(self.graph_text(await self._at(views, asked), kind, spaces))
        found = await gathered(views, partial(self._at, asked=asked))
        meshes = {view.cluster: _mesh(view) for view in views}
        graphs = {token: together.still(one, kind) for token, one in found.answers.items()}

        def drawn() -> bytes:
            return self.graph_text(together.joined(graphs, kind, meshes=meshes), kind, spaces)

        text = await asyncio.to_thread(drawn)
        told = orjson.dumps(
            {"clusters": [_named(view) for view in views if view.cluster in found.answers]}
            | {"missing": self._missing(asked, views, found)}
        )
        return orjson.Fragment(b"%b,%b" % (text[:-1], told[1:]))

    def graph_text(self, view: ClusterView, kind: View, namespaces: frozenset[str]) -> bytes:
        """The graph of the namespaces (of all without any) and their neighbours, as JSON."""
        return rendering.graph(view, kind, window_s=self.window_s, namespaces=namespaces)

    async def findings(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """What is wrong with the configuration, of now or of a moment."""
        spaces, codes = _names(asked, "namespaces"), _names(asked, "codes")

        async def one(view: ClusterView) -> dict[str, Any]:
            found = [
                item
                for item in (await self._at(view, asked)).decoded(FINDINGS_PART)
                if (not spaces or item["object"]["namespace"] in spaces)
                and (not codes or not codes.isdisjoint(item.get("codes", (item["code"],))))
            ]
            found.sort(key=_by_object)
            return {"cluster": view.cluster, "findings": found}

        return await self._told(asked, identity, "findings", one)

    async def drift(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """What moved away from what was applied, of now or of a moment."""

        async def one(view: ClusterView) -> dict[str, Any]:
            then = await self._at(view, asked)
            return {"cluster": view.cluster, "drift": list(then.decoded(DRIFT_PART))}

        return await self._told(asked, identity, "drift", one)

    async def path(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """Which rules a request from a workload to a host meets, and where it goes."""
        return await self._of_owner("path", asked, identity)

    async def vet(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """All findings of a cluster, and what its pods and proxies say beyond them."""
        return await self._told(asked, identity, "vet", self._owners("vet", asked))

    async def proxies(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """How each proxy stands with its control plane, and what the control planes count."""
        return await self._told(asked, identity, "proxies", self._owners("proxies", asked))

    async def versions(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """Versions of control planes, and of the proxies under them, by cluster and summed;
        `unsupported` are proxies that do not go with their control plane."""
        views = self._list(self._chosen(asked, identity, "versions"))
        found = await gathered(views, self._owners("versions", asked))
        clusters = [
            _named(view) | found.answers[view.cluster]
            for view in views
            if view.cluster in found.answers
        ]
        return {
            "clusters": clusters,
            "summed": versions.summed(clusters),
            "missing": self._missing(asked, views, found),
        }

    async def heal(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """Puts one object back as it was applied."""
        return await self._of_owner("heal", asked, identity)

    async def object(self, asked: dict[str, Any], identity: Identity = OPERATOR) -> Any:
        """One object of the mesh's configuration, as the cluster has it; null where it is none."""
        return await self._of_owner("object", asked, identity)

    async def metrics(self, asked: dict[str, Any], identity: Identity) -> Any:
        """What the cluster's Prometheus answers to an instant query, in Prometheus's own form.

        Where it may hold the series of other clusters, too, and no label tells them apart, it
        answers to those alone who may ask about all clusters.
        """
        may_all = self.policy().may_ask(identity, "topology.metrics", cluster=None)
        return await self._of_owner("metrics", {**asked, "shared": may_all}, identity)

    async def compliance(
        self, asked: dict[str, Any], identity: Identity = OPERATOR
    ) -> dict[str, Any]:
        """The report on one cluster, or on all; of those that cannot be asked, why.

        With `since`, a time or how long ago (`90m`, `24h`, `7d`), it tells how it went from then
        `until` a moment, or now: sums at moments between the two, by cluster, namespace or team,
        and what began or ceased to fail.
        """
        views = self._list(self._chosen(asked, identity, "compliance"))
        if asked.get("since"):
            return await self._history(asked, views)
        if asked.get("cluster"):
            return {"clusters": [await self.ask(views[0].cluster, "compliance", {**asked})]}
        found = await gathered(views, self._owners("compliance", {}))
        return {
            "clusters": [*found.answers.values()],
            "missing": self._missing(asked, views, found),
        }

    async def _history(self, asked: dict[str, Any], views: Sequence[ClusterView]) -> dict[str, Any]:
        names = {view.cluster: name_of(view) for view in views}
        until = _moment(asked, "until") or datetime.now(timezone.utc)
        since = _since(asked, until)
        if since >= until:
            raise MalformedRequest(
                "`since` is not before `until`", remedy='send {"since": TIME, "until": TIME}'
            )
        if until - since > history.KEPT_FOR:
            raise MalformedRequest(
                f"nothing is kept for longer than {history.KEPT_FOR.days} days",
                remedy="ask from a later moment",
            )
        try:
            by = By(asked.get("by") or By.CLUSTER)
        except ValueError:
            raise MalformedRequest(
                "`by` is none that there is", remedy=f"send one of {', '.join(By)}"
            ) from None
        places, clusters = history.moments(since, until), sorted(names)
        # What was kept last counts as of now, whatever the difference between two clocks is.
        end = until if asked.get("until") else None
        sums = await self.kept.sums(clusters, [*places[:-1], end])
        before, after = await self.kept.workloads(clusters, [since, end])
        found = history.changes(before, after)
        return {
            "since": since.isoformat(),
            "until": until.isoformat(),
            "by": by,
            "moments": [place.isoformat() for place in places],
            "lines": history.lines(list(zip(places, sums, strict=True)), by),
            "clusters": [
                {
                    "cluster": cluster,
                    "name": name,
                    "before": before[cluster].made.isoformat() if cluster in before else "",
                    "after": after[cluster].made.isoformat() if cluster in after else "",
                }
                for cluster, name in sorted(names.items())
            ],
            "missing": self._missing(asked, views, Gathered()),
            **found,
        }

    # --- which clusters -------------------------------------------------------------------------

    async def _told(
        self, asked: dict[str, Any], identity: Identity, verb: str, one: One
    ) -> dict[str, Any]:
        """The answer about the cluster of a question, or those about all that it is about."""
        views = self._chosen(asked, identity, verb)
        if isinstance(views, ClusterView):
            answer: dict[str, Any] = await one(views)
            return answer
        found = await gathered(views, one)
        clusters = [
            _named(view) | found.answers[view.cluster]
            for view in views
            if view.cluster in found.answers
        ]
        return {"clusters": clusters, "missing": self._missing(asked, views, found)}

    def _owners(self, verb: str, asked: dict[str, Any]) -> One:
        """What the owner of a cluster answers."""
        passed = {name: value for name, value in asked.items() if name not in _CHOOSING}
        return lambda view: self.ask(view.cluster, verb, passed)

    async def _of_owner(self, verb: str, asked: dict[str, Any], identity: Identity) -> Any:
        return await self.ask(self._one(asked, identity, verb).cluster, verb, asked)

    async def _at(self, view: ClusterView, asked: dict[str, Any]) -> ClusterView:
        moment = _moment(asked)
        return view if moment is None else await self.past(view.cluster, moment)

    def _chosen(
        self, asked: dict[str, Any], identity: Identity, verb: str
    ) -> ClusterView | list[ClusterView]:
        """The cluster of a question, or all that it is about and that the identity may see.

        Without any of `_CHOOSING` and `cluster` it is about the only one, or about all. Raises
        `NotPermitted` for whoever may see none of what is asked for, whether it is there or not.
        """
        seen = self._seen(identity, verb)
        wanted, labels = _names(asked, "clusters"), _labels(asked)
        if wanted or labels:
            if asked.get("cluster"):
                raise MalformedRequest("send `cluster`, or `clusters` and `labels`, and not both")
            return [
                view
                for cluster, view in seen.items()
                if has_labels(self.views.labels_of(cluster), labels)
                and any(_is_meant(view, one) for one in wanted or ("*",))
            ]
        if asked.get("cluster") or len(self.views.clusters) < 2:
            try:
                return self._one(asked, identity, verb)
            except ClusterNotWatched:
                if not asked.get("cluster") and verb in _LISTS:
                    return []
                raise
        if not seen:
            raise NotPermitted(
                f"{identity.name} may not ask topology.{verb}", subject=identity.name
            )
        return [*seen.values()]

    def _one(self, asked: dict[str, Any], identity: Identity, verb: str) -> ClusterView:
        """The cluster of a question about one. The policy judges its token: whoever registers a
        cluster gives it a name, and that may be another one's token."""
        try:
            return self._view(asked, self._seen(identity, verb))
        except ClusterNotWatched:
            if self.policy().may_ask(identity, f"topology.{verb}", cluster=None):
                raise
            raise NotPermitted(
                f"{identity.name} may not ask topology.{verb} about it", subject=identity.name
            ) from None

    def _seen(self, identity: Identity, verb: str) -> dict[str, ClusterView]:
        """The clusters that somebody may ask about, in order."""
        policy = self.policy()
        return {
            cluster: view
            for cluster, view in sorted(self.views.clusters.items())
            if policy.may_ask(identity, f"topology.{verb}", cluster=cluster)
        }

    @staticmethod
    def _list(views: ClusterView | list[ClusterView]) -> list[ClusterView]:
        return [views] if isinstance(views, ClusterView) else views

    @staticmethod
    def _missing(
        asked: dict[str, Any], views: Sequence[ClusterView], found: Gathered
    ) -> list[dict[str, str]]:
        """Clusters that did not answer, and names and labels that are none of a cluster that is
        seen."""
        labels = ", ".join(f"{name}={value}" for name, value in sorted(_labels(asked).items()))
        like = f" with the labels {shortened(labels)}" if labels else ""
        for wanted in sorted(_names(asked, "clusters")):
            if not any(_is_meant(view, wanted) for view in views):
                told = shortened(wanted)
                found.miss(told, told, ClusterNotWatched(f"no cluster {told}{like} is watched"))
        if labels and not views and not found.missing:
            told = shortened(labels)
            found.miss(told, told, ClusterNotWatched(f"no cluster{like} is watched"))
        return found.missing

    @staticmethod
    def _view(asked: dict[str, Any], views: Mapping[str, ClusterView]) -> ClusterView:
        """The cluster of a question: by token or by name; the only one when none is named."""
        named = _text(asked, "cluster") if asked.get("cluster") else ""
        if named in views:
            return views[named]
        found = [view for view in views.values() if not named or _info(view).get("name") == named]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise MalformedRequest(
                "several clusters are meant",
                remedy=f"send `cluster`, one of {', '.join(sorted(v.cluster for v in found))}",
            )
        told = shortened(named) or "of the question"
        raise ClusterNotWatched(f"cluster {told} is not watched")


_CHOOSING = ("clusters", "labels")
"""Fields of a question that choose clusters; of both, those that both mean."""
_LISTS = ("compliance", "versions")
"""Questions whose answer is a list in any case."""


def _is_meant(view: ClusterView, wanted: str) -> bool:
    return fnmatchcase(view.cluster, wanted) or fnmatchcase(name_of(view), wanted)


def _mesh(view: ClusterView) -> str:
    return str((_info(view).get("istio") or {}).get("mesh", ""))


def _named(view: ClusterView) -> dict[str, Any]:
    """A cluster in an answer about several."""
    info = _info(view)
    return {"cluster": view.cluster, "name": name_of(view), "state": info["state"]}


def queries(handlers: Handlers) -> list[Query]:
    """The questions. `cluster` is a token or a name, `clusters` some of either, or patterns with
    `*`; `labels` are those of the registrations. Without any most are about all clusters."""
    of, at = '"cluster": CLUSTER', '"at": TIME'
    some = f'{of}, "clusters": [NAME], "labels": OBJECT'
    return [
        Query("clusters", "{}", answer_to=handlers.clusters),
        Query(
            "graph",
            f'{{{some}, "graphType": "versionedApp", "namespaces": [NAME], {at}}}',
            answer_to=handlers.graph,
        ),
        Query(
            "path",
            f'{{{of}, "source": "NAMESPACE/WORKLOAD", "host": HOST, "namespace": NAME, '
            '"port": NUMBER}',
            answer_to=handlers.path,
        ),
        Query("drift", f"{{{some}, {at}}}", answer_to=handlers.drift),
        Query("heal", f'{{{of}, "drift": ID}}', answer_to=handlers.heal, changes=True),
        Query(
            "findings",
            f'{{{some}, "namespaces": [NAME], "codes": [CODE], {at}}}',
            answer_to=handlers.findings,
        ),
        Query("vet", f"{{{some}}}", answer_to=handlers.vet),
        Query(
            "proxies",
            f'{{{some}, "namespaces": [NAME], "standings": [NAME]}}',
            answer_to=handlers.proxies,
        ),
        Query("versions", f"{{{some}}}", answer_to=handlers.versions),
        Query(
            "compliance",
            f'{{{some}, "since": TIME, "until": TIME, "by": "cluster" | "namespace" | "team"}}',
            answer_to=handlers.compliance,
        ),
        Query("metrics", f'{{{of}, "query": PROMQL, {at}}}', answer_to=handlers.metrics),
        Query(
            "object",
            f'{{{of}, "kind": "GROUP/KIND", "namespace": NAME, "name": NAME}}',
            answer_to=handlers.object,
        ),
    ]


# --- answers of the owner ------------------------------------------------------------------------


def _path(owned: Owned, asked: dict[str, Any]) -> dict[str, Any]:
    port = asked.get("port")
    if port is not None and not isinstance(port, int):
        raise MalformedRequest("port is not a number", remedy='send {"port": 80}')
    return paths.explain(
        owned.observer.state,
        source=_text(asked, "source") if asked.get("source") else None,
        host=_text(asked, "host"),
        namespace=str(asked.get("namespace") or "default"),
        port=port,
    )


def _object(owned: Owned, asked: dict[str, Any]) -> dict[str, Any] | None:
    kind = _text(asked, "kind")
    key = Key(kind, str(asked.get("namespace") or ""), _text(asked, "name"))
    if not kinds.is_configuration(kind):
        raise MalformedRequest(
            "only objects of a mesh's configuration are shown",
            remedy="send a kind of Istio's or the Gateway API's groups, as `group/Kind`",
        )
    found = owned.observer.state.at(key)
    if not isinstance(found, Config):
        return None
    metadata = {"name": key.name, "namespace": key.namespace, "labels": dict(found.labels)}
    metadata["annotations"] = dict(found.annotations)
    return {
        "apiVersion": found.api_version,
        "kind": kinds.short(kind),
        "metadata": {name: value for name, value in metadata.items() if value},
        "spec": found.spec,
    }


def _proxies(owned: Owned, asked: dict[str, Any]) -> dict[str, Any]:
    standings = _names(asked, "standings")
    if standings - set(Standing):
        raise MalformedRequest(
            "standings has a word that is none", remedy=f"send some of {', '.join(Standing)}"
        )
    found = owned.survey.answer(_names(asked, "namespaces"), standings)
    return {"cluster": owned.observer.state.cluster, **found}


def _vet(owned: Owned) -> dict[str, Any]:
    observer = owned.observer
    notes = vetting.notes(observer.state, observer.analysis.findings)
    findings = [finding_item(finding) for finding in observer.analysis.findings]
    return {
        "cluster": observer.state.cluster,
        "summary": vetting.summary(notes),
        "notes": [note.as_json() for note in notes],
        "findings": sorted(findings, key=_by_object),
    }


async def _metrics(owned: Owned, asked: dict[str, Any]) -> dict[str, Any]:
    query, at = _text(asked, "query"), _moment(asked) or datetime.now(timezone.utc)
    if len(query) > _LONGEST_QUERY:
        raise MalformedRequest(f"query is longer than {_LONGEST_QUERY} characters")
    telemetry, name = owned.telemetry, owned.observer.state.name
    if telemetry.metrics is None:
        raise TelemetryUnavailable(
            f"no Prometheus is known of cluster {name}",
            cause="; ".join(telemetry.tried) or "none was found among its Services",
            remedy="install one, or name it: docs/how-to/topology.md",
        )
    if telemetry.is_shared and not asked.get("shared"):
        raise NotPermitted(
            "this Prometheus may hold the series of other clusters",
            cause="it is configured for all clusters, and no label tells them apart",
            remedy="set MESHBUS_TOPOLOGY_PROMETHEUS_LABELS, or ask for a rule for all clusters",
        )
    try:
        async with asyncio.timeout(_METRICS_WITHIN_S):
            samples = await telemetry.metrics.query(query, at=at)
    except TimeoutError:
        why = f"it did not answer within {_METRICS_WITHIN_S:g} s"
        raise TelemetryUnavailable(f"{telemetry.name} does not answer", cause=why) from None
    except MetricsError as error:
        raise TelemetryUnavailable(f"{telemetry.name} does not answer", cause=str(error)) from None
    if len(samples) > _MOST_SAMPLES:
        raise RequestTooLarge(
            f"the answer has {len(samples)} samples, the limit is {_MOST_SAMPLES}",
            remedy="ask for sums over fewer labels",
        )
    moment = at.timestamp()
    result = [{"metric": labels, "value": [moment, _told(value)]} for labels, value in samples]
    return {"source": telemetry.name, "resultType": "vector", "result": result}


def _told(value: float) -> str:
    """As Prometheus writes numbers: JSON has no NaN."""
    return repr(value).replace("inf", "Inf").replace("nan", "NaN")


# --- questions -----------------------------------------------------------------------------------


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedRequest(f"{name} is not text", remedy=f'send {{"{name}": "..."}}')
    return value


def _moment(asked: Mapping[str, Any], name: str = "at") -> datetime | None:
    """A time; None when it is not in the question."""
    if not asked.get(name):
        return None
    try:
        moment = datetime.fromisoformat(_text(asked, name))
    except ValueError:
        raise MalformedRequest(f"`{name}` is not a time", remedy="send RFC 3339") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


_AGO = re.compile(r"(\d{1,5})([mhd])")


def _since(asked: Mapping[str, Any], until: datetime) -> datetime:
    """`since`, as a time or as how long before `until`."""
    ago = _AGO.fullmatch(_text(asked, "since"))
    if ago is None:
        return _moment(asked, "since") or until
    units = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
    return until - int(ago[1]) * units[ago[2]]


def _names(asked: Mapping[str, Any], name: str) -> frozenset[str]:
    value = asked.get(name) or ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, Iterable) or not all(isinstance(one, str) for one in value):
        raise MalformedRequest(f"{name} is not a list of names", remedy=f'send {{"{name}": [..]}}')
    return frozenset(value)


def _labels(asked: Mapping[str, Any]) -> dict[str, str]:
    try:
        return read_labels(asked.get("labels"))
    except ValueError as error:
        raise MalformedRequest(
            f"labels: {error}", remedy='send {"labels": {"region": "eu"}}, with at most 32'
        ) from None


def _info(view: ClusterView) -> Item:
    return {"state": "starting", **rendering.info(view)}


def _by_object(item: Item) -> tuple[str, ...]:
    place = item["object"]
    return (place["namespace"], place["kind"], place["name"], item["code"], item["path"])
