"""The page's own server over views that a test fills, as the service does from its watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any

from aiohttp import web

from deploy import bundling
from services.chassis.errors import (
    HistoryGone,
    MeshbusError,
    NotAuthenticated,
    NotPermitted,
    ObjectNotFound,
)
from services.chassis.health import Health
from services.chassis.messages import Event
from services.chassis.policy import OPEN
from services.chassis.telemetry.metrics import Metrics
from services.topology.adapters.console.pages import Pages
from services.topology.adapters.console.questions import Questions
from services.topology.adapters.console.sessions import POSTS, Sessions
from services.topology.adapters.console.told import TOPIC
from services.topology.cluster.objects import Key
from services.topology.cluster.state import State
from services.topology.feed.deltas import Delta, Parts
from services.topology.feed.followers import Numbered
from services.topology.feed.views import ClusterView, Views
from services.topology.handlers import Handlers
from services.topology.reports import compliance
from tests.real.topology.measured import Perf
from tests.real.topology.samples import CLUSTER
from tests.testbed import loopback
from tests.unit.topology.reports.remembered import Remembered

PAGE = bundling.BUILT


@dataclass(slots=True)
class Past:
    """What an owner answers, and what the bus keeps of the feed."""

    told: list[tuple[datetime, ClusterView]] = field(default_factory=list)
    objects: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    """Of clusters about which reports are asked; of others they are empty."""
    made: datetime | None = None
    """When reports are made, where it is not now."""
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Istio's, of clusters that have some."""
    failure: MeshbusError | None = None
    """What it answers with instead."""
    kept: Remembered = field(default_factory=Remembered)

    async def ask(self, cluster: str, verb: str, asked: dict[str, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        match verb:
            case "object":
                return self.objects.get(Key(**asked))
            case "compliance":
                state = self.states.get(cluster) or State(cluster, "kind-shop")
                report = compliance.report(state, findings=(), now=self.made, team_label="team")
                return compliance.to_json([report])["clusters"][0]
            case "versions":
                return self.versions.get(cluster) or {"controlPlanes": [], "proxies": []}
        raise AssertionError(f"the page asks no {verb}")

    async def past(self, cluster: str, moment: datetime) -> ClusterView:
        found = [view for at, view in self.told if at <= moment]
        if not found:
            raise HistoryGone("nothing is kept of that time")
        return found[-1]

    async def moments(self, cluster: str) -> Sequence[datetime]:
        return [at for at, _ in self.told]


@dataclass(slots=True)
class Asked:
    """What the gateway and perf answer."""

    operations: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    questions: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By their tokens: what `mesh.gateway.whoami` says of them."""
    done: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """Who had what done."""
    is_begun: bool = True
    """Whether a worker has what somebody wants cancelled."""
    rollouts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As lifecycle shows them, by their operations."""
    perf: Perf = field(default_factory=Perf)

    async def ask(self, service: str, verb: str, question: dict[str, Any]) -> Any:
        self.questions.append((f"{service}.{verb}", question))
        match service, verb:
            case "gateway", "operations":
                return self._operations(question)
            case "gateway", "events":
                found = [e for e in self.events if e.operation == question["operation"]]
                return {"events": [e.model_dump(mode="json") for e in found], "left_out": 0}
            case "lifecycle", "rollout" | "multicluster":
                ident = question.get("rollout") or question.get("operation") or ""
                if ident not in self.rollouts:
                    raise ObjectNotFound(f"there is no rollout {ident}")
                return self.rollouts[ident]
            case "perf", _:
                return await self.perf.ask(verb, question)
        raise AssertionError(f"the page asks no {service}.{verb}")

    async def carry(self, verb: str, question: dict[str, Any], authorization: str) -> Any:
        """What the gateway makes of a token: `people` has who they are."""
        me = self.people.get(authorization.removeprefix("Bearer "))
        if me is None:
            raise NotAuthenticated("the call's token is not accepted")
        if verb == "whoami":
            return me
        name = question["name"] if verb == "ask" else f"gateway.{verb}"
        if name not in me["may"]:
            raise NotPermitted(f"{me['identity']} may not ask {name}")
        self.done.append((me["identity"], name, question.get("question", question)))
        if name == "lifecycle.cancel":
            return {"cancelling": self.is_begun}
        return {"operation": "op-new", "run": "r-now"}

    def _operations(self, question: dict[str, Any]) -> Any:
        if operation := question.get("operation"):
            for one in self.operations:
                if one["request"]["operation"] == operation:
                    return one
            raise ObjectNotFound("the gateway has no record of it")
        words = question.get("search", "").lower().split()
        found = [one for one in self.operations if all(w in str(one).lower() for w in words)]
        return {"operations": found[: question["limit"]], "more": len(found) > question["limit"]}


@dataclass(slots=True)
class Server:
    """A topology service as a browser sees it; it can be ended and started again."""

    views: Views = field(default_factory=Views)
    past: Past = field(default_factory=Past)
    port: int = field(default_factory=loopback.take_port)
    asked: Asked = field(default_factory=lambda: Asked())
    operations: Numbered = field(default_factory=lambda: Numbered(TOPIC))
    console_url: str = ""
    traces_url: str = ""
    most_streams: int = 20
    ping_every_s: float = 15.0
    pages: Pages | None = None
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{loopback.HOST}:{self.port}"

    async def start(self) -> None:
        bundling.bundle()
        handlers = Handlers(
            views=self.views,
            ask=self.past.ask,
            past=self.past.past,
            moments=self.past.moments,
            kept=self.past.kept,
            policy=lambda: OPEN,
        )
        own = {"topology.versions": partial(handlers.versions, {})}
        self.pages = Pages(
            handlers=handlers,
            questions=Questions(self.asked.ask, own),
            sessions=Sessions(carry=self.asked.carry, console_url=self.console_url),
            operations=self.operations,
            folder=PAGE,
            most_streams=self.most_streams,
            ping_every_s=self.ping_every_s,
            traces_url=self.traces_url,
        )
        self.pages.start()
        health = Health(service="topology", metrics=Metrics(), is_starting=False)
        health.pages = self.pages.answer
        health.posts = POSTS
        self._runner = await health.serve(host=loopback.HOST, port=self.port)

    async def stop(self) -> None:
        if self.pages is not None and self._runner is not None:
            self.pages.close()
            await self._runner.cleanup()

    # --- what workers do ------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """An event of an operation, as the stream EVT has it."""
        self.asked.events.append(event)
        number = self.operations.last + 1
        text = event.model_dump_json().encode()
        frame = b"event: operation\nid: ~%d\ndata: %b\n\n" % (number, text)
        self.operations.tell(number, frame)

    # --- what an owner does ---------------------------------------------------------------------

    def begin(self, parts: Parts, *, cluster: str = CLUSTER, epoch: int = 7) -> None:
        """The cluster is watched from now on, and this is what is there."""
        view = ClusterView(cluster, epoch=epoch)
        for part, items in parts.items():
            for ident, item in items.items():
                view.put(part, ident, item)
        self.views.replace(view)
        self._keep(view)

    def change(self, parts: Parts, *, cluster: str = CLUSTER) -> Delta:
        view = self.views.clusters[cluster]
        delta = Delta(cluster=cluster, epoch=view.epoch, number=view.number + 1, parts=parts)
        view.apply(delta)
        self.views.notify(delta)
        self._keep(view, delta.time)
        return delta

    def _keep(self, view: ClusterView, at: datetime | None = None) -> None:
        copy = {part: dict(items) for part, items in view.parts.items()}
        kept = ClusterView(view.cluster, epoch=view.epoch, number=view.number, parts=copy)
        self.past.told.append((at or datetime.now(timezone.utc), kept))
