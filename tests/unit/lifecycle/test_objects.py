"""The order of an install: what stands in which wave, and how it is told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.kube.objects import Ref
from services.lifecycle.manifests.objects import (
    PlannedObject,
    Wave,
    by_kind,
    in_waves,
    listing,
    wave_of,
)


def ref(api_version: str, kind: str, name: str = "a", namespace: str = "n") -> Ref:
    return Ref(api_version, kind, namespace, name)


ORDER: list[tuple[str, str, str, Wave]] = [
    ("v1", "Namespace", "", Wave.FOUNDATIONS),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "Base", Wave.FOUNDATIONS),
    ("v1", "ServiceAccount", "", Wave.CONFIGURATION),
    ("v1", "ConfigMap", "", Wave.CONFIGURATION),
    ("v1", "Secret", "", Wave.CONFIGURATION),
    ("v1", "Service", "Pilot", Wave.CONFIGURATION),
    ("v1", "Service", "IngressGateways", Wave.CONFIGURATION),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "", Wave.CONFIGURATION),
    ("policy/v1", "PodDisruptionBudget", "", Wave.CONFIGURATION),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "", Wave.CONFIGURATION),
    ("networking.k8s.io/v1", "NetworkPolicy", "", Wave.CONFIGURATION),
    ("discovery.k8s.io/v1", "EndpointSlice", "", Wave.CONFIGURATION),
    ("apps/v1", "Deployment", "Pilot", Wave.WORKLOADS),
    ("apps/v1", "DaemonSet", "Cni", Wave.WORKLOADS),
    ("apps/v1", "Deployment", "", Wave.WORKLOADS),
    ("batch/v1", "Job", "", Wave.WORKLOADS),
    ("v1", "Pod", "", Wave.WORKLOADS),
    ("networking.istio.io/v1", "EnvoyFilter", "", Wave.CUSTOM_RESOURCES),
    ("telemetry.istio.io/v1", "Telemetry", "", Wave.CUSTOM_RESOURCES),
    ("gateway.networking.k8s.io/v1", "Gateway", "", Wave.CUSTOM_RESOURCES),
    ("inference.networking.k8s.io/v1", "InferencePool", "", Wave.CUSTOM_RESOURCES),
    ("example.org/v1", "Deployment", "", Wave.CUSTOM_RESOURCES),
    ("example.org/v1", "Namespace", "", Wave.CUSTOM_RESOURCES),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "", Wave.WEBHOOKS),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "", Wave.WEBHOOKS),
    ("apps/v1", "Deployment", "IngressGateways", Wave.GATEWAYS),
    ("apps/v1", "Deployment", "EgressGateways", Wave.GATEWAYS),
]


@pytest.mark.parametrize(("api_version", "kind", "component", "wave"), ORDER)
def test_where_an_object_stands(api_version: str, kind: str, component: str, wave: Wave) -> None:
    assert wave_of(ref(api_version, kind), component) is wave


def test_an_install_goes_through_all_waves_in_order() -> None:
    planned = [
        PlannedObject(ref(api_version, kind, str(number)), b"", component)
        for number, (api_version, kind, component, _) in enumerate(ORDER)
    ]
    random.Random(7).shuffle(planned)
    waves = in_waves(planned)
    assert [wave for wave, _ in waves] == list(Wave)
    assert sorted(p.ref for _, objects in waves for p in objects) == sorted(p.ref for p in planned)


def test_a_wave_keeps_the_manifest_s_order() -> None:
    planned = [PlannedObject(ref("v1", "ConfigMap", name), b"") for name in "cab"]
    assert in_waves(planned) == [(Wave.CONFIGURATION, planned)]


def test_empty_waves_are_left_out() -> None:
    assert in_waves([]) == []
    pod = PlannedObject(ref("v1", "Pod"), b"")
    assert in_waves([pod]) == [(Wave.WORKLOADS, [pod])]


@given(
    st.lists(
        st.builds(
            PlannedObject,
            st.builds(Ref, st.text(), st.text(), st.text(), st.text()),
            st.just(b""),
            st.text(),
        )
    )
)
def test_nothing_is_lost_or_doubled(planned: list[PlannedObject]) -> None:
    waves = in_waves(planned)
    assert [wave for wave, _ in waves] == sorted({wave for wave, _ in waves})
    assert sorted(p.ref for _, objects in waves for p in objects) == sorted(p.ref for p in planned)


@pytest.mark.parametrize("wave", Wave)
def test_every_wave_has_a_title(wave: Wave) -> None:
    assert wave.title


def test_kinds_are_counted() -> None:
    refs = [ref("v1", "Pod", "a"), ref("v1", "ConfigMap"), ref("v1", "Pod", "b")]
    assert by_kind(refs) == "1 ConfigMap, 2 Pod"
    assert by_kind([]) == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (1, "Pod n/p0"),
        (2, "Pod n/p0, Pod n/p1"),
        (3, "Pod n/p0, Pod n/p1 and 1 more"),
        (9, "Pod n/p0, Pod n/p1 and 7 more"),
    ],
)
def test_a_listing_names_the_first_ones(count: int, text: str) -> None:
    refs = [ref("v1", "Pod", f"p{number}") for number in reversed(range(count))]
    assert listing(refs, limit=2) == text


def test_an_object_of_the_cluster_is_named_without_a_namespace() -> None:
    assert str(ref("v1", "Node", "a", "")) == "Node a"
