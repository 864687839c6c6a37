"""What becomes of our events in Meshery's server: its page, and mesheryctl that waits."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import grpc
import orjson
import pytest

from services.chassis.messages import Event, Phase, Severity
from tests.real.gateway.rig import Rig, event, kubeconfig
from tests.testbed.mesheries import Session, deploy_verdict
from tests.testbed.waiting import eventually

RESULT = {
    "id": str(uuid.UUID(int=7)),
    "date": "2026-11-24T08:30:05Z",
    "mesh_name": "Istio",
    "mesh_version": "1.31.0",
    "cases_passed": "1",
    "passing_percentage": "100.00",
    "status": "completed",
    "more_details": [{"smi_specification": "traffic-split", "status": "PASSED"}],
}


def told(number: int, summary: str, details: str = "", **fields: object) -> Event:
    return event("op", number, summary).model_copy(update={"details": details, **fields})


async def waits(session: Session, holds: Callable[[], object], *, what: str) -> None:
    await eventually(holds, what=f"{what}; kept {session.descriptions}")


@pytest.mark.parametrize("stores_results", [False, True])
async def test_an_smi_result_arrives_whoever_stores_it(fresh: Rig, stores_results: bool) -> None:
    session = Session(fresh.stack.gateway_address, stores_results=stores_results)
    async with session.opened():
        await waits(session, lambda: session.streams == 1, what="a stream")
        await fresh.publisher.event(told(1, "SMI: 1 of 1 cases passed with Istio 1.31.0"))
        result = orjson.dumps(RESULT).decode()
        await fresh.publisher.event(
            told(2, "Smi conformance test completed successfully", result, phase=Phase.DONE)
        )
        if not stores_results:
            # The server gives the stream up, and begins another one: what is written meanwhile goes
            # with the old one.
            await waits(session, lambda: session.streams >= 2, what="another stream")
        await fresh.publisher.event(told(3, "what comes after it"))
        await waits(session, lambda: "what comes after it" in session.descriptions, what="the rest")
        assert session.descriptions[0] == "SMI: 1 of 1 cases passed with Istio 1.31.0"
        if stores_results:
            assert session.dropped == []
            assert session.kept[1].details == f"Result-Id: {RESULT['id']}"
        else:
            # The server has closed the stream. What was written does not come again, but for a
            # write that the end of its call cut off: nobody can tell whether that arrived.
            assert set(session.dropped) == {"Smi conformance test completed successfully"}
            assert len(session.kept) == 2
            assert session.streams == 1 + len(session.dropped)


async def test_mesheryctl_is_not_tripped_by_names(fresh: Rig) -> None:
    session = Session(fresh.stack.gateway_address)
    async with session.opened():
        await waits(session, lambda: session.streams == 1, what="a stream")
        name = {"cluster_name": "error-prod"}
        await fresh.publisher.event(told(1, "Deployment a/error-page is ready", **name))
        await fresh.publisher.event(
            told(2, "Check: no errors were found", severity=Severity.WARN, **name)
        )
        await waits(session, lambda: len(session.kept) == 2, what="two events")
        assert deploy_verdict(session.kept) == "waits"
        assert session.descriptions == [
            "Deployment a/err·or-page is ready on err·or-prod",
            "Warning: Check: no err·ors were found on err·or-prod",
        ]
        await fresh.publisher.event(
            told(
                3,
                "Istio service mesh 1.31.0 installed successfully",
                "The Istio mesh is now installed: version 1.31.0",
                phase=Phase.DONE,
                numbers={"objects": 45.0, "applied": 45.0, "seconds": 8.2},
                **name,
            )
        )
        await waits(session, lambda: len(session.kept) == 3, what="the end")
        assert deploy_verdict(session.kept) == "installed"
        assert session.descriptions[-1].endswith("err·or-prod: 45 objects, 45 applied in 8.2 s")


async def test_mesheryctl_sees_a_failure(fresh: Rig) -> None:
    session = Session(fresh.stack.gateway_address)
    async with session.opened():
        await waits(session, lambda: session.streams == 1, what="a stream")
        await fresh.publisher.event(
            told(
                1,
                "Error while installing Istio service mesh",
                "Error: it broke.",
                phase=Phase.FAILED,
                severity=Severity.ERROR,
            )
        )
        await waits(session, lambda: session.kept, what="the failure")
        assert deploy_verdict(session.kept) == "failed"
        assert session.kept[0].is_error


async def test_each_open_page_keeps_each_event_and_deletions_are_known(fresh: Rig) -> None:
    one, two = (Session(fresh.stack.gateway_address) for _ in range(2))
    async with one.opened(), two.opened():
        await waits(one, lambda: one.streams == two.streams == 1, what="two streams")
        await fresh.publisher.event(told(1, "Istio service mesh removed successfully"))
        await waits(one, lambda: one.kept and two.kept, what="the event")
        assert [kept.action for kept in (*one.kept, *two.kept)] == ["undeploy", "undeploy"]


async def test_a_click_without_a_version_is_explained(fresh: Rig) -> None:
    async with fresh.client("G") as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call(
                "ApplyOperation", {"opName": "", "kube_configs": [kubeconfig("nameless")]}
            )
    words = caught.value.details() or ""
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words.startswith("MB-1002: no operation was named; available: istio")
    assert "choose a version" in words
