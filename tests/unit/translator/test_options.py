"""TranslationOptions: what is taken, what is refused, and which document it is."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.errors import OptionsMalformed
from services.translator.options import Options, is_options, parse_options


def document(spec: Any = None, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "meshbus.io/v1", "kind": "TranslationOptions", "spec": spec} | fields


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (None, Options()),
        ({}, Options()),
        ({"form": "gateway-api"}, Options(form="gateway-api")),
        ({"denyByDefault": "workload"}, Options(denyByDefault="workload")),
        ({"trustDomain": "shop.example"}, Options(trustDomain="shop.example")),
        ({"clusterDomain": "cluster.test"}, Options(clusterDomain="cluster.test")),
        ({"istioVersion": "1.30.3"}, Options(istioVersion="1.30.3")),
    ],
)
def test_options_that_are_taken(spec: Any, options: Options) -> None:
    assert parse_options(document(spec)) == options


def test_what_holds_when_nothing_is_said() -> None:
    options = parse_options({"apiVersion": "meshbus.io/v1", "kind": "TranslationOptions"})
    assert (options.form, options.denyByDefault) == ("istio", "namespace")
    assert (options.trustDomain, options.clusterDomain, options.istioVersion) == (
        None,
        "cluster.local",
        "",
    )


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"form": "xml"}, "spec.form"),
        ({"form": ["istio"]}, "spec.form"),
        ({"denyByDefault": True}, "spec.denyByDefault"),
        ({"denyByDefault": "mesh"}, "spec.denyByDefault"),
        ({"trustDomain": "*"}, "spec.trustDomain"),
        ({"trustDomain": "a\n"}, "spec.trustDomain"),
        ({"trustDomain": ""}, "spec.trustDomain"),
        ({"clusterDomain": None}, "spec.clusterDomain"),
        ({"clusterDomain": "Cluster.Local"}, "spec.clusterDomain"),
        ({"istioVersion": 1.31}, "spec.istioVersion"),
        ({"denyBydefault": "none"}, "spec.denyBydefault"),
        ("istio", "spec of the TranslationOptions"),
        ([], "spec of the TranslationOptions"),
        (0, "spec of the TranslationOptions"),
        ({"k" * 5000: 1}, "spec.kkk"),
    ],
)
def test_options_that_are_wrong_are_never_a_default(spec: Any, place: str) -> None:
    with pytest.raises(OptionsMalformed) as caught:
        parse_options(document(spec))
    assert place in caught.value.summary
    assert len(caught.value.summary) < 400


@pytest.mark.parametrize(
    ("given", "is_ours"),
    [
        (document(), True),
        (document(kind="LifecycleOptions"), False),
        (document(apiVersion="meshbus.io/v2"), False),
        ({"kind": "TranslationOptions"}, False),
        (["TranslationOptions"], False),
        ("TranslationOptions", False),
        (None, False),
    ],
)
def test_which_document_they_are(given: Any, is_ours: bool) -> None:
    assert is_options(given) is is_ours
