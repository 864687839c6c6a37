"""The labels of sidecar injection: one of two ways, never both."""

from __future__ import annotations

import pytest

from services.chassis.errors import OverlayMalformed
from services.chassis.messages import Verb
from services.lifecycle.mesh.injection import labels_for
from services.lifecycle.mesh.requests import MeshRequest, parse_injection

OPTIONS = "apiVersion: meshbus.io/v1\nkind: LifecycleOptions\nspec: {revision: %s}\n"


@pytest.mark.parametrize(
    ("body", "verb", "labels"),
    [
        pytest.param("", Verb.APPLY, {"istio-injection": "enabled"}, id="enable"),
        pytest.param("", Verb.DELETE, {"istio-injection": None}, id="disable"),
        pytest.param(
            OPTIONS % "canary",
            Verb.APPLY,
            {"istio.io/rev": "canary", "istio-injection": None},
            id="enable a revision",
        ),
        pytest.param(
            OPTIONS % "canary", Verb.DELETE, {"istio.io/rev": None}, id="disable a revision"
        ),
        pytest.param(
            OPTIONS % "default",
            Verb.APPLY,
            {"istio-injection": "enabled"},
            id="enable the unnamed revision by name",
        ),
        pytest.param(
            OPTIONS % "default",
            Verb.DELETE,
            {"istio-injection": None},
            id="disable the unnamed revision by name",
        ),
    ],
)
def test_labels(body: str, verb: Verb, labels: dict[str, str | None]) -> None:
    assert labels_for(parse_injection(body), verb) == labels


def test_a_revision_that_nobody_named_is_not_used() -> None:
    request = MeshRequest(revision="canary", revision_given=False)
    assert labels_for(request, Verb.APPLY) == {"istio-injection": "enabled"}


@pytest.mark.parametrize(
    "body",
    [
        "hello",
        "a: [",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n",
        # Of the operation `istio`, and wrong there.
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: 7}\n",
    ],
)
def test_what_the_editor_holds_labels_as_nothing_would(body: str) -> None:
    request = parse_injection(body)
    assert request.ignored
    assert labels_for(request, Verb.APPLY) == {"istio-injection": "enabled"}


@pytest.mark.parametrize("revision", ["[a]", "A_b", "7"])
def test_its_own_options_are_never_ignored(revision: str) -> None:
    with pytest.raises(OverlayMalformed, match=r"spec\.revision"):
        parse_injection(OPTIONS % revision)
