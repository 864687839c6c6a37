"""Kubeconfigs of strangers, sent to the gateway: what the services make of what is behind them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

import pytest

from tests.testbed import loopback
from tests.testbed.bodies import config_map
from tests.testbed.meshery import Meshery, Received
from tests.testbed.stack import Stack
from tests.testbed.strangers import Peak, Reply, Stranger, answer, endless

_MIB = 1024 * 1024
_SECRET = "db_password=hunter2"


@pytest.fixture(scope="module")
def patient(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Services that hear a stranger out, however busy the machine is."""
    with Stack(
        tmp_path_factory.mktemp("patient"),
        services=("lifecycle", "translator", "gateway"),
        settings={"MESHBUS_LIFECYCLE_FIRST_CONTACT": "60s"},
    ) as running:
        yield running


def _bomb() -> bytes:
    """A megabyte that is a gigabyte: a list without an end, for who reads it patient."""
    packer = zlib.compressobj(9, wbits=31)
    piece = b"[]," * (_MIB // 3)
    return b"".join([packer.compress(b"["), *(packer.compress(piece) for _ in range(1000))])


async def _ended(stack: Stack, stranger: Stranger, server: str = "") -> Received:
    """The end of an operation on the stranger's cluster; no event of it tells the secret."""
    text = stranger.kubeconfig(server)
    async with Meshery(stack.gateway_address, [text]).connected() as meshery:
        operation = await meshery.apply("custom", body=config_map("stranger"))
        [final] = await meshery.finals(operation)
        assert final.failed
        assert "hunter2" not in "".join(str(each.event) for each in meshery.of(operation))
        return final


def _redirecting(port: int) -> Reply:
    location = f"http://{loopback.HOST}:{port}/internal/admin"
    return lambda _: iter([answer(b"", status="307 Temporary Redirect", Location=location)])


async def test_a_redirect_reaches_nothing_inside(patient: Stack) -> None:
    with (
        Stranger(lambda _: iter([answer(_SECRET.encode(), status="400 X")]), plain=True) as inside,
        Stranger(_redirecting(inside.port)) as stranger,
    ):
        final = await _ended(patient, stranger)
        assert stranger.asked
        assert inside.asked == []
    assert final.event.error_code == "MB-3012"


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable", "200 OK"])
async def test_a_page_is_not_read_back(patient: Stack, status: str) -> None:
    page = f"<html>{_SECRET}</html>".encode()
    reply = answer(page, status=status, Content_Type="text/html")
    with Stranger(lambda _: iter([reply])) as stranger:
        final = await _ended(patient, stranger)
    assert final.event.error_code != "MB-9001"


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0"])
async def test_addresses_that_are_no_clusters_are_not_connected_to(
    patient: Stack, host: str
) -> None:
    with Stranger(lambda _: iter([])) as stranger:
        final = await _ended(patient, stranger, f"https://{host}:{stranger.port}")
        assert stranger.asked == []
    assert final.event.error_code == "MB-3014"


@pytest.mark.parametrize("attack", ["a gigabyte in a megabyte", "a plain answer without an end"])
async def test_no_answer_fills_lifecycles_memory(patient: Stack, attack: str) -> None:
    packed = answer(_bomb(), Content_Encoding="gzip", Content_Type="application/json")

    def reply(_: str) -> Iterator[bytes]:
        return endless(b'"', b"x" * _MIB) if attack.startswith("a plain") else iter([packed])

    peak = Peak(patient.processes["lifecycle"].popen.pid)
    with Stranger(reply) as stranger:
        final = await _ended(patient, stranger)
    assert final.event.error_code in ("MB-3012", "MB-3013")
    # Discovery asks twice at a time, each up to the bound of an answer.
    assert peak.growth_bytes < 200 * _MIB
    health = await asyncio.to_thread(loopback.fetch, f"{patient.health_url('lifecycle')}/livez")
    assert health == b"ok\n"
