"""What is pure in the handlers: reading a command, finding the error, and the words of the end."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import orjson
import pytest

from services.chassis.bus import subjects
from services.chassis.bus.deadletters import DeadLetter
from services.chassis.errors import (
    BusUnavailable,
    ClusterForbidden,
    InternalError,
    InvalidMessage,
    LeaseLost,
    MeshbusError,
    OperationCancelled,
)
from services.chassis.messages import Command, Event, Phase, Severity, Verb
from services.chassis.operations.commands import read_letter
from services.chassis.operations.completion import Result, failure_event, first_error, success_event
from services.chassis.operations.progress import Progress
from services.chassis.operations.running import doing
from services.chassis.telemetry.redaction import MASK, registered
from services.lifecycle.applications.deploying import Applications
from services.lifecycle.applications.samples import Samples
from services.lifecycle.manifests.objects import PlannedObject
from services.lifecycle.manifests.writing import _defined_here, read_manifest
from services.lifecycle.mesh.installing import Installer
from services.lifecycle.operations import offered
from services.lifecycle.releases.fetching import Releases


def letter(subject: str, **fields: object) -> DeadLetter:
    return DeadLetter(subject, {}, orjson.dumps({"operation": "op", "kind": "istio", **fields}))


# ---- Reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "fields"),
    [
        ("cmd.lifecycle.c1.mesh", {}),
        ("cmd.lifecycle.c1.mesh", {"cluster": "other"}),
        ("cmd.lifecycle.c1.apply.op", {}),
        ("cmd.lifecycle.c1.apply.op", {"cluster": "other", "kind": "custom"}),
        (f"cmd.lifecycle.c1.apply.{subjects.token('a.b')}", {"operation": "a.b"}),
    ],
)
def test_the_subject_s_cluster_wins(subject: str, fields: dict[str, object]) -> None:
    assert read_letter(letter(subject, **fields)).cluster == "c1"


@pytest.mark.parametrize(
    ("subject", "fields", "words"),
    [
        ("cmd.lifecycle.c1", {}, "subject"),
        ("cmd.lifecycle.c1.mesh.op", {}, "subject"),
        ("cmd.lifecycle.c1.apply.other", {}, "another operation"),
        ("cmd.lifecycle.c1.apply.op", {"operation": "a.b"}, "another operation"),
        ("cmd.lifecycle.c1.mesh", {"operation": ""}, "operation"),
        ("cmd.lifecycle.c1.mesh", {"verb": "burn"}, "verb"),
    ],
)
def test_another_letter_is_invalid(subject: str, fields: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidMessage, match=words):
        read_letter(letter(subject, **fields))


# ---- The error behind an exception ---------------------------------------------------------------

LOST, FORBIDDEN, AWAY = LeaseLost("lost"), ClusterForbidden("no"), BusUnavailable("away")


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        pytest.param(FORBIDDEN, FORBIDDEN, id="ours"),
        pytest.param(ExceptionGroup("g", [FORBIDDEN]), FORBIDDEN, id="ours in a group"),
        pytest.param(
            ExceptionGroup("g", [ExceptionGroup("h", [FORBIDDEN])]),
            FORBIDDEN,
            id="group in a group",
        ),
        pytest.param(
            ExceptionGroup("g", [FORBIDDEN, LOST]), LOST, id="a lost claim before anything else"
        ),
        pytest.param(
            ExceptionGroup("g", [FORBIDDEN, ExceptionGroup("h", [ValueError(), LOST])]),
            LOST,
            id="a lost claim deep inside",
        ),
        pytest.param(
            ExceptionGroup("g", [ValueError("x"), FORBIDDEN]), FORBIDDEN, id="ours before defects"
        ),
        pytest.param(ExceptionGroup("g", [AWAY, FORBIDDEN]), AWAY, id="the first of ours"),
    ],
)
def test_the_error_behind_an_exception(raised: Exception, error: MeshbusError) -> None:
    assert first_error(raised) is error


@pytest.mark.parametrize(
    "raised", [KeyError("secret-5e0f7d"), ExceptionGroup("g", [KeyError("secret-5e0f7d")])]
)
def test_a_defect_shows_its_kind_and_not_its_text(raised: Exception) -> None:
    error = first_error(raised)
    assert isinstance(error, InternalError)
    assert "KeyError" in error.summary
    assert "secret-5e0f7d" not in str(error)


# ---- The last event ------------------------------------------------------------------------------

OPERATIONS = offered(
    # Their words are asked for, and none is run.
    installer=cast(Installer, None),
    applications=Applications(
        Samples(Path("/nonexistent")), Releases(here=list, folder=Path("/nonexistent"))
    ),
)


async def unread(event: Event) -> None:
    """Takes events of tests that look at their composition only."""


def progress(kind: str = "istio", *, verb: Verb = Verb.APPLY) -> Progress:
    command = Command(operation="op", kind=kind, verb=verb, cluster="c1", namespace="shop")
    return Progress(unread, command, attempt=2, service="lifecycle")


@pytest.mark.parametrize(
    ("kind", "verb", "summary"),
    [
        ("istio", Verb.APPLY, "Error while installing Istio service mesh"),
        ("istio", Verb.DELETE, "Error while removing Istio service mesh"),
        ("label-namespace", Verb.APPLY, "Error while labeling shop"),
        ("label-namespace", Verb.DELETE, "Error while labeling shop"),
        ("manifest", Verb.APPLY, "Error while deploying the manifest"),
        ("manifest", Verb.DELETE, "Error while removing the manifest"),
        ("bookinfo", Verb.APPLY, "Error while installing bookinfo application"),
        ("bookinfo", Verb.DELETE, "Error while removing bookinfo application"),
        ("kiali-addon", Verb.APPLY, "Error while installing kiali-addon"),
        ("other", Verb.APPLY, "Error while running other"),
    ],
)
def test_a_failure_in_the_adapter_s_words(kind: str, verb: Verb, summary: str) -> None:
    error = ClusterForbidden("pods is forbidden", subject="Pod a/b")
    story = progress(kind, verb=verb)
    words = doing(OPERATIONS.get(kind), story.command)
    event = failure_event(story, error, doing=words, applied="Nothing was changed.")
    assert (event.phase, event.severity) == (Phase.FAILED, Severity.ERROR)
    assert event.is_final
    assert event.summary == summary
    assert event.details == "Error: pods is forbidden. Nothing was changed."
    assert event.error is not None
    assert (event.error.code, event.error.subject) == ("MB-3003", "Pod a/b")
    assert (event.operation, event.attempt, event.sequence) == ("op", 2, 1)


def test_a_cancelled_operation_is_no_error() -> None:
    error = OperationCancelled("on request")
    event = failure_event(progress(), error, doing="installing Istio service mesh", applied="")
    assert (event.phase, event.severity) == (Phase.CANCELLED, Severity.WARN)
    assert event.summary == "Cancelled while installing Istio service mesh"
    assert event.details == "Error: on request."


def test_a_success_has_its_numbers() -> None:
    event = success_event(progress(), Result("done", "all of it", (("seconds", 1.23456),)))
    assert (event.phase, event.severity, event.error) == (Phase.DONE, Severity.INFO, None)
    assert (event.summary, event.details) == ("done", "all of it")
    assert event.numbers == {"seconds": 1.235}


def test_no_word_of_a_final_event_shows_a_registered_secret() -> None:
    secret = "canary-5e0f7d"
    error = ClusterForbidden(
        f"a {secret}", cause=f"b {secret}", remedy=f"c {secret}", subject=f"d {secret}"
    )
    with registered([secret]):
        failed = failure_event(progress(), error, doing="x", applied=f"e {secret}")
        done = success_event(progress(), Result(f"f {secret}", f"g {secret}"))
    for event in (failed, done):
        assert secret not in event.model_dump_json()
        assert MASK in event.details


# ---- The manifest of the operation `custom` ------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("", "MB-1201", "no manifest"),
        (" \n\t", "MB-1201", "no manifest"),
        ("---\n", "MB-1201", "no object"),
        ("a: [", "MB-1201", "not YAML"),
        (
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: a}\n",
            "MB-1202",
            "IstioOperator",
        ),
        (
            "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: a}\n",
            "MB-1202",
            "TrafficSplit of split.smi-spec.io",
        ),
        (
            "apiVersion: core.oam.dev/v1alpha2\nkind: Component\nmetadata: {name: a}\n",
            "MB-1202",
            "Component of core.oam.dev",
        ),
        ("name: a\nservices: {b: {}}\n", "MB-1201", "no apiVersion"),
    ],
)
def test_a_manifest_that_this_operation_does_not_do(body: str, code: str, words: str) -> None:
    with pytest.raises(MeshbusError) as caught:
        read_manifest(body)
    assert caught.value.code == code
    assert words in caught.value.summary


def test_every_object_of_a_manifest_can_be_sent() -> None:
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {80: x, yes: w, 1.5: z}\n"
    [obj] = read_manifest(body)
    assert orjson.loads(PlannedObject.of(obj).body)["data"] == {"80": "x", "true": "w", "1.5": "z"}


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        ("{group: g, scope: Namespaced, names: {kind: K}}", {("g", "K"): True}),
        ("{group: g, scope: Cluster, names: {kind: K}}", {("g", "K"): False}),
        ("{group: g, names: K}", {("g", ""): False}),
        ("[a]", {("", ""): False}),
        ("a", {("", ""): False}),
        ("~", {("", ""): False}),
    ],
)
def test_a_definition_of_any_form_is_looked_at(
    spec: str, kinds: dict[tuple[str, str], bool]
) -> None:
    head = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
    assert _defined_here(read_manifest(f"{head}metadata: {{name: a}}\nspec: {spec}\n")) == kinds
