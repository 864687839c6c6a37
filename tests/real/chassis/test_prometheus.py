"""The client of Prometheus's API, with a real Prometheus and with what is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone

import pytest
from aiohttp import web

from services.chassis.errors import LoadTestMalformed, MalformedRequest, MeshbusError
from services.chassis.prometheus import MetricsError, PrometheusApi
from tests.testbed import loopback
from tests.testbed.prometheus import Prometheus
from tests.testbed.proxies import FaultProxy


def now() -> datetime:
    return datetime.now(timezone.utc)


@pytest.fixture(scope="module")
def itself(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes nothing; it has no series."""
    with Prometheus(tmp_path_factory.mktemp("itself"), {}) as running:
        yield running


async def test_a_scalar_is_one_sample_without_labels(itself: Prometheus) -> None:
    api = PrometheusApi(itself.url + "/", timeout=timedelta(seconds=2.5))
    (scalar,) = await api.query("scalar(vector(3))", at=now())
    assert (scalar.labels, scalar.value) == ({}, 3)


async def test_kept_connections_serve_all_queries_until_they_are_closed(itself: Prometheus) -> None:
    with FaultProxy(int(itself.url.rpartition(":")[2])) as proxy:
        api = PrometheusApi(f"http://{proxy.address}", is_kept=True)
        for _ in range(3):
            await api.query("vector(1)", at=now())
        assert proxy.accepted_connections == 1
        await api.close()
        await api.query("vector(1)", at=now())
        assert proxy.accepted_connections == 2
        await api.close()
        await api.close()


async def test_refusals_are_told_in_prometheus_words(itself: Prometheus) -> None:
    with pytest.raises(MetricsError, match=r"refused the query: bad_data: .*parse error"):
        await PrometheusApi(itself.url).query("sum(", at=now())
    with pytest.raises(MetricsError, match="not with a vector"):
        await PrometheusApi(itself.url).query("up[1m]", at=now())


async def test_a_long_answer_is_not_read_to_its_end(itself: Prometheus) -> None:
    api = PrometheusApi(itself.url, most_bytes=10_000)
    assert len(await api.query(_repeated(10), at=now())) == 10
    with pytest.raises(MetricsError, match="longer than 10000 bytes"):
        await api.query(_repeated(1000), at=now())


def _repeated(times: int) -> str:
    """A query with so many samples in its answer, out of no series."""
    one = 'label_replace(vector(1), "number", "{}", "", "")'
    return " or ".join(one.format(number) for number in range(times))


@pytest.fixture
async def elsewhere() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that is no Prometheus: its address, and the paths it was asked for."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(f"{request.headers.get('Authorization', '')} {request.path}")
        if request.path.startswith("/moved"):
            return web.Response(status=302, headers={"Location": "/stolen"})
        return web.Response(text='{"status": "success", "data": []}')

    port = loopback.take_port()
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, loopback.HOST, port).start()
    yield f"{loopback.HOST}:{port}", asked
    await runner.cleanup()


async def test_redirects_are_not_followed(elsewhere: tuple[str, list[str]]) -> None:
    address, asked = elsewhere
    with pytest.raises(MetricsError, match="redirects elsewhere"):
        await PrometheusApi(f"http://{address}/moved").query("up", at=now())
    assert [line.split()[-1] for line in asked] == ["/moved/api/v1/query"]


async def test_a_server_of_another_kind_is_told(elsewhere: tuple[str, list[str]]) -> None:
    address, asked = elsewhere
    with pytest.raises(MetricsError, match="has not the form"):
        await PrometheusApi(f"http://user:p%40ss@{address}").query("up", at=now())
    assert asked[0].startswith("Basic dXNlcjpwQHNz ")


@pytest.mark.parametrize("malformed", [MalformedRequest, LoadTestMalformed])
@pytest.mark.parametrize(
    "url",
    ["", "prometheus:9090", "file:///etc/passwd", "http://", "http://h:x/", "http://u:hide@h/?a=b"],
)
def test_bad_addresses_are_refused_without_telling_them(
    url: str, malformed: type[MeshbusError]
) -> None:
    with pytest.raises(malformed, match="`prometheus`") as refused:
        PrometheusApi(url, malformed=malformed)
    assert "hide" not in str(refused.value)
