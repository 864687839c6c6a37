"""The gateway's parts that need no process: bounds, texts, and what a mark is worth."""

from __future__ import annotations

import yaml

from services.chassis.errors import ClusterBusy
from services.chassis.kube.kubeconfigs import parse_kubeconfig, select_context
from services.chassis.messages import ErrorReport
from services.gateway import wire
from services.gateway.intake import Intake, Peers
from services.gateway.streaming.marks import Mark
from tests.real.gateway.rig import event, kubeconfig


async def test_a_kubeconfig_is_parsed_once() -> None:
    intake = Intake()
    text = kubeconfig("once")
    assert await intake.target(text) is await intake.target(text)


async def test_the_intake_forgets_the_oldest() -> None:
    intake = Intake()
    first = await intake.target(kubeconfig("forgotten-0"))
    for number in range(1, 257):
        await intake.target(kubeconfig(f"forgotten-{number}"))
    assert await intake.target(kubeconfig("forgotten-0")) is not first


async def test_peers_are_forgotten_after_an_idle_hour_and_beyond_a_thousand() -> None:
    now = 0.0
    peers = Peers(lambda: now)
    target = await Intake().target(kubeconfig("peer"))
    peers.remember("used", target)
    peers.remember("idle", target)
    now = 3000.0
    assert peers.recall("used") is target
    now = 4000.0
    assert peers.recall("idle") is None
    assert peers.recall("used") is target
    for number in range(1000):
        peers.remember(str(number), target)
    assert peers.recall("used") is None
    assert peers.recall("0") is target


def test_a_chosen_context_brings_no_other_credential_along() -> None:
    first, second = (yaml.safe_load(kubeconfig(name)) for name in ("first", "second"))
    for section in ("contexts", "clusters", "users"):
        first[section] += second[section]
    first["users"][0]["user"]["token"] = "not-for-the-second"
    text = select_context(yaml.safe_dump(first), "second")
    assert "not-for-the-second" not in text
    assert parse_kubeconfig(text) == parse_kubeconfig(kubeconfig("second"))


def test_a_summary_names_the_cluster_once() -> None:
    def told(summary: str, cluster: str) -> str:
        named = event("op", 1, summary).model_copy(update={"cluster_name": cluster})
        return str(wire.events_response(named).summary)

    assert told("Ready", "prod") == "Ready on prod"
    assert told("Ready on prod", "prod") == "Ready on prod"
    assert told("Ready", "") == "Ready"
    # A name inside another word does not count.
    assert told("none left", "one") == "none left on one"
    assert told("Ready on prod-2", "prod") == "Ready on prod-2 on prod"


def test_cause_and_code_come_from_an_error_only() -> None:
    quiet = wire.events_response(event("op", 1))
    assert (quiet.probable_cause, quiet.suggested_remediation, quiet.error_code) == ("", "", "")
    report = ErrorReport.of(ClusterBusy("taken", subject="op-1"))
    failed = event("op", 1).model_copy(update={"error": report, "details": "the worker's own"})
    assert wire.events_response(failed).details == "the worker's own"
    assert wire.events_response(failed).error_code == "MB-2002"


def test_details_stay_below_what_clients_take() -> None:
    long = event("op", 1).model_copy(update={"details": "…" * 3_000_000})
    assert wire.events_response(long).ByteSize() < 4 * 1024 * 1024


def test_a_mark_only_grows_within_a_stream() -> None:
    old, new = "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"
    assert Mark(stream=old, sequence=5).covers(Mark(stream=old, sequence=5))
    assert not Mark(stream=old, sequence=5).covers(Mark(stream=old, sequence=6))
    assert not Mark(stream=old, sequence=5).covers(Mark(stream=new, sequence=1))
