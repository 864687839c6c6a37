"""A Meshery server as adapters meet it: its registry over HTTP, and what becomes of their events.

The real server needs hours to build and a browser to look at, so this is the one stand-in in the
bed. It does nothing of its own invention: each of its rules is a row of the contract in
`docs/reference/meshery.md`, seen on the wire of a real server or read in its sources.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import tarfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web

from tests.testbed import loopback
from tests.testbed.generations import Generation, GenerationClient

_SCHEMAS = {"models.meshery.io/v1beta1": "model", "components.meshery.io/v1beta1": "component"}
_SMI = "Smi conformance test"
_RECONNECTS_AFTER_S = 0.2
_TEXTS = ("id", "date", "mesh_name", "mesh_version", "cases_passed", "passing_percentage", "status")


@dataclass(slots=True)
class MesheryServer:
    """One server; it may be away, restart, ask for a login, or refuse."""

    port: int = field(default_factory=loopback.take_port)
    build: str = "v0.7.120"
    provider: str = "None"
    """Whose name a request has to bring as a cookie."""
    token: str = ""
    """What it has to bring beside it, with another provider than None."""
    status: int = 200
    """Of every answer, while it is not 200."""
    keeps_nothing: bool = False
    """Takes packages, answers 200, and lists none of their models."""
    refuses: str = ""
    """Why it registers no part of a package, told with status 200."""
    models: list[dict[str, Any]] = field(default_factory=list)
    components: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    packages: list[str] = field(default_factory=list)
    """File names of the packages that were sent."""
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{loopback.HOST}:{self.port}"

    def offered(self, name: str = "istio") -> list[str]:
        """What the page offers: the versions of the models with the adapter's name."""
        found = {model["version"] for model in self.models if model["name"] == name}
        return sorted(found, reverse=True)

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/api/system/version", self._version)
        app.router.add_get("/api/meshmodels/models/{model}", self._models)
        app.router.add_post("/api/meshmodels/register", self._register)
        for former in ("/api/meshmodel/components/register", "/api/meshmodels/components"):
            app.router.add_post(former, self._component)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, loopback.HOST, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self, *, forgets: bool) -> None:
        """A new process: with a fresh registry, or with the old one's database."""
        await self.stop()
        if forgets:
            self.models.clear()
            self.components.clear()
        await self.start()

    # --- its HTTP API ----------------------------------------------------------------------------

    async def _version(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        if self.status != 200:
            return web.Response(status=self.status, text="not now\n")
        return web.json_response({"build": self.build, "latest": "", "commitsha": "abcdef"})

    async def _models(self, request: web.Request) -> web.Response:
        """Without a session: whoever asks is told. The name may be a part of others' names."""
        self.asked[request.path] += 1
        if self.status != 200:
            return web.Response(status=self.status, text="not now\n")
        name = request.match_info["model"]
        found = [model for model in self.models if name in model["name"]]
        most = len(found) if request.query.get("pagesize") == "all" else 25
        answer = {"page": 0, "page_size": most, "total_count": len(found), "models": found[:most]}
        return web.json_response(answer)

    async def _register(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        if self.status != 200:
            return web.Response(status=self.status, text="not now\n")
        if not self._has_session(request):
            raise web.HTTPFound("/provider")
        asked = json.loads(await request.read())
        if asked["uploadType"] != "file" or not asked["register"]:
            return web.json_response(_counted(0, 0, 0, ""))
        name = asked["importBody"]["file_name"]
        self.packages.append(name)
        errors = self.take(name, base64.b64decode(asked["importBody"]["model_file"]))
        return web.json_response(
            _counted(0 if errors else 1, len(self.components), len(errors), "; ".join(errors))
        )

    def _has_session(self, request: web.Request) -> bool:
        if request.cookies.get("meshery-provider") != self.provider:
            return False
        return self.provider == "None" or request.cookies.get("token") == self.token

    def take(self, name: str, package: bytes) -> list[str]:
        """Registers what it finds in a package, and says what it does not take."""
        if self.refuses:
            return [self.refuses]
        if not name.endswith((".tar.gz", ".tgz", ".tar")):
            return [f"{name} is no archive"]
        models: list[dict[str, Any]] = []
        components: list[dict[str, Any]] = []
        with tarfile.open(fileobj=io.BytesIO(package)) as tar:
            for member in tar.getmembers():
                opened = tar.extractfile(member)
                entity = json.loads(opened.read()) if opened else {}
                kind = _SCHEMAS.get(entity.get("schemaVersion", ""))
                if kind is None:
                    return [f"{member.name} is no definition"]
                (models if kind == "model" else components).append(entity)
        if len(models) != 1:
            return ["model definition not found in imported package"]
        model = models[0]
        if not model["registrant"]["kind"]:
            return ["the model has no registrant"]
        if "port" in model["registrant"].get("metadata", {}):
            return ["interface conversion: interface {} is float64, not int"]
        # In silence, as the real one does.
        if not components or self.keeps_nothing:
            return []
        for component in components:
            assert component["status"], "the server would dereference nil"
            json.loads(component["component"]["schema"])
        if not any(_identity(known) == _identity(model) for known in self.models):
            self.models.append(model)
        # A component is made anew each time: what is sent twice is there twice.
        self.components += components
        return []

    async def _component(self, request: web.Request) -> web.Response:
        """The ways of older adapters: 200, and no model is listed."""
        self.asked[request.path] += 1
        return web.Response()


def _identity(model: dict[str, Any]) -> tuple[str, str, str]:
    return model["name"], model["version"], model["registrant"]["kind"]


def _counted(models: int, components: int, errors: int, message: str) -> dict[str, Any]:
    return {
        "entity_count": {
            "model_count": models,
            "comp_count": components,
            "total_err_count": errors,
        },
        "err_msg": message,
        "entity_type_summary": {"successful_models": [{}] * models},
    }


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[MesheryServer]:
    """A server for the block."""
    server = MesheryServer(**options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


# --- its page -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Page:
    """Meshery's page for an adapter, with some contexts selected and a text in its editor."""

    server: MesheryServer
    address: str
    kubeconfigs: Sequence[str]
    editor: str = ""
    mesh: str = ""
    operations: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Text and category by key, as the adapter told them."""

    async def load(self) -> None:
        """What a page load asks of an adapter."""
        async with GenerationClient(Generation.G, self.address) as client:
            told = await client.call("SupportedOperations")
            self.operations = {each.key: (each.value, each.category) for each in told.ops}
            self.mesh = (await client.call("ComponentInfo")).name

    def versions(self) -> list[str]:
        """The list beside the operations; the first one is chosen."""
        return self.server.offered(self.mesh.lower())

    async def click(self, operation: str) -> tuple[int, str]:
        """The server's status and text; 0 where the page's own check stopped it."""
        value, _ = self.operations[operation]
        versions = self.versions()
        # Only the switches of add-ons need no version.
        if not versions and not value.startswith("Add-on:"):
            return 0, ""
        if not self.kubeconfigs:
            return 400, "no contexts"
        asked = {
            "opName": operation,
            "namespace": "default",
            "custom_body": self.editor,
            "operation_id": str(uuid.uuid4()),
            "kube_configs": list(self.kubeconfigs),
            "version": versions[0] if versions else "",
        }
        async with GenerationClient(Generation.G, self.address) as client:
            try:
                await client.call("ApplyOperation", asked)
            except grpc.aio.AioRpcError as error:
                return 500, error.details() or ""
        # The answer itself is not read.
        return 200, ""


# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """An event as Meshery keeps it, and as a page or mesheryctl then gets it."""

    description: str
    action: str
    severity: str
    details: str
    is_error: bool
    """Whether it has metadata of an error; the page shows the description alone."""


@dataclass(slots=True)
class Session:
    """An open `/api/events`: a page, or `mesheryctl --watch`. It holds one stream of the adapter.

    `stores_results` is False for the provider None, which cannot store the details of an SMI
    result.
    """

    address: str
    stores_results: bool = False
    kept: list[Kept] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """Summaries of events that the server could not keep; each ended the stream."""
    streams: int = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Session]:
        """For the block; the stream is opened again when it ended."""
        reading = asyncio.create_task(self._read(), name="meshery-session")
        try:
            yield self
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    @property
    def descriptions(self) -> list[str]:
        return [event.description for event in self.kept]

    async def _read(self) -> None:
        while True:
            async with GenerationClient(Generation.G, self.address) as client:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await client.call("MeshName")
                    stream = client.stream("StreamEvents")
                    await stream.call.initial_metadata()
                    self.streams += 1
                    async for event in stream:
                        if not self._keep(event):
                            break
            await asyncio.sleep(_RECONNECTS_AFTER_S)

    def _keep(self, event: Any) -> bool:
        """False where the server gives the stream up."""
        details = event.details
        if _SMI in event.summary:
            result = _smi_result(details)
            if result is None or (result["more_details"] and not self.stores_results):
                self.dropped.append(event.summary)
                return False
            details = f"Result-Id: {result['id']}"
        self.kept.append(
            Kept(
                description=event.summary,
                action="undeploy" if "removed" in event.summary else "deploy",
                severity="informational",
                details=details,
                is_error=event.event_type == 2,
            )
        )
        return True


def _smi_result(details: str) -> dict[str, Any] | None:
    try:
        found = json.loads(details)
        uuid.UUID(found["id"])
    except (ValueError, KeyError, TypeError):
        return None
    texts = all(isinstance(found.get(name), str) for name in _TEXTS)
    return found if texts and isinstance(found.get("more_details"), list) else None


def deploy_verdict(events: Sequence[Kept]) -> str:
    """What `mesheryctl adapter deploy --watch` makes of a session's events: it takes the first
    that it knows for the end of what it waits for; newer ones take any "error" for a failure."""
    for event in events:
        if "mesh is now installed" in event.details.lower():
            return "installed"
        if "error" in f"{event.description} {event.details}".lower():
            return "failed"
    return "waits"
