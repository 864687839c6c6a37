"""Signing in and writing through the console, as people do it and as an attacker would."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest
from playwright.async_api import Page, expect

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import connect
from services.chassis.bus.deadletters import DeadLetter, DeadLetters
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.records import Bucket, Records
from services.chassis.errors import AttemptsExhausted
from services.chassis.messages import (
    ClusterRecord,
    Command,
    ErrorReport,
    OperationRecord,
    OperationState,
    RequestRecord,
    ServiceCatalog,
)
from services.gateway.door import tokens
from tests.real.gateway.rig import CATALOG
from tests.real.topology.test_console import accessible
from tests.testbed import loopback
from tests.testbed.issuers import TestIssuer
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, audit_entries
from tests.testbed.waiting import eventually

BEN = "meshbus_" + "b" * 40
EVE = "meshbus_" + "e" * 40
POLICY = """\
rules:
- groups: [sre]
  operations: ["*"]
  questions: ["*"]
- identities: [ben]
  operations: [custom]
  clusters: [blue]
  questions: [gateway.apply, topology.heal]
"""
APPLY = {"kind": "custom", "clusters": ["blue"], "namespace": "shop", "body": "kind: X"}


@dataclass(slots=True)
class Guarded:
    """A gateway that asks who is there, and the console before it."""

    stack: Stack
    issuer: TestIssuer
    client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.stack.health_url("topology")

    async def post(self, path: str, told: Any, **headers: str) -> tuple[int, Any]:
        sent = {"Origin": self.url, "Content-Type": "application/json"} | headers
        body = told if isinstance(told, bytes) else orjson.dumps(told)
        kept = {name: value for name, value in sent.items() if value}
        async with self.client.post(self.url + path, data=body, headers=kept) as response:
            return response.status, orjson.loads(await response.read())

    async def write(self, name: str, question: Any, **headers: str) -> tuple[int, str]:
        """The status, and the code of the refusal."""
        status, told = await self.post(
            "/api/write", {"name": name, "question": question}, **headers
        )
        return status, told.get("code", "")

    async def me(self) -> Any:
        async with self.client.get(f"{self.url}/api/me") as response:
            return orjson.loads(await response.read())


@pytest.fixture(scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("signing-in")
    issuer = TestIssuer()
    entries = tokens.entry("ben", [], BEN) + tokens.entry("eve", [], EVE)
    (folder / "tokens.yaml").write_text(entries)
    (folder / "policy.yaml").write_text(POLICY)
    port = loopback.take_port()
    url = f"http://{loopback.HOST}:{port}"
    settings = {
        "MESHBUS_POLICY": str(folder / "policy.yaml"),
        "MESHBUS_GATEWAY_TOKENS": str(folder / "tokens.yaml"),
        "MESHBUS_GATEWAY_JWT_ISSUER": issuer.name,
        "MESHBUS_GATEWAY_JWT_AUDIENCE": issuer.client_id,
        "MESHBUS_GATEWAY_JWT_KEYS": str(issuer.keys(folder / "keys.json")),
        "MESHBUS_TOPOLOGY_OIDC_ISSUER": issuer.name,
        "MESHBUS_TOPOLOGY_OIDC_CLIENT_ID": issuer.client_id,
        "MESHBUS_TOPOLOGY_CONSOLE_URL": url,
    }
    with Stack(folder / "stack", services=("gateway",), settings=settings) as stack:
        stack.launch("topology", http_port=port)
        stack.wait_ready("topology")
        admin = await connect(stack.settings("admin"), service="admin")
        record = ClusterRecord(cluster="blue", name="blue", server="https://127.0.0.1:1")
        await Records(Bucket(admin, "catalog"), ServiceCatalog).put(CATALOG.service, CATALOG)
        lifecycle = await connect(stack.settings("lifecycle"), service="lifecycle")
        await Records(Bucket(lifecycle, "clusters"), ClusterRecord).put("blue", record)
        await lifecycle.close()
        await admin.close()
        async with issuer.running(), aiohttp.ClientSession() as client:
            yield Guarded(stack, issuer, client)


@pytest.fixture
async def guarded(standing: Guarded) -> AsyncIterator[Guarded]:
    """With a browser of its own."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as client:
        yield Guarded(standing.stack, standing.issuer, client)


async def test_a_stranger_sees_and_may_do_nothing(guarded: Guarded) -> None:
    assert (await guarded.me())["identity"] is None
    for name in ("gateway.apply", "topology.heal", "lifecycle.cancel", "no.such"):
        assert await guarded.write(name, APPLY) == (401, "MB-1301")
        for forged in ("Bearer meshbus_guessed", "Bearer", "Basic YTpi", "local", "Bearer a.b.c"):
            assert await guarded.write(name, APPLY, Authorization=forged) == (401, "MB-1301")
    # One without a rule is known, and may as little.
    eve = {"Authorization": f"Bearer {EVE}"}
    assert await guarded.write("gateway.apply", APPLY, **eve) == (403, "MB-1302")
    assert await guarded.write("topology.heal", {"cluster": "blue"}, **eve) == (403, "MB-1302")


async def test_a_token_acts_under_its_name_and_no_further(guarded: Guarded) -> None:
    status, told = await guarded.post("/api/session", {"token": BEN})
    assert (status, told["identity"]) == (200, "ben")
    assert told["may"] == ["topology.heal", "gateway.apply"]
    assert [one["name"] for one in told["operations"]] == ["custom"]
    status, told = await guarded.post("/api/write", {"name": "gateway.apply", "question": APPLY})
    assert status == 200
    stored = await _record(guarded.stack, told["operation"])
    assert (stored.identity, stored.namespace, stored.has_body) == ("ben", "shop", True)
    # His rule has one operation, one cluster and two questions.
    for name, question in (
        ("gateway.apply", {**APPLY, "kind": "istio"}),
        ("topology.heal", {"cluster": "green", "drift": "x"}),
        ("topology.heal", {"drift": "x"}),
        ("lifecycle.cancel", {"operation": told["operation"], "cluster": "blue"}),
        ("lifecycle.retry", {"letter": 1}),
    ):
        assert (await guarded.write(name, question))[1] in ("MB-1302", "MB-1002"), name
    assert await guarded.write("gateway.deregister", {"cluster": "blue"}) == (400, "MB-1001")
    # What he may ask comes to topology, which does not watch this cluster.
    _, code = await guarded.write("topology.heal", {"cluster": "blue", "drift": "x"})
    assert code in ("MB-2012", "MB-7002")

    async def is_audited() -> bool:
        heals = [
            (entry.service, entry.identity, entry.by)
            for entry in await audit_entries(guarded.stack)
            if entry.call == "mesh.topology.heal"
        ]
        return {("topology", "ben", "gateway"), ("gateway", "ben", "token")} <= set(heals)

    await eventually(is_audited, what="both entries")
    entries = await audit_entries(guarded.stack)
    assert (await guarded.post("/api/session/end", {}))[1] == {"identity": None}
    assert (await guarded.me())["identity"] is None
    for name in ("gateway", "topology"):
        assert BEN not in (guarded.stack.folder / f"{name}.log").read_text()
    assert BEN not in str(entries)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "attacker.example", "Origin": "http://attacker.example"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
async def test_a_foreign_page_has_nothing_done_with_a_living_session(
    guarded: Guarded, headers: dict[str, str], status: int
) -> None:
    assert (await guarded.post("/api/session", {"token": BEN}))[0] == 200
    before = await audit_entries(guarded.stack)
    assert (await guarded.write("gateway.apply", APPLY, **headers))[0] == status
    assert (await guarded.post("/api/session/end", {}, **headers))[0] == status
    assert (await guarded.me())["identity"] == "ben"
    applied = [entry for entry in before if entry.call == "mesh.gateway.apply"]
    after = await audit_entries(guarded.stack)
    assert len([entry for entry in after if entry.call == "mesh.gateway.apply"]) == len(applied)


async def test_nothing_but_the_three_addresses_takes_a_post(guarded: Guarded) -> None:
    for path in ("/", "/api/graph", "/api/events", "/api/me", "/signin", "/metrics", "/readyz"):
        assert (await guarded.post(path, {}))[0] == 405, path
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        async with guarded.client.request(method, guarded.url + "/api/write") as response:
            assert response.status == 405
    async with guarded.client.get(guarded.url + "/api/write") as response:
        assert response.status == 404
    for wrong in (b"", b"[]", b"{", b'{"token": 7}', b'{"token": " "}', 600_000 * b" "):
        assert (await guarded.post("/api/session", wrong))[0] in (400, 503)


async def test_cookies_are_for_this_page_alone(fresh: Guarded) -> None:
    sent = {"Origin": fresh.url}
    async with fresh.client.post(
        f"{fresh.url}/api/session", json={"token": BEN}, headers=sent
    ) as response:
        [cookie] = response.headers.getall("Set-Cookie")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    async with fresh.client.get(f"{fresh.url}/signin", allow_redirects=False) as response:
        [cookie] = response.headers.getall("Set-Cookie")
        assert "samesite=lax" in cookie.lower()
        assert "httponly" in cookie.lower()


async def test_who_tries_too_often_waits(guarded: Guarded) -> None:
    # Others of this module have tried as well, from the same address.
    found = [await guarded.post("/api/session", {"token": f"guess{n}"}) for n in range(12)]
    assert found[-1][0] == 503
    assert found[-1][1]["code"] == "MB-7007"


# --- by an issuer ---------------------------------------------------------------------------------


@pytest.fixture
async def fresh(standing: Guarded) -> AsyncIterator[Guarded]:
    """A console that nobody has tried to get into."""
    topology = standing.stack.processes["topology"]
    topology.stop()
    topology.start()
    standing.stack.wait_ready("topology")
    standing.issuer.claims = {"sub": "ann", "groups": ["sre"]}
    standing.issuer.change = lambda answer: answer
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as client:
        yield Guarded(standing.stack, standing.issuer, client)


async def test_strangers_who_guess_tokens_keep_nobody_from_the_issuer(fresh: Guarded) -> None:
    """From the same address, as behind a proxy; nor do codes that nobody asked for here."""
    for n in range(12):
        await fresh.post("/api/session", {"token": f"guess{n}"})
        async with aiohttp.ClientSession() as stranger:
            forged = f"{fresh.url}/signin/callback?code=x&state={n}"
            async with stranger.get(forged, allow_redirects=False) as response:
                assert response.status == 401
    assert (await fresh.post("/api/session", {"token": "guess"}))[0] == 503
    async with fresh.client.get(f"{fresh.url}/signin") as response:
        assert response.status == 200
    assert (await fresh.me())["identity"] == "ann"


async def test_the_code_flow_gives_an_identity_with_groups(fresh: Guarded) -> None:
    async with fresh.client.get(f"{fresh.url}/signin?back=/operations%3Fq=x") as response:
        assert str(response.url) == f"{fresh.url}/operations?q=x"
    me = await fresh.me()
    assert (me["identity"], me["groups"]) == ("ann", ["sre"])
    assert "lifecycle.cancel" in me["may"]
    # Nobody is there to cancel it, but it was allowed.
    asked = {"operation": "x", "cluster": "blue"}
    assert await fresh.write("lifecycle.cancel", asked) == (503, "MB-2012")


@pytest.mark.parametrize(
    "back", ["//evil.example/x", "https://evil.example", "/\\evil.example", "javascript:x", "\n/"]
)
async def test_the_way_back_leads_nowhere_else(fresh: Guarded, back: str) -> None:
    async with fresh.client.get(f"{fresh.url}/signin", params={"back": back}) as response:
        assert str(response.url) == f"{fresh.url}/"


async def test_a_sign_in_that_somebody_else_began_is_refused(fresh: Guarded) -> None:
    callback = f"{fresh.url}/signin/callback"

    async def comes(query: str) -> tuple[int, str]:
        async with fresh.client.get(callback + query, allow_redirects=False) as response:
            return response.status, orjson.loads(await response.read())["code"]

    assert await comes("?code=stolen&state=x") == (401, "MB-1301")
    async with fresh.client.get(f"{fresh.url}/signin", allow_redirects=False) as response:
        target = response.headers["Location"]
    assert "code_challenge=" in target
    assert await comes("?code=stolen&state=x") == (401, "MB-1301")
    state = dict(part.split("=") for part in target.partition("?")[2].split("&"))["state"]
    assert await comes(f"?code=stolen&state={state}") == (401, "MB-1301")
    assert await comes(f"?error=access_denied&state={state}") == (401, "MB-1301")
    assert (await fresh.me())["identity"] is None


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another"},
        {"nonce": "another"},
        {"exp": 1},
        {"iss": "https://another"},
        {"sub": "local"},
        {"exp": "never"},
    ],
)
async def test_tokens_that_are_not_for_this_sign_in_are_refused(
    fresh: Guarded, changed: dict[str, Any]
) -> None:
    def spoil(answer: dict[str, Any]) -> dict[str, Any]:
        part = answer["id_token"].split(".")[1]
        told = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return {"id_token": fresh.issuer.token(nonce=told["nonce"], **{**changed})}

    fresh.issuer.change = (
        spoil if "nonce" not in changed else (lambda _: {"id_token": fresh.issuer.token(**changed)})
    )
    async with fresh.client.get(f"{fresh.url}/signin") as response:
        await response.read()
    assert (await fresh.me())["identity"] is None
    assert (await fresh.write("lifecycle.cancel", {"operation": "x"}))[0] == 401


async def test_an_issuer_that_is_away_is_said(fresh: Guarded) -> None:
    fresh.issuer.change = lambda _: {"id_token": 7}
    async with fresh.client.get(f"{fresh.url}/signin") as response:
        assert (response.status, orjson.loads(await response.read())["code"]) == (401, "MB-1301")


# --- in the browser -------------------------------------------------------------------------------


async def test_people_sign_in_start_an_operation_and_sign_out(page: Page, fresh: Guarded) -> None:
    await page.goto(f"{fresh.url}/start")
    await page.get_by_role("main").get_by_role("button", name="Sign in").click()
    await page.fill("#token", "meshbus_guessed")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("not accepted")
    await page.fill("#token", BEN)
    await dialog.get_by_role("button", name="Sign in").click()
    await page.select_option("#kind", "custom")
    await page.get_by_label("blue").check()
    await page.fill("#body", "kind: ConfigMap")
    await page.get_by_role("button", name="Start").click()
    await expect(dialog).to_contain_text("apply custom on blue")
    await expect(dialog).to_contain_text("As ben")
    await dialog.get_by_role("button", name="Start").click()
    await expect(page.locator("h1")).to_contain_text("custom")
    await expect(page.locator(".facts")).to_contain_text("by ben")
    await page.locator("#who summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#sign-in")).to_be_visible()


async def test_a_link_with_a_token_signs_in_and_leaves_no_trace(page: Page, fresh: Guarded) -> None:
    await page.goto(f"{fresh.url}/#token={BEN}")
    await expect(page.locator("#who summary")).to_have_text("ben")
    assert page.url == f"{fresh.url}/"
    assert await page.evaluate("() => document.cookie") == ""


async def test_an_issuer_signs_people_in(page: Page, fresh: Guarded) -> None:
    await page.goto(f"{fresh.url}/operations?q=x")
    await page.locator("#sign-in").click()
    await page.get_by_role("link", name="Sign in at your organization").click()
    await expect(page.locator("#who summary")).to_have_text("ann")
    assert page.url == f"{fresh.url}/operations?q=x"


async def test_a_dead_letter_is_shown_and_put_back_by_who_may(page: Page, fresh: Guarded) -> None:
    stack = fresh.stack
    command = Command(operation="given-up", kind="manifest", cluster="blue", body="kind: X")
    body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
    headers |= {envelopes.OPERATION: "given-up", envelopes.KIND: "apply manifest"}
    subject = subjects.apply_command(service="lifecycle", cluster="blue", operation="given-up")
    error = AttemptsExhausted("5 attempts at the command failed")
    record = OperationRecord(
        operation="given-up",
        kind="manifest",
        cluster="blue",
        state=OperationState.FAILED,
        error=ErrorReport.of(error),
    )
    async with admin_bus(stack) as bus:
        await Records(Bucket(bus, "ops"), OperationRecord).put(
            subjects.operation_key("given-up", "blue"), record
        )
        await DeadLetters(Publisher(bus)).bury(
            DeadLetter(subject, headers, body),
            stream_sequence=1,
            code=error.code,
            reason=error.summary,
        )
    stack.add("lifecycle")
    stack.wait_ready("lifecycle")
    await page.goto(f"{fresh.url}/bus#token={fresh.issuer.token()}")
    await expect(page.locator("#who summary")).to_have_text("ann")
    letter = page.locator("[data-letter]")
    for text in ("apply manifest", "MB-2009", "5 attempts at the command failed", "lifecycle"):
        await expect(letter).to_contain_text(text)
    await accessible(page)
    await letter.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("as it was sent")
    await dialog.get_by_role("button", name="Retry").click()
    # It was carried out anew, and fails now by itself: the cluster has no credential.
    await expect(page).to_have_url(f"{fresh.url}/operations/given-up")
    await expect(page.locator(".on-cluster")).to_contain_text("failed")
    await expect(page.locator(".events li").first).to_be_visible()


async def _record(stack: Stack, operation: str) -> RequestRecord:
    bus = await connect(stack.settings("operator"), service="operator")
    try:
        entry = await Records(Bucket(bus, "ops"), RequestRecord).get(
            subjects.operation_key(operation)
        )
    finally:
        await bus.close()
    assert entry is not None
    return entry[0]
