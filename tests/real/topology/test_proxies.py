"""Traffic out of a real Envoy under a real istiod, and what an API server says of proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.chassis.errors import MalformedRequest, TelemetryUnavailable
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.topology.adapters.envoys import EnvoyAdmins, PodProxies
from services.topology.telemetry.envoy import EnvoyTelemetry
from services.topology.telemetry.identities import ProxiedPod
from services.topology.telemetry.traffic import Answers, Called, FlowKey, Peer, Protocol
from tests.testbed import building, entries, loopback
from tests.testbed.backends import Backends
from tests.testbed.clusters import Cluster
from tests.testbed.edges import Edge
from tests.testbed.istiods import Istiod
from tests.testbed.processes import wait_until
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.visitors import Request
from tests.testbed.waiting import eventually

_WITHIN_S = 60.0


def now() -> datetime:
    return datetime.now(timezone.utc)


HOST = "checkout.shop.svc.cluster.local"


class Clock:
    """Seconds that the test lets pass, so that rates are exact."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Door:
    """istiod, an Envoy at the door, and servers behind it."""

    def __init__(self, folder: Path, starting: ExitStack) -> None:
        self.cluster = starting.enter_context(Cluster(folder / "cluster", name="telemetry"))
        definitions = building.distributions_folder() / ISTIO_VERSION
        file = definitions / "manifests/charts/base/files/crd-all.gen.yaml"
        self.cluster.kubectl("apply", "--server-side", "-f", str(file))
        self.cluster.wait_established()
        for name in ("istio-system", "shop"):
            self.cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": name}})
        self.backend = starting.enter_context(Backends()).add("checkout", fails_every=4)
        entry = entries.service_entry(
            HOST, namespace="shop", name="checkout", ports={80: self.backend.port}
        )
        destination = {"destination": {"host": HOST, "port": {"number": 80}}}
        spec = {"hosts": [HOST], "gateways": ["shop/edge"], "http": [{"route": [destination]}]}
        route = entries.istio_object("VirtualService", name="shop", namespace="shop", spec=spec)
        entries.apply(self.cluster, [entry, route])
        istiod = starting.enter_context(
            Istiod(folder / "istiod", kubeconfig=self.cluster.kubeconfig)
        )
        self.edge = starting.enter_context(
            Edge(folder / "edge", cluster=self.cluster, istiod=istiod, namespace="shop")
        )
        wait_until(
            lambda: self.edge.visitor.ask(Request(host=HOST)).status in (200, 503),
            timeout_s=_WITHIN_S,
            what="the route",
            processes=[self.edge.envoy.process],
        )

    @property
    def url(self) -> str:
        return f"http://{loopback.HOST}:{self.edge.envoy.admin_port}"


@pytest.fixture(scope="module")
def door(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with ExitStack() as starting:
        yield Door(tmp_path_factory.mktemp("door"), starting)


@pytest.fixture
async def admins(door: Door) -> AsyncIterator[EnvoyAdmins]:
    admins = EnvoyAdmins([door.url])
    yield admins
    await admins.close()


EDGE = FlowKey(
    Peer("Kubernetes", "shop", "edge", "edge"),
    Called("Kubernetes", "shop", "checkout", HOST),
    Peer(),
    Protocol.HTTP,
)


async def test_an_envoys_rates_are_what_was_sent(door: Door, admins: EnvoyAdmins) -> None:
    clock = Clock()
    telemetry = EnvoyTelemetry(admins, clock=clock)
    assert await telemetry.flows(at=now(), window_s=60) == {}
    sent = door.edge.visitor.ask_often(Request(host=HOST), 40)
    clock.now_s += 10
    flows = await telemetry.flows(at=now(), window_s=60)
    assert list(flows) == [EDGE]
    assert set(flows[EDGE].answers) == {
        Answers("200", "-", HOST, sent["200 checkout"] / 10),
        Answers("503", "-", HOST, sent["503 checkout"] / 10),
    }
    assert (flows[EDGE].sent, flows[EDGE].received) == (0, 0)


async def test_an_envoys_response_times_come_with_its_next_flush(
    door: Door, admins: EnvoyAdmins
) -> None:
    clock = Clock()
    telemetry = EnvoyTelemetry(admins, clock=clock)
    await telemetry.flows(at=now(), window_s=60)
    # So slow that a busy machine adds little to it.
    door.backend.delay_s = 0.6
    door.edge.visitor.ask_often(Request(host=HOST), 4)
    door.backend.delay_s = 0.0
    found: dict[str, float] = {}

    async def is_flushed() -> bool:
        clock.now_s += 1
        flows = await telemetry.flows(at=now(), window_s=600)
        found.update(flows[EDGE].response_ms if EDGE in flows else {})
        return bool(found)

    await eventually(is_flushed, what="response times", within_s=_WITHIN_S)
    # Requests of other tests may be among them.
    assert 500 < found["99"] <= 1000
    assert 0 < found["avg"] <= 1000


async def test_a_restarted_envoy_begins_to_count_again(door: Door, admins: EnvoyAdmins) -> None:
    clock = Clock()
    telemetry = EnvoyTelemetry(admins, clock=clock)
    door.edge.visitor.ask_often(Request(host=HOST), 50)
    await telemetry.flows(at=now(), window_s=60)
    door.edge.envoy.stop()
    clock.now_s += 10
    with pytest.raises(TelemetryUnavailable) as away:
        await telemetry.flows(at=now(), window_s=60)
    assert "cannot be reached" in away.value.cause
    door.edge.start()
    wait_until(
        lambda: door.edge.visitor.ask(Request(host=HOST)).status in (200, 503),
        timeout_s=_WITHIN_S,
        what="the route",
        processes=[door.edge.envoy.process],
    )
    door.edge.visitor.ask_often(Request(host=HOST), 8)
    clock.now_s += 10
    flows = await telemetry.flows(at=now(), window_s=60)
    rate = sum(one.rate for one in flows[EDGE].answers)
    # Requests that found the route ready are among them.
    assert 8 / 20 < rate < 50 / 20


async def test_an_address_that_is_no_envoys_is_told(door: Door) -> None:
    other = f"{loopback.HOST}:{door.backend.port}"
    both = EnvoyAdmins([door.url, f"http://{other}"])
    telemetry = EnvoyTelemetry(both)
    await telemetry.flows(at=now(), window_s=60)
    (missing,) = telemetry.missing
    assert other in missing
    await both.close()


async def test_an_address_of_an_envoy_holds_no_password() -> None:
    with pytest.raises(MalformedRequest) as refused:
        EnvoyAdmins(["http://user:hidden@127.0.0.1:15000"])
    assert "hidden" not in str(refused.value)


async def test_proxies_are_asked_through_the_api_server(door: Door) -> None:
    """kwok's pods run nothing: what comes back is the API server's word that nobody answers."""
    pods = [ProxiedPod("shop", name, name, Peer("", "shop", name)) for name in ("page", "gone")]
    container = {"name": "istio-proxy", "image": "proxy"}
    door.cluster.api.create_or_keep(
        "/api/v1/namespaces/shop/pods",
        {"metadata": {"name": "page"}, "spec": {"containers": [container]}},
    )
    wait_until(
        lambda: bool(
            door.cluster.api.request("GET", "/api/v1/namespaces/shop/pods/page")["status"].get(
                "podIP"
            )
        ),
        timeout_s=_WITHIN_S,
        what="the pod's address",
    )
    config = parse_kubeconfig(door.cluster.kubeconfig_text)
    async with KubeClient(config) as client:
        proxies = PodProxies(client, lambda: pods, timeout=timedelta(seconds=2), most_pods=2)
        found = await proxies.readings()
        assert found.found == []
        page, gone = found.missing
        assert "shop/page" in page
        assert "15090" in page or "in time" in page
        assert "not found" in gone
        bounded = await PodProxies(client, lambda: pods[1:] * 3, most_pods=1).readings()
        assert bounded.missing[-1] == "2 pods are left out"
