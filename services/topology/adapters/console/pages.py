"""The console over HTTP, on the port of health and metrics: its page, questions, events."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import orjson
import yaml
from aiohttp import web

from services.chassis import errors
from services.chassis.errors import MalformedRequest, MeshbusError, PageMissing, Status
from services.chassis.http.serving import error_page
from services.chassis.messages.models import VERSION
from services.topology.adapters.console.issuers import CALLBACK
from services.topology.adapters.console.questions import Questions
from services.topology.adapters.console.sessions import Sessions
from services.topology.adapters.console.streams import EVERY_CLUSTER, Streams, topics_of
from services.topology.cluster.objects import Key
from services.topology.feed import rendering
from services.topology.feed.deltas import DRIFT_PART, FINDINGS_PART, View
from services.topology.feed.followers import Numbered
from services.topology.feed.following import Following
from services.topology.feed.totals import Fleet
from services.topology.feed.troubles import Troubles
from services.topology.feed.views import ClusterView
from services.topology.handlers import Handlers
from services.topology.reports import compliance, reportpages

_HTTP = {
    Status.INVALID_ARGUMENT: 400,
    Status.UNAUTHENTICATED: 401,
    Status.PERMISSION_DENIED: 403,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.ABORTED: 409,
    Status.FAILED_PRECONDITION: 409,
    Status.RESOURCE_EXHAUSTED: 503,
    Status.UNIMPLEMENTED: 501,
    Status.UNAVAILABLE: 503,
    Status.DEADLINE_EXCEEDED: 504,
}
_TYPES = {
    "js": "text/javascript",
    "css": "text/css",
    "html": "text/html",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}
_FILE = re.compile(r"[a-zA-Z0-9_-]+(?:\.[a-zA-Z0-9_-]+)*\.(js|css|svg|txt)")
"""No path of this form leaves the folder."""

_NAMES = "graph|operations|start|findings|drift|performance|compliance|bus"
_VIEWS = re.compile(rf"/(?:(?:{_NAMES})(?:/[^/]{{1,200}})?)?")
"""Addresses of the console's views: the page itself reads which one it is."""
_REPORT_STYLE = "/static/report.css"
"""The page's security policy forbids inline styles."""

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True, kw_only=True)
class Pages:
    """Answers requests. `start` before the first one, `close` before the listener is closed."""

    handlers: Handlers
    questions: Questions
    sessions: Sessions
    operations: Numbered
    folder: Path
    most_streams: int
    ping_every_s: float = 15.0
    traces_url: str = ""
    """With `{operation}` for an operation's id."""
    following: Following = field(init=False)
    fleet: Fleet = field(init=False)
    troubles: Troubles = field(init=False)
    _streams: Streams = field(init=False)
    _routes: dict[str, _Answer] = field(init=False)

    def __post_init__(self) -> None:
        self.following = Following(views=self.handlers.views)
        self.fleet = Fleet(views=self.handlers.views)
        self.troubles = Troubles(views=self.handlers.views)
        self._streams = Streams(
            following=self.following,
            fleet=self.fleet,
            operations=self.operations,
            troubles=self.troubles,
            most=self.most_streams,
            ping_every_s=self.ping_every_s,
        )
        self._routes = {
            "/api/clusters": self._clusters,
            "/api/graph": self._graph,
            "/api/findings": self._findings,
            "/api/drift": self._drift,
            "/api/object": self._object,
            "/api/history": self._history,
            "/api/moments": self._moments,
            "/api/events": self._events,
            "/api/ask": self._asked,
            "/api/about": self._about,
            "/api/me": self.sessions.me,
            "/signin": self.sessions.leave,
            CALLBACK: self.sessions.come_back,
            "/compliance.html": self._compliance,
            "/compliance.json": self._compliance,
            "/compliance.csv": self._compliance,
        }

    def start(self) -> None:
        self.following.start()
        self.fleet.start()
        self.troubles.start()

    def close(self) -> None:
        """Ends the streams, which would keep the listener from closing."""
        self.following.close()
        self.fleet.close()
        self.troubles.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            is_post = request.method == "POST"
            answer = self._posting(request.path) if is_post else self._route(request.path)
            return await answer(request)
        except MeshbusError as error:
            return error_page(error, status=_HTTP.get(error.status, 500))

    def _route(self, path: str) -> _Answer:
        if path.startswith("/static/"):
            return self._static
        if _VIEWS.fullmatch(path) is not None:
            return self._page
        return self._routes.get(path, self._nowhere)

    def _posting(self, path: str) -> _Answer:
        posts: dict[str, _Answer] = {
            "/api/session": self.sessions.begin,
            "/api/session/end": self.sessions.end,
            "/api/write": self.sessions.write,
        }
        return posts.get(path, self._nowhere)

    async def _nowhere(self, _request: web.Request) -> web.StreamResponse:
        return error_page(MalformedRequest("there is no such page"), status=404)

    # --- files ----------------------------------------------------------------------------------

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        page = self.folder / "index.html"
        if not page.is_file():
            raise PageMissing("the console's page was not built into this installation")
        return _file(page)

    async def _static(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/static/")
        if _FILE.fullmatch(name) is None or not (self.folder / name).is_file():
            return await self._nowhere(request)
        return _file(self.folder / name)

    async def _about(self, _request: web.Request) -> web.StreamResponse:
        return _json(orjson.dumps({"version": VERSION, "traces": self.traces_url}))

    # --- live -----------------------------------------------------------------------------------

    async def _clusters(self, _request: web.Request) -> web.StreamResponse:
        return _json(b'{"clusters":%b}' % rendering.clusters(self.handlers.views))

    async def _graph(self, request: web.Request) -> web.StreamResponse:
        namespaces = frozenset(filter(None, request.query.get("namespaces", "").split(",")))
        view, graph_type = self._view(request), _graph_type(request)
        return _json(self.handlers.graph_text(view, graph_type, namespaces))

    async def _findings(self, request: web.Request) -> web.StreamResponse:
        return _json(rendering.items(self._view(request), FINDINGS_PART))

    async def _drift(self, request: web.Request) -> web.StreamResponse:
        return _json(rendering.items(self._view(request), DRIFT_PART))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        cluster = request.query.get("cluster", "")
        if cluster and cluster != EVERY_CLUSTER:
            self._view(request)
        topics = topics_of(request.query.get("topics", ""))
        return await self._streams.answer(request, cluster, _graph_type(request), topics)

    def _view(self, request: web.Request) -> ClusterView:
        cluster = request.query.get("cluster", "")
        if not cluster and len(self.handlers.views.clusters) == 1:
            return next(iter(self.handlers.views.clusters.values()))
        view = self.handlers.views.view(cluster)
        if view is None:
            name = errors.shortened(cluster) or "(none named)"
            raise errors.ClusterNotWatched(f"there is no graph of cluster {name}")
        return view

    # --- questions ------------------------------------------------------------------------------

    async def _asked(self, request: web.Request) -> web.StreamResponse:
        """A question to another service, as `?name=gateway.operations&question=JSON`."""
        query = request.query
        return _json(await self.questions.answer(query.get("name", ""), query.get("question", "")))

    async def _object(self, request: web.Request) -> web.StreamResponse:
        asked = {name: request.query.get(name, "") for name in ("kind", "namespace", "name")}
        found = await self.handlers.ask(self._view(request).cluster, "object", asked)
        if found is None:
            key = Key(**asked)
            raise errors.ObjectNotFound(f"there is no {errors.shortened(str(key))}")
        text = yaml.dump(found, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
        return _json(orjson.dumps({"object": found, "yaml": text}))

    async def _history(self, request: web.Request) -> web.StreamResponse:
        view, graph_type, moment = self._view(request), _graph_type(request), _moment(request)
        then = await self.handlers.past(view.cluster, moment)
        return _json(rendering.past(then, graph_type, moment=moment.isoformat()))

    async def _moments(self, request: web.Request) -> web.StreamResponse:
        moments = await self.handlers.moments(self._view(request).cluster)
        return _json(orjson.dumps({"moments": [moment.isoformat() for moment in moments]}))

    async def _compliance(self, request: web.Request) -> web.StreamResponse:
        asked = {name: request.query.get(name, "") for name in ("since", "until", "by")}
        if request.query.get("cluster"):
            asked["cluster"] = self._view(request).cluster
        form = request.path.rpartition(".")[2]
        if asked["since"] and form == "html":
            raise MalformedRequest("the page is of now", remedy="ask for .json or .csv")
        answer = await self.handlers.compliance(asked)
        match form:
            case "json":
                return _json(orjson.dumps(answer))
            case "csv":
                headers = {"Content-Disposition": 'attachment; filename="compliance.csv"'}
                text = (
                    reportpages.history_csv(answer)
                    if asked["since"]
                    else reportpages.to_csv(compliance.read(answer))
                )
                return web.Response(text=text, content_type="text/csv", headers=headers)
        text = reportpages.to_html(compliance.read(answer), stylesheet=_REPORT_STYLE)
        return web.Response(text=text, content_type="text/html")


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _file(path: Path) -> web.FileResponse:
    kind = _TYPES[path.suffix.removeprefix(".")]
    # Asked again each time, and answered by 304: a new release shows at once.
    headers = {"Cache-Control": "no-cache", "Content-Type": f"{kind}; charset=utf-8"}
    return web.FileResponse(path, headers=headers)


def _graph_type(request: web.Request) -> View:
    text = request.query.get("graphType", View.VERSIONED_APP)
    try:
        return View(text)
    except ValueError:
        raise MalformedRequest(
            f"graphType {errors.shortened(text)!r} is not one of {', '.join(View)}"
        ) from None


def _moment(request: web.Request) -> datetime:
    text = request.query.get("at", "")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise MalformedRequest(
            f"at {errors.shortened(text)!r} is no moment such as 2026-05-01T12:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
