"""What is found by name, account and label is what a walk through all facts finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.chassis.messages import ClusterFacts, ServiceFact, WorkloadFact
from services.translator.smi.residents import Residents, account_of

_SPACES = st.sampled_from(["shop", "bank"])
_NAMES = st.sampled_from(["a", "b", "c"])
_LABELS = st.dictionaries(_NAMES, st.sampled_from(["1", "2"]), max_size=3)
_SERVICES = st.lists(st.builds(ServiceFact, namespace=_SPACES, name=_NAMES), max_size=6)
_WORKLOADS = st.lists(
    st.builds(
        WorkloadFact,
        namespace=_SPACES,
        kind=st.just("Deployment"),
        name=_NAMES,
        service_account=st.sampled_from(["", "default", "a"]),
        labels=_LABELS,
    ),
    max_size=8,
)


@given(services=_SERVICES, workloads=_WORKLOADS, space=_SPACES, name=_NAMES, selector=_LABELS)
def test_residents_are_found_as_by_a_walk(
    services: list[ServiceFact],
    workloads: list[WorkloadFact],
    space: str,
    name: str,
    selector: dict[str, str],
) -> None:
    residents = Residents.of(ClusterFacts(services=services, workloads=workloads))
    there = [one for one in services if (one.namespace, one.name) == (space, name)]
    assert residents.service(space, name) is (there[0] if there else None)
    local = [one for one in workloads if one.namespace == space]
    assert list(residents.under(space, name)) == [o for o in local if account_of(o) == name]
    expected = [one for one in local if selector.items() <= one.labels.items()]
    assert residents.selected(space, selector) == expected
