"""The graph after any changes is the graph of what there is then."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key, Object, Pod, Service, Workload
from services.topology.telemetry.traffic import Answers, Called, Flow, FlowKey, Peer, Protocol
from tests.unit.topology.graph.clusters import PLAIN, PROXY, Followed, endpoints, fresh

SPACES = ("a", "istio-system")
NAMES = ("x", "y", "z")
names = st.sampled_from(NAMES)
spaces = st.sampled_from(SPACES)
labels = st.fixed_dictionaries(
    {},
    optional={
        "app": names,
        "version": st.sampled_from(("v1", "v2")),
        "istio": st.sampled_from(("gw", "egressgateway")),
        "gateway.networking.k8s.io/gateway-name": names,
    },
)
notes = st.sampled_from(
    ({}, {}, {"health.kiali.io/rate": "5xx,50,90,http,.*"}, {"health.kiali.io/rate": "bad"})
)
external = st.sampled_from(("x.example.com", "*.example.com", "y.example.com", "*.com", "*"))
local = st.builds("{}.{}.svc.cluster.local".format, names, spaces)
short = st.one_of(names, local, st.sampled_from(("x.example.com", "y.example.com")))
destinations = st.builds(
    lambda host, subset: {"host": host} | ({"subset": subset} if subset else {}),
    short,
    st.sampled_from(("", "v1", "v2")),
)
routes = st.fixed_dictionaries(
    {
        "route": st.lists(
            st.builds(lambda d, w: {"destination": d, "weight": w}, destinations, st.just(50)),
            min_size=1,
            max_size=2,
        )
    },
    optional={
        "mirror": destinations,
        "timeout": st.just("5s"),
        "fault": st.just({"abort": {"percentage": {"value": 10}}}),
    },
)
selectors = st.one_of(st.none(), labels.filter(bool))


def _config(kind: str, specs: st.SearchStrategy[Any]) -> st.SearchStrategy[Config]:
    return st.builds(
        lambda space, name, spec: Config(key=Key(kind, space, name), spec=spec),
        spaces,
        names,
        specs,
    )


def _policy(selector: dict[str, str] | None, target: str | None) -> dict[str, Any]:
    if target:
        kind, _, name = target.partition("/")
        return {"targetRefs": [{"kind": kind, "name": name}]}
    return {"selector": {"matchLabels": selector}} if selector else {}


virtual_services = _config(
    kinds.VIRTUAL_SERVICE,
    st.fixed_dictionaries(
        {"hosts": st.lists(st.one_of(short, external), min_size=1, max_size=2)},
        optional={
            "gateways": st.lists(
                st.one_of(st.just("mesh"), names, st.builds("{}/{}".format, spaces, names)),
                min_size=1,
                max_size=2,
            ),
            "http": st.lists(routes, max_size=2),
            "tcp": st.lists(routes, max_size=1),
        },
    ),
)
rules = _config(
    kinds.DESTINATION_RULE,
    st.fixed_dictionaries(
        {"host": st.one_of(short, st.just("*.a.svc.cluster.local"), st.just("*.local"))},
        optional={
            "trafficPolicy": st.just({"outlierDetection": {"interval": "1s"}}),
            "subsets": st.just(
                [
                    {"name": "v1", "labels": {"version": "v1"}},
                    {"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": {"tls": {}}},
                ]
            ),
        },
    ),
)
policies = st.builds(
    lambda kind, space, name, spec: Config(key=Key(kind, space, name), spec=spec),
    st.sampled_from((kinds.AUTHORIZATION_POLICY, kinds.PEER_AUTHENTICATION, kinds.TELEMETRY)),
    spaces,
    names,
    st.builds(
        _policy,
        selectors,
        st.one_of(st.none(), st.sampled_from(("Service/x", "Gateway/y", "ServiceEntry/z"))),
    ),
)
gateways = _config(
    kinds.GATEWAY,
    st.fixed_dictionaries(
        {"selector": labels.filter(bool), "servers": st.just([{"hosts": ["*"]}])}
    ),
)
k8s_gateways = _config(
    kinds.K8S_GATEWAY, st.builds(lambda host: {"listeners": [{"hostname": host}]}, external)
)
k8s_routes = _config(
    kinds.HTTP_ROUTE,
    st.builds(
        lambda parents, backends: {
            "parentRefs": parents,
            "rules": [{"backendRefs": [{"name": n, "weight": 1} for n in backends]}],
        },
        st.lists(
            st.builds(
                lambda kind, name: {"kind": kind, "name": name},
                st.sampled_from(("Gateway", "Service")),
                names,
            ),
            max_size=2,
        ),
        st.lists(names, max_size=2),
    ),
)
service_entries = _config(
    kinds.SERVICE_ENTRY,
    st.builds(
        lambda hosts, selector: {"hosts": hosts} | {"workloadSelector": selector},
        st.lists(external, min_size=1, max_size=2),
        st.one_of(st.just({}), st.builds(lambda found: {"labels": found}, labels)),
    ),
)
workload_entries = _config(kinds.WORKLOAD_ENTRY, st.builds(lambda found: {"labels": found}, labels))
sidecars = _config(
    kinds.SIDECAR, st.builds(lambda found: {"workloadSelector": {"labels": found}}, labels)
)
services = st.builds(
    lambda space, name, selector, found, noted: Service(
        key=Key(kinds.SERVICE, space, name), selector=selector, labels=found, annotations=noted
    ),
    spaces,
    names,
    labels,
    labels,
    notes,
)
workloads = st.builds(
    lambda kind, space, name, found, noted, ready: Workload(
        key=Key(kind, space, name), pod_labels=found, annotations=noted, wanted=2, ready=ready
    ),
    st.sampled_from((kinds.DEPLOYMENT, kinds.STATEFUL_SET)),
    spaces,
    names,
    labels,
    notes,
    st.integers(0, 2),
)


def _pod(
    space: str, name: str, owner: str, found: dict[str, str], ready: bool, proxy: bool, phase: str
) -> Pod:
    kind, _, of = owner.partition(":")
    return Pod(
        key=Key(kinds.POD, space, name),
        labels=found,
        pod_labels=found,
        owner=Key(kind, space, of) if of else None,
        is_ready=ready,
        containers=PROXY if proxy else PLAIN,
        phase=phase,
    )


pods = st.builds(
    _pod,
    spaces,
    st.sampled_from(("x", "y", "p1", "p2", "p3")),
    st.sampled_from(("", "apps/Deployment:x", "apps/Deployment:y", "batch/Job:x-12345678")),
    labels,
    st.booleans(),
    st.booleans(),
    st.sampled_from(("Running", "Running", "Succeeded")),
)
slices = st.builds(
    lambda space, name, ready, of: endpoints(name, ready, space, of),
    spaces,
    names,
    st.integers(0, 1),
    names,
)
settings_of_mesh = st.one_of(
    st.builds(
        lambda root: Config(
            key=Key(kinds.CONFIG_MAP, "istio-system", "istio"),
            spec={"mesh": {"rootNamespace": root}},
        ),
        spaces,
    ),
    st.builds(
        lambda name: Config(
            key=Key(kinds.CONFIG_MAP, "istio-system", "istio-sidecar-injector"),
            spec={"values": {"global": {"multiCluster": {"clusterName": name}}}},
        ),
        st.sampled_from(("west", "other")),
    ),
)
objects: st.SearchStrategy[Object] = st.one_of(
    services,
    workloads,
    pods,
    slices,
    virtual_services,
    rules,
    policies,
    gateways,
    k8s_gateways,
    k8s_routes,
    service_entries,
    workload_entries,
    sidecars,
    settings_of_mesh,
)
peers = st.one_of(
    st.just(Peer()),
    st.builds(
        Peer,
        st.sampled_from(("", "east", "west")),
        spaces,
        st.one_of(names, st.just("")),
        st.one_of(names, st.just("")),
        st.sampled_from(("", "v1", "v2")),
    ),
)
calls = st.one_of(
    st.just(Called()),
    st.builds(
        lambda cluster, space, name: Called(
            cluster, space, name, f"{name}.{space}.svc.cluster.local"
        ),
        st.sampled_from(("", "west")),
        spaces,
        names,
    ),
    st.builds(
        lambda space, host: Called("", space, host, host),
        spaces,
        st.sampled_from(("x.example.com", "y.example.com")),
    ),
    st.just(Called("", "unknown", "PassthroughCluster", "PassthroughCluster")),
)
rates = st.sampled_from((0.0, 0.1, 0.3, 1.0, 7.7))
answers = st.builds(
    Answers, st.sampled_from(("200", "404", "503", "-")), st.just("-"), names, rates
)
flows = st.dictionaries(
    st.builds(FlowKey, peers, calls, peers, st.sampled_from(Protocol)),
    st.builds(
        lambda found, sent, share, waypoint: Flow(
            answers=tuple(found), sent=sent, mtls_share=share, waypoint=waypoint
        ),
        st.lists(answers, max_size=3),
        rates,
        st.sampled_from((None, 0.5)),
        st.sampled_from(("", "", "to")),
    ),
    max_size=6,
)
steps = st.one_of(
    st.lists(objects, min_size=1, max_size=8),
    st.lists(objects, min_size=1, max_size=3),
    st.integers(0, 1000),
    flows,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, min_size=1, max_size=14))
def test_changes_add_up_to_the_graph_of_what_there_is(sequence: list[Any]) -> None:
    followed = Followed()
    last: dict[FlowKey, Flow] = {}
    for step in sequence:
        if isinstance(step, dict):
            last = step
            followed.flows(*step.items())
        elif isinstance(step, int):
            known = sorted(
                o.key for kind in followed.state.kinds() for o in followed.state.all(kind)
            )
            if known:
                followed.drop(known[step % len(known)])
        elif len(step) > 3:
            followed.put_first(*step, slice_of=2)
        else:
            followed.put(*step)
    _assert_whole(followed, last)


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(objects, max_size=12),
    first=flows,
    told=st.integers(0, 8),
    between=st.one_of(st.lists(objects, min_size=1, max_size=4), flows),
)
def test_telemetry_by_parts_lets_changes_in(
    before: list[Object], first: dict[FlowKey, Flow], told: int, between: Any
) -> None:
    followed = Followed()
    followed.put(*before)
    steps = followed.graph.flows_by_parts(first)
    for parts in islice(steps, told):
        followed.follow(parts)
    last = first
    if isinstance(between, dict):
        last = between if told else first
        if told:
            followed.flows(*between.items())
    else:
        followed.put(*between)
    for parts in steps:
        followed.follow(parts)
    _assert_whole(followed, last)


def _assert_whole(followed: Followed, last: Mapping[FlowKey, Flow]) -> None:
    expected = fresh(followed.state, last.items())
    for part in {*expected.items, *followed.items}:
        assert followed.items.get(part, {}) == expected.items.get(part, {}), part
