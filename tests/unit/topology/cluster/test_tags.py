"""Look-ups by tag find what a scan of all objects would find, whatever came and went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Labels, Pod, Service
from services.topology.cluster.state import State, matches

_LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
_NAMES = st.sampled_from("123")
_NAMESPACES = st.sampled_from(("n", "m"))
_STEPS = st.lists(
    st.tuples(st.sampled_from((kinds.POD, kinds.SERVICE)), _NAMESPACES, _NAMES, st.none() | _LABELS)
)


@given(steps=_STEPS, wanted=_LABELS, namespace=_NAMESPACES)
def test_tags_find_what_a_scan_finds(
    steps: list[tuple[str, str, str, Labels | None]], wanted: Labels, namespace: str
) -> None:
    state = State("c")
    for kind, where, name, labels in steps:
        key = Key(kind, where, name)
        if labels is None:
            state.drop(key)
        elif kind == kinds.POD:
            state.put(Pod(key=key, labels=labels, pod_labels=labels))
        else:
            state.put(Service(key=key, selector=labels))
    pods = [pod.key for pod in state.all(kinds.POD) if matches(wanted, pod.labels)]
    assert sorted(pod.key for pod in state.pods_with(wanted)[1]) == sorted(pods)
    assert sorted(pod.key for pod in state.pods_with(wanted, namespace)[1]) == sorted(
        key for key in pods if key.namespace == namespace
    )
    assert sorted(service.key for service in state.services_of(namespace, wanted)) == sorted(
        service.key
        for service in state.all(kinds.SERVICE, namespace)
        if service.selector and matches(service.selector, wanted)
    )
