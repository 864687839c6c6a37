"""A kubeconfig's secrets are nowhere in clear: not on the bus, on disk, in logs or answers."""

from __future__ import annotations

import base64

import grpc
import pytest

from tests.real.gateway.rig import Rig, kubeconfig, pem

TOKEN = "canary-token-71f0d6"
KEY = "canary-key-8d2c94"


def with_key(name: str) -> str:
    credential = (
        f"{{client-certificate-data: {pem('CERTIFICATE', name)}, "
        f"client-key-data: {pem('PRIVATE KEY', KEY)}}}"
    )
    return kubeconfig(name).replace("{token: a-token-of-no-use}", credential)


def forms(secret: str) -> list[bytes]:
    """How a secret could be written."""
    raw = secret.encode()
    return [raw, base64.b64encode(raw).rstrip(b"=")[:-1], raw.hex().encode()]


async def test_no_secret_is_anywhere_in_clear(fresh: Rig) -> None:
    texts = []
    async with fresh.client("F") as client, fresh.client("C") as old:
        await client.call(
            "ApplyOperation",
            {
                "opName": "custom",
                "operation_id": "canary",
                "kube_configs": [kubeconfig("canary-1", token=TOKEN), with_key("canary-2")],
            },
        )
        await old.call(
            "CreateMeshInstance", {"k8sConfig": kubeconfig("canary-3", token=TOKEN).encode()}
        )
        await old.call("ApplyOperation", {"opName": "custom", "operation_id": "canary-old"})
        bad = kubeconfig("canary-4", token=f"{TOKEN} broken").replace("}", "")
        for text in (bad, kubeconfig("canary-5", token=f'"{TOKEN} blank"')):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.call("ApplyOperation", {"opName": "custom", "kube_configs": [text]})
            texts.append((caught.value.details() or "").encode())
    fresh.stack.processes["gateway"].stop()
    texts.append(fresh.stack.log_text().encode())
    texts += [path.read_bytes() for path in fresh.stack.nats.store.rglob("*") if path.is_file()]
    everything = b"\n".join(texts)
    assert b"canary-1" in everything, "the search looks in the wrong place"
    for secret in (TOKEN, KEY):
        for form in forms(secret):
            assert form not in everything
