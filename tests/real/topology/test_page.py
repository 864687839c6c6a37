"""The page in a real browser."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from playwright.async_api import Page, expect

from services.topology.feed.deltas import INFO_PART, View
from services.topology.feed.views import ClusterView
from tests.real.topology.samples import CLUSTER, Shop, drift, edge, finding, info, node, parts
from tests.real.topology.serving import Server

_WATCHED = """() => {
  const { graph } = window.meshbus;
  window.events = [];
  window.places = Object.fromEntries(
    graph.cy.nodes("[!box]").map((n) => [n.id(), { ...n.position() }]));
  graph.cy.on("add remove data position", (event) =>
    window.events.push(`${event.type} ${event.target.id()}`));
}"""
_MOVED = """() => Object.entries(window.places).filter(([id, place]) => {
  const found = window.meshbus.graph.cy.getElementById(id);
  return found.nonempty() && (found.position("x") !== place.x || found.position("y") !== place.y);
}).map(([id]) => id)"""


async def opened(page: Page, server: Server, *, nodes: int = len(Shop.nodes)) -> None:
    await page.goto(f"{server.url}/graph")
    await drawn(page, nodes)


async def drawn(page: Page, nodes: int) -> None:
    """Waits until so many nodes are drawn."""
    await page.wait_for_function(
        "count => window.meshbus?.graph.cy.nodes('[!box]').length === count", arg=nodes
    )


async def shows(page: Page, *labels: str) -> None:
    """Waits until the nodes of these names, and no others, are to be seen."""
    await page.wait_for_function(
        """wanted => {
          const shown = window.meshbus.graph.cy.nodes("[!box]:visible");
          return shown.map((n) => n.data("label").replace("\\n", " ")).sort().join() === wanted;
        }""",
        arg=",".join(sorted(labels)),
    )


async def data(page: Page, ident: str) -> dict[str, Any]:
    """What is drawn of an element."""
    found: dict[str, Any] = await page.evaluate(
        "id => ({ ...window.meshbus.graph.cy.getElementById(id).data() })", ident
    )
    return found


async def click(page: Page, ident: str) -> None:
    """Clicks a node where it stands on the screen, once the graph knows where it is itself.

    A header that breaks its line moves the graph; Cytoscape looks again a moment later.
    """
    await page.wait_for_function(
        """() => {
          const cy = window.meshbus.graph.cy;
          const [left, top] = cy.renderer().findContainerClientCoords();
          const place = cy.container().getBoundingClientRect();
          return Math.abs(left - place.left) < 1 && Math.abs(top - place.top) < 1;
        }"""
    )
    place = await page.evaluate(
        "id => window.meshbus.graph.cy.getElementById(id).renderedPosition()", ident
    )
    box = await page.locator("#graph").bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + place["x"], box["y"] + place["y"])


async def test_a_cluster_appears_where_none_was(page: Page, server: Server) -> None:
    await page.goto(f"{server.url}/graph")
    await expect(page.locator("#empty")).to_contain_text("No cluster is registered")
    server.begin(parts([], about=info(name="fresh")))
    await expect(page.locator("#empty")).to_contain_text("fresh: nothing to draw")
    server.change(parts(Shop.nodes, Shop.edges))
    await drawn(page, len(Shop.nodes))
    await expect(page.locator("#empty")).to_be_hidden()
    await expect(page.locator("#cluster")).to_have_value(CLUSTER)
    server.change(parts([], about=info(name="fresh", state="unreachable", detail="no route")))
    await expect(page.locator("#status")).to_contain_text("cluster unreachable: no route")


async def test_after_many_names_the_picture_is_made_anew_and_stays_as_it_was(
    page: Page, shop: Server
) -> None:
    await opened(page, shop)
    await click(page, Shop.cart["id"])
    stands = (
        "(({ cy }) => JSON.stringify([cy.pan(), cy.zoom(), cy.nodes().map((n) => n.position())]))"
    )
    before = f"""() => {{
      const {{ graph }} = window.meshbus;
      window.renderer = graph.cy.renderer();
      window.places = {stands}(graph);
      graph.names = 10_000;
    }}"""
    await page.evaluate(before)
    late = edge(Shop.web, Shop.bank, rate="1.00")
    shop.change(parts([], [late]))
    await page.wait_for_function("() => window.meshbus.graph.cy.renderer() !== window.renderer")
    after = f"""() => {{
      const {{ cy }} = window.meshbus.graph;
      return [{stands}({{ cy }}) === window.places, cy.$(":selected").map((one) => one.id()),
        cy.renderer().textureOnViewport, cy.container().querySelectorAll("canvas").length > 0];
    }}"""
    assert await page.evaluate(after) == [True, [Shop.cart["id"]], True, True]
    # The new one is drawn and takes clicks.
    await click(page, Shop.web["id"])
    await expect(page.locator("#details h2")).to_contain_text("web")


async def test_a_change_touches_nothing_else(page: Page, shop: Server) -> None:
    await opened(page, shop)
    await page.evaluate(_WATCHED)
    newer = node("web", version="v2")
    call = edge(newer, Shop.cart, rate="3.00")
    shop.change(
        parts(
            [newer, {**Shop.web, "healthData": {"status": "Failure"}}], [call], about=info(nodes=7)
        )
    )
    await drawn(page, len(Shop.nodes) + 1)
    assert (await data(page, Shop.web["id"]))["health"] == "failure"
    events = set(await page.evaluate("() => window.events"))
    assert {event for event in events if not event.startswith("position")} == {
        f"add {newer['id']}",
        f"add {call['id']}",
        f"data {Shop.web['id']}",
    }
    assert await page.evaluate(_MOVED) == []
    # The new one stands beside what it calls, and on nothing else.
    distance = await page.evaluate(
        """([one, other]) => {
          const { cy } = window.meshbus.graph;
          const [a, b] = [one, other].map((id) => cy.getElementById(id).position());
          return Math.hypot(a.x - b.x, a.y - b.y);
        }""",
        [newer["id"], Shop.cart["id"]],
    )
    assert 40 < distance < 200
    shop.change({"versionedApp.nodes": {newer["id"]: None}})
    await drawn(page, len(Shop.nodes))
    assert await page.evaluate(_MOVED) == []
    # Its edge went with it, and comes back with it.
    shop.change(parts([newer]))
    await page.wait_for_function(
        "id => window.meshbus.graph.cy.getElementById(id).nonempty()", arg=call["id"]
    )


async def test_filters_hide_and_show(page: Page, shop: Server) -> None:
    await opened(page, shop)
    await page.click("#filters summary")
    form = page.locator("#filters form")
    await form.get_by_label("money").uncheck()
    await shows(page, "ingress v1", "web v1", "cart v1", "cart v2")
    await expect(page.locator("#filters-active")).to_have_text("(1)")
    await form.get_by_label("configuration only").uncheck()
    config = Shop.into_cart2["id"]
    await page.wait_for_function(
        "id => window.meshbus.graph.cy.getElementById(id).hidden()", arg=config
    )
    await form.get_by_label("findings").check()
    await shows(page, "cart v1")
    # What comes later is filtered too.
    shop.change(parts([node("later", "money")]))
    await drawn(page, len(Shop.nodes) + 1)
    await shows(page, "cart v1")
    await form.get_by_label("findings").uncheck()
    await form.get_by_label("no health known").uncheck()
    await shows(page, "web v1", "cart v1")
    await form.get_by_text("Show all").click()
    await page.wait_for_function(
        "count => window.meshbus.graph.cy.nodes('[!box]:visible').length === count",
        arg=len(Shop.nodes) + 1,
    )


async def test_search_finds_and_goes_there(page: Page, shop: Server) -> None:
    await opened(page, shop)
    await page.locator("#graph").focus()
    await page.keyboard.press("/")
    await page.keyboard.type("cart shop")
    await expect(page.locator("#search-count")).to_have_text("2 found")
    found = "() => window.meshbus.graph.cy.nodes('.found').map((n) => n.id())"
    assert set(await page.evaluate(found)) == {Shop.cart["id"], Shop.cart2["id"]}
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await expect(page.locator("#details h2")).to_have_text("cart v2")
    shop.change(parts([node("cart", version="v3")]))
    await expect(page.locator("#search-count")).to_have_text("3 found")
    await page.keyboard.press("Escape")
    await expect(page.locator("#search")).to_have_value("")
    assert await page.evaluate(found) == []


async def test_the_panel_tells_everything_and_stays_open(page: Page, shop: Server) -> None:
    await opened(page, shop)
    await click(page, Shop.cart["id"])
    details = page.locator("#details")
    await expect(details.locator("h2")).to_have_text("cart v1")
    for text in (
        "degraded",
        "12.50",
        "35 ms",
        "IST0101",
        "kubectl-edit",
        "spec.replicas",
        "web",
        "pay",
    ):
        await expect(details).to_contain_text(text)
    await details.locator("summary").click()
    await expect(details.locator("pre")).to_contain_text("hosts:\n  - cart")
    traffic = [{"protocol": "http", "rates": {"httpIn": "77.00"}}]
    stands = {"rejected": 1, "stale": 2}
    shop.change(parts([{**Shop.cart, "traffic": traffic, "proxyStatus": stands}]))
    await expect(details).to_contain_text("77.00")
    await expect(details).to_contain_text("1 rejected, 2 stale")
    await expect(details.locator("pre")).to_be_visible()
    shop.change({"findings": {"IST0101/cart": None}})
    await expect(details).not_to_contain_text("IST0101")
    await details.get_by_role("button", name="web v1").click()
    await expect(details.locator("h2")).to_have_text("web v1")
    # An edge.
    await page.evaluate(
        "id => { window.meshbus.graph.cy.getElementById(id).emit('tap'); }", Shop.into_cart["id"]
    )
    for text in ("http 12.5 req/s (4 % errors)", "35 ms", "100 % mTLS"):
        await expect(details).to_contain_text(text)
    # One that configuration makes leads to it.
    await page.evaluate(
        "id => { window.meshbus.graph.cy.getElementById(id).emit('tap'); }", Shop.into_cart2["id"]
    )
    await expect(details).to_contain_text("subset v2, 10 %")
    await expect(details).to_contain_text("spec.http[0].route[1]")
    await details.locator("summary", has_text="VirtualService shop/cart").click()
    await expect(details.locator("pre")).to_contain_text("hosts:\n  - cart")
    await expect(details).not_to_contain_text("false")


async def test_findings_and_drift_come_go_and_lead_to_their_objects(
    page: Page, shop: Server
) -> None:
    await opened(page, shop)
    await expect(page.locator("#findings-count")).to_have_text("1")
    shop.change(
        parts(
            [], findings=[finding("pay", code="KIA1101", level="warning")], drifts=[drift("pay-v1")]
        )
    )
    await expect(page.locator("#findings-count")).to_have_text("2")
    await page.click("#tab-drift")
    await page.locator("#drift").get_by_role("button", name="Deployment shop/cart-v1").click()
    assert await page.evaluate(
        "() => window.meshbus.graph.cy.$(':selected').map((e) => e.id())"
    ) == [Shop.cart["id"]]
    await expect(page.locator("#details h2")).to_have_text("Deployment shop/cart-v1")
    await page.click("#tab-findings")
    await page.locator("#findings").get_by_role("button", name="VirtualService shop/cart").click()
    await expect(page.locator("#details pre")).to_contain_text("kind: VirtualService")
    assert (await data(page, Shop.cart["id"]))["level"] == "error"
    shop.change({"findings": {"IST0101/cart": None}, "drift": {drift()["id"]: None}})
    await expect(page.locator("#findings-count")).to_have_text("1")
    await expect(page.locator("#drift-count")).to_have_text("1")
    after = await data(page, Shop.cart["id"])
    assert (after["level"], after["drift"]) == ("", False)


async def test_idle_edges_give_way_and_badges_show(page: Page, shop: Server) -> None:
    await opened(page, shop)
    idle = edge(Shop.web, Shop.cart2, id="idle")
    shop.change(parts([{**Shop.cart2, "hasVS": {}, "hasCB": True}], [idle]))
    visible = "([id, wanted]) => window.meshbus.graph.cy.getElementById(id).visible() === wanted"
    await page.wait_for_function(visible, arg=[idle["id"], False])
    assert (await data(page, Shop.cart2["id"]))["badges"] == "hasCB hasVS"
    # The route goes: what is idle shows itself again.
    shop.change({"versionedApp.edges": {Shop.into_cart2["id"]: None}})
    await page.wait_for_function(visible, arg=[idle["id"], True])


async def test_everything_goes_by_keys(page: Page, shop: Server) -> None:
    await opened(page, shop)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")  # "Skip to the graph".
    await expect(page.locator("#graph")).to_be_focused()
    heading = page.locator("#details h2")
    for key, name in (
        ("ArrowRight", "ingress v1"),
        ("ArrowRight", "web v1"),
        ("ArrowRight", "cart v1"),
        ("ArrowDown", "pay v1"),
        ("ArrowUp", "cart v1"),
    ):
        await page.keyboard.press(key)
        await expect(heading).to_have_text(name)
    await expect(page.locator("#spoken")).to_have_text("app cart v1, shop")
    await page.keyboard.press("Enter")
    await expect(page.locator("#details")).to_be_focused()
    await page.keyboard.press("?")
    await expect(page.locator("#help")).to_contain_text("fit everything into view")
    await page.keyboard.press("Escape")
    await expect(page.locator("#help")).to_be_hidden()
    await expect(heading).to_have_text("cart v1")
    await page.keyboard.press("Escape")
    await expect(heading).to_have_text("kind-shop")
    await page.locator("#tab-details").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#tab-findings")).to_be_focused()
    await expect(page.locator("#findings")).to_be_visible()


async def test_the_page_says_where_figures_come_from(page: Page, shop: Server) -> None:
    await opened(page, shop)
    found = "Prometheus istio-system/prometheus (found)"
    passed = f"Prometheus monitoring/prometheus (found): not asked, {found} comes first"
    telemetry = {"source": found, "state": "ok", "detail": "", "tried": [passed]}
    shop.change({INFO_PART: {"cluster": info(telemetry=telemetry)}})
    await expect(page.locator("#status")).to_contain_text(f"traffic: {found}, ok")
    panel = page.locator("#details")
    await expect(panel).to_contain_text(f"{found}, ok")
    await expect(panel).to_contain_text(passed)
    told = {"state": "unavailable", "detail": "may not read how proxies stand with istiod"}
    shop.change({INFO_PART: {"cluster": info(telemetry=telemetry, controlPlane=told)}})
    await expect(panel).to_contain_text("unavailable, may not read how proxies stand with istiod")


async def test_time_travel(page: Page, shop: Server) -> None:
    await opened(page, shop)
    shop.change(parts([node("later")]))
    await drawn(page, len(Shop.nodes) + 1)
    await page.evaluate(_WATCHED)
    await page.locator("#moment").focus()
    await page.keyboard.press("Home")
    await drawn(page, len(Shop.nodes))
    await expect(page.locator("#back-to-live")).to_be_visible()
    await expect(page.locator("#moment-text")).not_to_have_text("live")
    # What happens meanwhile is seen at the way back.
    shop.change({**parts([node("meanwhile")]), "findings": {"IST0101/cart": None}})
    await expect(page.locator("#status")).to_contain_text(f"{len(Shop.nodes)} nodes")
    await expect(page.locator("#findings-count")).to_have_text("1")
    await drawn(page, len(Shop.nodes))
    await page.click("#back-to-live")
    await drawn(page, len(Shop.nodes) + 2)
    await expect(page.locator("#findings-count")).to_have_text("0")
    await expect(page.locator("#moment-text")).to_have_text("live")
    assert await page.evaluate(_MOVED) == []
    # A past that is not kept says so, and the page stays as it is.
    shop.past.told[:] = [(datetime.now(timezone.utc) + timedelta(hours=1), ClusterView(CLUSTER))]
    await page.locator("#moment").focus()
    await page.keyboard.press("Home")
    await expect(page.locator("#status")).to_contain_text("nothing is kept of that time")
    await page.keyboard.press("Escape")
    await expect(page.locator("#moment-text")).to_have_text("live")


async def test_each_state_of_the_graph_has_an_address(page: Page, shop: Server) -> None:
    async def sent() -> None:
        """The address as somebody else opens it, whose browser remembers nothing."""
        url = page.url
        await page.evaluate("() => localStorage.clear()")
        await page.goto("about:blank")
        await page.goto(url)
        await drawn(page, len(Shop.nodes))

    await opened(page, shop)
    await page.select_option("#boxes", "")
    await page.select_option("#edge-labels", "mtls")
    await page.select_option("#layout", "grid")
    await page.click("#filters summary")
    await page.get_by_label("idle").first.uncheck()
    await page.fill("#search", "cart")
    await page.focus("#search")
    await page.keyboard.press("Enter")
    await expect(page.locator("#details h2")).to_have_text("cart v1")
    await page.click("#tab-drift")
    await sent()
    for control, value in (("boxes", ""), ("edge-labels", "mtls"), ("layout", "grid")):
        await expect(page.locator(f"#{control}")).to_have_value(value)
    await expect(page.locator("#filters-active")).to_have_text("(1)")
    await expect(page.locator("#search")).to_have_value("cart")
    await expect(page.locator("#search-count")).to_have_text("2 found")
    selected = "() => window.meshbus.graph.cy.$(':selected').map((one) => one.id())"
    await page.wait_for_function(f"id => ({selected})().join() === id", arg=Shop.cart["id"])
    await expect(page.locator("#drift")).to_be_visible()
    # An object of the findings, which may be no node.
    await page.click("#tab-findings")
    await page.locator("#findings article").get_by_role("button").first.click()
    title = await page.locator("#details h2").inner_text()
    await sent()
    await expect(page.locator("#details h2")).to_have_text(title)
    # A moment of the past, and back.
    await page.keyboard.press("Escape")
    shop.change(parts([node("later")]))
    await drawn(page, len(Shop.nodes) + 1)
    await page.locator("#moment").focus()
    await page.keyboard.press("Home")
    await drawn(page, len(Shop.nodes))
    await expect(page).to_have_url(re.compile("[?&]at="))
    await sent()
    await expect(page.locator("#moment-text")).not_to_have_text("live")
    await page.click("#back-to-live")
    await drawn(page, len(Shop.nodes) + 1)
    await expect(page).not_to_have_url(re.compile("[?&]at="))


async def test_light_and_dark(page: Page, shop: Server) -> None:
    await page.emulate_media(color_scheme="dark")
    await opened(page, shop)
    html = page.locator("html")
    await expect(html).to_have_attribute("data-theme", "dark")
    colour = "() => window.meshbus.graph.cy.nodes('[!box]')[0].style('color')"
    dark = await page.evaluate(colour)
    await page.emulate_media(color_scheme="light")
    await expect(html).to_have_attribute("data-theme", "light")
    assert await page.evaluate(colour) != dark
    await page.click("#theme")
    await expect(html).to_have_attribute("data-theme", "dark")
    assert await page.evaluate(colour) == dark
    await page.reload()
    await expect(html).to_have_attribute("data-theme", "dark")


async def test_the_graph_in_other_forms(page: Page, shop: Server) -> None:
    shop.change(parts([node("web", version="", workload="")], view=View.APP))
    await opened(page, shop)
    await page.select_option("#boxes", "namespace")
    boxes = "() => window.meshbus.graph.cy.nodes('[?box]').map((b) => b.data('label')).sort()"
    assert await page.evaluate(boxes) == ["istio-system", "money", "shop"]
    parent = "id => window.meshbus.graph.cy.getElementById(id).parent().data('label')"
    assert await page.evaluate(parent, Shop.cart["id"]) == "shop"
    shop.change({"versionedApp.nodes": {Shop.gateway["id"]: None}})
    await drawn(page, len(Shop.nodes) - 1)
    assert await page.evaluate(boxes) == ["money", "shop"]
    await page.select_option("#boxes", "")
    assert await page.evaluate(boxes) == []
    for layout in ("breadthfirst", "concentric", "cose", "grid", "flow"):
        await page.select_option("#layout", layout)
        places = await page.evaluate(
            "() => window.meshbus.graph.cy.nodes().map((n) => JSON.stringify(n.position()))"
        )
        assert len(set(places)) == len(Shop.nodes) - 1, layout
    for choice, label in (
        ("rate", "12.5 req/s (4 % errors)"),
        ("time", "35 ms"),
        ("mtls", "100 % mTLS"),
    ):
        await page.select_option("#edge-labels", choice)
        assert (await data(page, Shop.into_cart["id"]))["label"] == label
    await page.select_option("#graph-type", "app")
    await drawn(page, 1)
    assert "graphType=app" in page.url


async def test_a_restarted_server_is_found_again_and_nothing_is_lost(
    page: Page, shop: Server
) -> None:
    await opened(page, shop)
    shop.change(parts([node("before")]))
    await drawn(page, len(Shop.nodes) + 1)
    await page.evaluate(_WATCHED)
    await shop.stop()
    await expect(page.locator("#status")).to_contain_text("connection lost")
    added = node("while-away")
    shop.change({**parts([added]), "findings": {"IST0101/cart": None}})
    async with page.expect_request(lambda request: "/api/events" in request.url) as asked:
        await shop.start()
    request = await asked.value
    header = (await request.all_headers()).get("last-event-id", "")
    assert header == "7.1" or "after=7.1" in request.url
    await drawn(page, len(Shop.nodes) + 2)
    await expect(page.locator("#findings-count")).to_have_text("0")
    await expect(page.locator("#status")).to_contain_text("connected")
    events = await page.evaluate("() => window.events")
    assert {event for event in events if not event.startswith("position")} == {
        f"add {added['id']}",
        f"data {Shop.cart['id']}",
    }
    assert await page.evaluate(_MOVED) == []
    shop.change(parts([node("after")]))
    await drawn(page, len(Shop.nodes) + 3)


async def test_names_are_text_and_never_code(page: Page, shop: Server) -> None:
    evil = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"
    shop.change(
        parts(
            [node(evil, "shop", labels={evil: evil}), {**Shop.cart, "app": evil}],
            findings=[
                finding(
                    "evil",
                    message=evil,
                    cause=evil,
                    object={"kind": evil, "namespace": evil, "name": evil},
                )
            ],
            drifts=[drift("evil", manager=evil)],
            about=info(name=evil, state="unreachable", detail=evil),
        )
    )
    await opened(page, shop, nodes=len(Shop.nodes) + 1)
    # A name this long breaks the header's line, which moves the graph.
    await expect(page.locator("#cluster option:checked")).to_have_text(evil)
    await click(page, Shop.cart["id"])
    await expect(page.locator("#details h2")).to_have_text(f"{evil} v1")
    await page.click("#tab-findings")
    await expect(page.locator("#findings")).to_contain_text(evil)
    await page.locator("#findings .link").filter(has_text="onerror").click()
    await page.click("#tab-drift")
    await page.click("#filters summary")
    assert await page.locator("body img:not([src^='data:image/svg']), body script").count() == 0
    assert await page.evaluate("() => window.hit") is None
