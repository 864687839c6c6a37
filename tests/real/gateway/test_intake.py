"""Bad requests are refused before anything happens; a peer's kubeconfig is that peer's alone."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.real.gateway.rig import Rig, cluster_of, kubeconfig
from tests.testbed.generations import GenerationClient

GOOD = kubeconfig("intake")


def changed(old: str, new: str) -> list[str]:
    assert old in GOOD
    return [GOOD.replace(old, new)]


def custom(**fields: Any) -> dict[str, Any]:
    return {"opName": "custom", "kube_configs": [GOOD], **fields}


REFUSED = {
    "unknown operation": (custom(opName="nonsense"), "MB-1002", "bookinfo"),
    "no operation": (custom(opName=""), "MB-1002", "available"),
    "control character in id": (custom(operation_id="a\nb"), "MB-1001", "operation_id"),
    "blank around id": (custom(operation_id=" a"), "MB-1001", "operation_id"),
    "id of a following": (custom(operation_id="op-follow-7-ab"), "MB-1001", "operation_id"),
    "long id": (custom(operation_id="a" * 129), "MB-1001", "128"),
    "upper-case namespace": (custom(namespace="Shop"), "MB-1001", "Shop"),
    "dotted namespace": (custom(namespace="a.b"), "MB-1001", "a.b"),
    "long namespace": (custom(namespace="a" * 64), "MB-1001", "63"),
    "newline after namespace": (custom(namespace="shop\n"), "MB-1001", "namespace"),
    "control character in version": (custom(version="1\r\n2"), "MB-1001", "version"),
    "control character in username": (custom(username="a\0"), "MB-1001", "username"),
    "large body": (custom(custom_body="#" * (4 * 1024 * 1024 + 1)), "MB-1005", "custom_body"),
    "no cluster": (custom(kube_configs=[]), "MB-1003", "CreateMeshInstance"),
    "empty kubeconfig": (custom(kube_configs=[""]), "MB-1101", "kubeconfig"),
    "no YAML": (custom(kube_configs=["{"]), "MB-1101", "YAML"),
    "one good, one bad": (custom(kube_configs=[GOOD, "nonsense"]), "MB-1101", "kubeconfig"),
    "alias": (custom(kube_configs=["a: &x 1\nb: *x"]), "MB-1101", "alias"),
    "too many": (custom(kube_configs=[GOOD] * 101), "MB-1001", "100"),
    "too large": (custom(kube_configs=["#" * 300_000]), "MB-1101", "limit"),
    "exec": (
        custom(kube_configs=changed("{token:", "{exec: {command: touch}, token:")),
        "MB-1102",
        "exec",
    ),
    "token file": (
        custom(kube_configs=changed("{token:", "{tokenFile: /etc/passwd, token:")),
        "MB-1102",
        "tokenFile",
    ),
    "auth provider": (
        custom(kube_configs=changed("{token:", "{auth-provider: {name: gcp}, token:")),
        "MB-1102",
        "auth-provider",
    ),
    "plain http": (custom(kube_configs=changed("https:", "http:")), "MB-1102", "http"),
    "proxy": (
        custom(kube_configs=changed("    server:", "    proxy-url: http://x\n    server:")),
        "MB-1102",
        "proxy-url",
    ),
    "skipped verification": (
        custom(
            kube_configs=changed("    server:", "    insecure-skip-tls-verify: true\n    server:")
        ),
        "MB-1102",
        "insecure-skip-tls-verify",
    ),
}


async def refusal(
    client: GenerationClient, fields: dict[str, Any], call: str = "ApplyOperation"
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call(call, fields)
    return caught.value


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_request_is_refused_whole(rig: Rig, case: str) -> None:
    fields, code, word = REFUSED[case]
    before = await rig.published()
    async with rig.client("F") as client:
        error = await refusal(client, fields)
    text = error.details() or ""
    assert text.startswith(f"{code}: ")
    assert word in text
    assert "Cause: " in text
    assert "Remedy: " in text
    assert error.code() is not grpc.StatusCode.INTERNAL
    assert await rig.published() == before
    assert await rig.bucket("ops").keys() == []


async def test_a_peer_uses_the_kubeconfig_that_it_gave(rig: Rig) -> None:
    async with rig.client("C") as one, rig.client("C") as other:
        await one.call("CreateMeshInstance", {"k8sConfig": kubeconfig("peer-one").encode()})
        await other.call("CreateMeshInstance", {"k8sConfig": kubeconfig("peer-other").encode()})
        await one.call("ApplyOperation", {"opName": "custom", "operation_id": "peer-1"})
        await other.call("ApplyOperation", {"opName": "custom", "operation_id": "peer-2"})
    commands = await rig.commands()
    assert f"cmd.lifecycle.{cluster_of('peer-one')}.apply.peer-1" in commands
    assert f"cmd.lifecycle.{cluster_of('peer-other')}.apply.peer-2" in commands


async def test_a_peer_without_a_kubeconfig_gets_no_other_s(rig: Rig) -> None:
    fields = {"opName": "custom", "operation_id": "peer-3"}
    async with rig.client("C") as one, rig.client("C") as other:
        await one.call("CreateMeshInstance", {"k8sConfig": GOOD.encode()})
        assert "MB-1003" in ((await refusal(other, fields)).details() or "")
        # An empty one, as in-cluster servers send it, is taken, and takes back an earlier one.
        await one.call("CreateMeshInstance", {"k8sConfig": b""})
        assert "MB-1003" in ((await refusal(one, fields)).details() or "")


async def test_a_peer_can_choose_a_context(rig: Rig) -> None:
    first, second = kubeconfig("context-1"), kubeconfig("context-2")
    both = first
    for section in ("contexts", "clusters", "users"):
        entries = second.split(f"{section}:\n")[1].split("\nclusters:")[0].split("\nusers:")[0]
        both = both.replace(f"{section}:\n", f"{section}:\n{entries.rstrip()}\n")
    async with rig.client("C") as client:
        await client.call(
            "CreateMeshInstance", {"k8sConfig": both.encode(), "contextName": "context-2"}
        )
        await client.call("ApplyOperation", {"opName": "custom", "operation_id": "chosen"})
        error = await refusal(
            client,
            {"k8sConfig": both.encode(), "contextName": "context-3"},
            "CreateMeshInstance",
        )
    assert f"cmd.lifecycle.{cluster_of('context-2')}.apply.chosen" in await rig.commands()
    assert "MB-1101" in (error.details() or "")


async def test_a_bad_kubeconfig_is_refused_when_it_is_given(rig: Rig) -> None:
    async with rig.client("C") as client:
        for text in (b"nonsense", b"\xff\xfe"):
            error = await refusal(client, {"k8sConfig": text}, "CreateMeshInstance")
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (error.details() or "").startswith("MB-1101: ")


async def test_a_request_beyond_the_size_limit_is_refused(rig: Rig) -> None:
    async with rig.client("F") as client:
        error = await refusal(client, custom(custom_body="#" * (17 * 1024 * 1024)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
