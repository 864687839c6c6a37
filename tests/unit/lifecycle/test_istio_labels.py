"""Whose object it is: Istio's own labels, so that istioctl recognizes what Meshbus installed."""

from __future__ import annotations

import pytest

from services.chassis.kube.objects import labels_of
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.istio import (
    claim,
    claim_namespace,
    component_of,
    revision_of,
)
from tests.unit.lifecycle.samples import thing


@pytest.mark.parametrize(
    ("labels", "component"),
    [
        ({istio.COMPONENT: "Cni"}, "Cni"),
        ({istio.COMPONENT: "Cni", "helm.sh/chart": "base-1.31.0"}, "Cni"),
        ({"helm.sh/chart": "base-1.31.0"}, "Base"),
        ({"helm.sh/chart": "istiod-1.31.0"}, "Pilot"),
        ({"helm.sh/chart": "cni-1.31.0"}, "Cni"),
        ({"helm.sh/chart": "ztunnel-1.31.0"}, "Ztunnel"),
        ({"helm.sh/chart": "istio-ingress-1.31.0"}, "IngressGateways"),
        ({"helm.sh/chart": "istio-egress-1.31.0"}, "EgressGateways"),
        ({"helm.sh/chart": "base-1.31.0", istio.REVISION: "canary"}, "Pilot"),
        ({"helm.sh/chart": "something-1.0.0"}, "Pilot"),
        ({"helm.sh/chart": "base"}, "Pilot"),
        ({}, "Pilot"),
        (None, "Pilot"),
    ],
)
def test_an_object_s_component(labels: dict[str, str] | None, component: str) -> None:
    assert component_of(thing("ConfigMap", "a", labels)) == component


@pytest.mark.parametrize("labels", [None, {}, {"app": "istiod"}])
def test_a_claimed_object_carries_istio_s_labels(labels: dict[str, str] | None) -> None:
    obj = thing("Deployment", "istiod", labels, namespace="istio-system")
    claim(obj, revision="canary", version="1.31.0", namespace="istio-system")
    assert labels_of(obj) == {
        **(labels or {}),
        "operator.istio.io/managed": "Reconcile",
        "operator.istio.io/component": "Pilot",
        "operator.istio.io/version": "1.31.0",
        "install.operator.istio.io/owning-resource-namespace": "istio-system",
        "istio.io/rev": "canary",
    }
    assert revision_of(obj) == "canary"
    assert labels_of(obj)[istio.COMPONENT] != istio.BASE


def test_what_all_revisions_share_carries_no_revision() -> None:
    obj = thing("CustomResourceDefinition", "a", {istio.COMPONENT: "Base", "istio.io/rev": "x"})
    claim(obj, revision="canary", version="1.31.0", namespace="istio-system")
    assert istio.REVISION not in labels_of(obj)
    assert revision_of(obj) is None
    assert labels_of(obj)[istio.COMPONENT] == istio.BASE


def test_the_default_validator_belongs_to_its_revision() -> None:
    labels = {"helm.sh/chart": "base-1.31.0", istio.REVISION: "canary"}
    obj = thing("ValidatingWebhookConfiguration", "istiod-default-validator", labels)
    claim(obj, revision="canary", version="1.31.0", namespace="istio-system")
    assert revision_of(obj) == "canary"
    assert labels_of(obj)[istio.COMPONENT] != istio.BASE


def test_claiming_twice_is_claiming_once() -> None:
    obj = thing("ConfigMap", "istio")
    claim(obj, revision="a", version="1.31.0", namespace="n")
    before = dict(labels_of(obj))
    claim(obj, revision="a", version="1.31.0", namespace="n")
    assert labels_of(obj) == before


def test_a_namespace_of_ours_is_shared_and_keeps_its_labels() -> None:
    obj = thing("Namespace", "istio-system", {"topology.istio.io/network": "one"})
    claim_namespace(obj)
    assert labels_of(obj)[istio.COMPONENT] == istio.BASE
    assert revision_of(obj) is None
    assert labels_of(obj)["topology.istio.io/network"] == "one"
    assert labels_of(obj)[istio.OWNER_NAMESPACE] == "istio-system"


@pytest.mark.parametrize(
    ("labels", "revision"),
    [
        (None, "default"),
        ({}, "default"),
        ({istio.COMPONENT: "Pilot"}, "default"),
        ({istio.COMPONENT: "Pilot", istio.REVISION: ""}, "default"),
        ({istio.COMPONENT: "Pilot", istio.REVISION: "a"}, "a"),
        ({istio.COMPONENT: "Base", istio.REVISION: "a"}, "a"),
        ({istio.COMPONENT: "Base"}, None),
    ],
)
def test_an_object_s_revision(labels: dict[str, str] | None, revision: str | None) -> None:
    assert revision_of(thing("ConfigMap", "a", labels)) == revision
