"""Versions of objects that a cluster serves."""

from __future__ import annotations

import pytest

from services.translator.istio.versions import in_served_version
from tests.unit.translator.objects import obj

KIND = "networking.istio.io/VirtualService"


@pytest.mark.parametrize(
    ("version", "served", "becomes"),
    [
        pytest.param("v1", ["v1", "v1beta1", "v1alpha3"], "v1", id="served"),
        pytest.param("v1alpha3", ["v1", "v1beta1", "v1alpha3"], "v1alpha3", id="an old one"),
        pytest.param("v1", ["v1beta1", "v1alpha3"], "v1beta1", id="the newest of a cluster"),
        pytest.param("v1", ["v1alpha3", "v1beta1"], "v1beta1", id="whatever the server prefers"),
        pytest.param("v1", ["v1alpha3"], "v1alpha3", id="the only one"),
        pytest.param("v1beta1", ["v1"], "v1", id="a newer one"),
        pytest.param("v1beta1", ["v2", "v10", "v9beta1"], "v10", id="by number"),
        pytest.param("v1", [], "v1", id="no version"),
    ],
)
def test_an_object_is_written_in_a_served_version(
    version: str, served: list[str], becomes: str
) -> None:
    given = obj(f"networking.istio.io/{version}", "VirtualService", {"hosts": ["a"]})
    told = in_served_version(given, {KIND: served})
    assert told == {**given, "apiVersion": f"networking.istio.io/{becomes}"}
    assert given["apiVersion"] == f"networking.istio.io/{version}", "the object itself stays"


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("example.org/v7", "VirtualService"),
        ("v1", "Service"),
    ],
)
def test_a_kind_that_nothing_is_known_of_stays(api_version: str, kind: str) -> None:
    given = obj(api_version, kind)
    assert in_served_version(given, {KIND: ["v1"]}) is given
    assert in_served_version(given, {}) is given


def test_a_kind_of_the_core_group() -> None:
    told = in_served_version(obj("v2", "Service"), {"/Service": ["v1"]})
    # The core group has no name: what is written for it is a version alone.
    assert told["apiVersion"] == "v1"
