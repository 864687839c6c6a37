"""The server around the calls: TLS, traces, many streams, bad settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from proto import meshops_pb2 as pb
from tests.real.gateway.rig import Rig, eventually, heard, kubeconfig, opened, rigged
from tests.testbed.pki import Authority
from tests.testbed.processes import BedError
from tests.testbed.tracing import Jaeger

STREAMS = 100
RSS_LIMIT_KB = 120 * 1024


def rss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("the kernel says nothing of the memory")


async def test_a_hundred_streams_fit_into_the_memory(fresh: Rig) -> None:
    clients = [fresh.client("F") for _ in range(10)]
    streams = [await opened(client) for client in clients for _ in range(STREAMS // 10)]
    for number in range(5):
        await clients[0].call(
            "ApplyOperation", {"opName": "custom", "kube_configs": [kubeconfig(f"rss-{number}")]}
        )
    await fresh.tell_many("many", range(1, 201))
    events = await asyncio.gather(*(heard(stream, 200) for stream in streams))
    assert all(len(heard_by_one) == 200 for heard_by_one in events)
    used = rss_kb(fresh.gateway_pid)
    for client in clients:
        await client.close()
    assert used < RSS_LIMIT_KB, f"{used} kB"


async def test_a_burst_of_calls_is_taken(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        answers = await asyncio.gather(*(client.call("MeshName") for _ in range(2000)))
    assert len(answers) == 2000


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    authority, stranger = Authority("gateway"), Authority("stranger")
    authority.pair.write(tmp_path, "ca")
    authority.issue_server("gateway", ["localhost", "127.0.0.1"]).write(tmp_path, "server")
    settings = {
        "MESHBUS_GATEWAY_TLS_CERTIFICATE": str(tmp_path / "server.crt"),
        "MESHBUS_GATEWAY_TLS_KEY": str(tmp_path / "server.key"),
        "MESHBUS_GATEWAY_TLS_CLIENT_CA": str(tmp_path / "ca.crt"),
    }
    async with rigged(tmp_path / "rig", settings) as rig:

        async def name(issuer: Authority | None) -> str:
            pair = issuer.issue_client("meshery") if issuer else None
            credentials = grpc.ssl_channel_credentials(
                authority.certificate_pem,
                pair.private_pem if pair else None,
                pair.public_pem if pair else None,
            )
            async with grpc.aio.secure_channel(rig.stack.gateway_address, credentials) as channel:
                call = channel.unary_unary(
                    "/meshes.MeshService/MeshName",
                    request_serializer=pb.MeshNameRequest.SerializeToString,
                    response_deserializer=pb.MeshNameResponse.FromString,
                )
                answer = await call(pb.MeshNameRequest(), timeout=5)
                return str(answer.name)

        assert await name(authority) == "ISTIO"
        for issuer in (None, stranger):
            with pytest.raises(grpc.aio.AioRpcError):
                await name(issuer)


@pytest.mark.usefixtures("built")
async def test_a_trace_goes_from_the_call_to_the_command(tmp_path: Path) -> None:
    with Jaeger(tmp_path / "jaeger") as jaeger:
        settings = {"MESHBUS_OTLP_ENDPOINT": jaeger.otlp_http_endpoint}
        trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        async with rigged(tmp_path / "rig", settings) as rig:
            async with grpc.aio.insecure_channel(rig.stack.gateway_address) as channel:
                call = channel.unary_unary(
                    "/meshes.MeshService/ApplyOperation",
                    request_serializer=pb.ApplyRuleRequest.SerializeToString,
                    response_deserializer=pb.ApplyRuleResponse.FromString,
                )
                request = pb.ApplyRuleRequest(
                    opName="custom", operation_id="traced", kube_configs=[kubeconfig("traced")]
                )
                await call(request, metadata=(("traceparent", f"00-{trace}-{parent}-01"),))
            (subject,) = await rig.commands()
            message = await rig.bus.client.jetstream().get_last_msg("CMD", subject)
            assert (message.headers or {})["traceparent"].startswith(f"00-{trace}-")

            async def shown() -> bool:
                found = jaeger.trace(trace)
                names = [span["operationName"] for span in found["spans"]] if found else []
                return "/meshes.MeshService/ApplyOperation" in names

            await eventually(shown, what="the span in Jaeger")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"MESHBUS_GATEWAY_PROT": "1"}, "MESHBUS_GATEWAY_PORT"),
        ({"MESHBUS_GATEWAY_TLS_KEY": "/nowhere"}, "tls_certificate"),
        ({"MESHBUS_SEALING_PUBLIC_KEYS": "lifecycle=short"}, "MESHBUS_SEALING_PUBLIC_KEYS"),
    ],
)
async def test_settings_that_cannot_work_are_named(
    rig: Rig, settings: dict[str, str], word: str
) -> None:
    process = rig.stack.add("gateway", name="wrong", settings=settings)
    with pytest.raises(BedError) as caught:
        rig.stack.wait_ready("wrong")
    assert word in str(caught.value)
    assert process.popen.returncode in (1, 2)


async def test_a_taken_port_is_named(rig: Rig) -> None:
    rig.stack.add("gateway", name="double")
    with pytest.raises(BedError) as caught:
        rig.stack.wait_ready("double")
    assert f"cannot listen on {rig.stack.gateway_address}" in str(caught.value)
