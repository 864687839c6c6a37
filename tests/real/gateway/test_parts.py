"""The gateway's parts that need no process: bounds, texts, and what a mark is worth."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import ClusterBusy
from services.chassis.kube.kubeconfigs import parse_kubeconfig, select_context
from services.chassis.messages import ErrorReport, Phase, Severity
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


def test_severity_is_in_the_words_that_meshery_shows() -> None:
    def told(summary: str, severity: Severity) -> str:
        named = event("op", 1, summary).model_copy(update={"severity": severity})
        return str(wire.events_response(named).summary)

    assert told("Ready", Severity.INFO) == "Ready"
    assert told("Not ready", Severity.WARN) == "Warning: Not ready"
    assert told("Warning: not ready", Severity.WARN) == "Warning: not ready"
    assert told("Cancelled while installing", Severity.WARN) == "Cancelled while installing"
    assert told("Error while installing", Severity.ERROR) == "Error while installing"
    assert told("It broke", Severity.ERROR) == "Error: It broke"


def test_an_end_tells_its_figures() -> None:
    def told(phase: Phase, **numbers: float) -> str:
        ended = event("op", 1, "Ended").model_copy(
            update={"phase": phase, "numbers": numbers, "cluster_name": "prod"}
        )
        return str(wire.events_response(ended).summary)

    done = Phase.DONE
    assert told(done, objects=45, applied=12, pruned=0, seconds=8.24) == (
        "Ended on prod: 45 objects, 12 applied in 8.2 s"
    )
    assert told(done, objects=1, wrong=1, warnings=1, notes=2) == (
        "Ended on prod: 1 object, 1 wrong, 1 warning, 2 notes"
    )
    # The summary of a performance test has its own.
    assert told(done, requests=1000, p99_ms=3.1, seconds=60) == "Ended on prod"
    assert told(Phase.FAILED, objects=45) == "Ended on prod"


@given(
    text=st.text() | st.sampled_from(["error", "Errors of error-pages", "ERROR", "terror"]),
    name=st.sampled_from(["prod", "error-prod"]),
    severity=st.sampled_from([Severity.INFO, Severity.WARN]),
)
def test_no_good_event_trips_mesheryctl(text: str, name: str, severity: Severity) -> None:
    good = event("op", 1, f"Applied {text}").model_copy(
        update={"details": text, "cluster_name": name, "severity": severity}
    )
    told = wire.events_response(good)
    assert "error" not in f"{told.summary} {told.details}".lower()
    assert "removed" not in told.summary or "removed" in text
    failed = good.model_copy(update={"severity": Severity.ERROR, "details": "Error: broken"})
    assert "error" in wire.events_response(failed).summary.lower()
    assert wire.events_response(failed).details == "Error: broken"


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
