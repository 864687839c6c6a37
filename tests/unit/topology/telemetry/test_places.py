"""Which Services may be a cluster's Prometheus, and in which order they are asked."""

from __future__ import annotations

from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import (
    Change,
    Config,
    Endpoints,
    Key,
    Object,
    Pod,
    Port,
    Service,
)
from services.topology.cluster.state import State
from services.topology.telemetry.places import Place, Registered, concerns, places_of

WEB = Port(9090, "http-web")


def service(
    namespace: str,
    name: str,
    *ports: Port,
    labels: dict[str, str] | None = None,
    told: str | None = None,
    of: str = "",
    **fields: Any,
) -> Service:
    """`told` and `of` are the two annotations."""
    annotations = {} if told is None else {"meshbus.io/prometheus": told}
    if of:
        annotations["meshbus.io/prometheus-labels"] = of
    return Service(
        key=Key(kinds.SERVICE, namespace, name),
        ports=ports or (WEB,),
        labels=labels or {},
        annotations=annotations,
        **fields,
    )


def endpoints(namespace: str, name: str, *, ready: int, unready: int = 0) -> Endpoints:
    key = Key(kinds.ENDPOINTS, namespace, f"{name}-abc")
    return Endpoints(key=key, service=name, ready=ready, unready=unready)


def state_of(*objects: Object) -> State:
    state = State("token", "blue")
    for obj in objects:
        state.put(obj)
    return state


def found(*objects: Object, registered: dict[str, Any] | None = None) -> list[Place]:
    extensions = {} if registered is None else {"meshbus.io/prometheus": registered}
    return list(places_of(state_of(*objects), Registered.of(extensions)).found)


def names(places: list[Place]) -> list[str]:
    return [f"{place.namespace}/{place.name}" for place in places]


@pytest.mark.parametrize(
    "one",
    [
        service("istio-system", "prometheus"),
        service("monitoring", "prometheus-server", Port(80, "http")),
        service("monitoring", "prometheus-operated", Port(9090, "web"), cluster_ip="None"),
        service("monitoring", "prometheus-k8s", Port(9090, "web")),
        service("observability", "mine-kube-prometheus-stack-prometheus"),
        service("prometheus", "prometheus-kube-prometheus-prometheus"),
        service("monitoring", "a", labels={"app": "prometheus"}),
        service(
            "monitoring",
            "b",
            labels={
                "app.kubernetes.io/name": "prometheus",
                "app.kubernetes.io/component": "server",
            },
        ),
        service("shop", "anything", told="true"),
    ],
    ids=lambda one: f"{one.namespace}/{one.name}",
)
def test_what_is_called_or_labelled_or_annotated_so_is_found(one: Service) -> None:
    assert names(found(one)) == [f"{one.namespace}/{one.name}"]


@pytest.mark.parametrize(
    "one",
    [
        service("shop", "prometheus"),
        service("monitoring", "grafana"),
        service("monitoring", "prometheus-kube-prometheus-alertmanager"),
        service("monitoring", "prometheus-kube-prometheus-operator"),
        service("monitoring", "prometheus-node-exporter"),
        service("monitoring", "a", labels={"app": "prometheus", "component": "alertmanager"}),
        service("monitoring", "prometheus", told="false"),
        service("monitoring", "prometheus", type="ExternalName"),
        service("monitoring", "prometheus", Port(53, protocol="UDP")),
    ],
    ids=lambda one: f"{one.namespace}/{one.name}",
)
def test_others_are_not(one: Service) -> None:
    assert found(one) == []


def test_the_order_is_fixed() -> None:
    config = Config(
        key=Key(kinds.CONFIG_MAP, "mesh", "istio"), spec={"mesh": {"rootNamespace": "root"}}
    )
    objects: list[Object] = [
        service("monitoring", "prometheus-operated"),
        service("monitoring", "a", labels={"app": "prometheus"}),
        service("monitoring", "prometheus"),
        service("shop", "annotated", told="true"),
        service("istio-system", "prometheus"),
        service("mesh", "prometheus"),
        service("root", "prometheus"),
        service("shop", "named"),
        config,
    ]
    wanted = [
        "shop/named",
        "shop/annotated",
        "root/prometheus",
        "mesh/prometheus",
        "istio-system/prometheus",
        "monitoring/prometheus",
        "monitoring/prometheus-operated",
        "monitoring/a",
    ]
    assert names(found(*objects, registered={"service": "shop/named"})) == wanted
    assert names(found(*reversed(objects), registered={"service": "shop/named"})) == wanted


@pytest.mark.parametrize(
    ("ports", "port"),
    [
        ((Port(8080, "reloader-web"), Port(9090, "http-web")), "http:9090"),
        ((Port(10901, "grpc"), Port(80, "http")), "http:80"),
        ((Port(8080), Port(9090)), "http:9090"),
        ((Port(7,),), "http:7"),
        ((Port(9090, "https-web"),), "https:9090"),
        ((Port(9090, "web", app_protocol="https"),), "https:9090"),
        ((Port(443),), "https:443"),
    ],
)  # fmt: skip
def test_the_usual_port_is_taken(ports: tuple[Port, ...], port: str) -> None:
    [place] = found(service("monitoring", "prometheus", *ports))
    assert f"{place.scheme}:{place.port}" == port


@pytest.mark.parametrize(
    ("told", "path"),
    [
        ("true", "http:prom:9090/proxy"),
        ("8080", "http:prom:8080/proxy"),
        ("admin", "http:prom:8080/proxy"),
        ("https:admin", "https:prom:8080/proxy"),
        ("http:9090/", "http:prom:9090/proxy"),
        ("http:9090/k8s/prom.a/", "http:prom:9090/proxy/k8s/prom.a"),
    ],
)
def test_an_annotation_says_how_it_is_reached(told: str, path: str) -> None:
    one = service("shop", "prom", WEB, Port(8080, "admin"), told=told, of="cluster=blue,z=a")
    [place] = found(one)
    assert place.proxy_path == f"/api/v1/namespaces/shop/services/{path}"
    assert place.labels == (("cluster", "blue"), ("z", "a"))


@pytest.mark.parametrize(
    ("told", "of", "why"),
    [
        ("yes please", "", "SCHEME:PORT/PATH"),
        ("ftp:21", "", "SCHEME:PORT/PATH"),
        ("http:9090/..", "", "SCHEME:PORT/PATH"),
        ("http:9090/a/../../secrets", "", "SCHEME:PORT/PATH"),
        ("http:9090/a?b", "", "SCHEME:PORT/PATH"),
        ("8443", "", "it has no port 8443"),
        ("true", "blue", "NAME=VALUE"),
    ],
)
def test_an_annotation_that_is_not_understood_is_told(told: str, of: str, why: str) -> None:
    places = places_of(state_of(service("shop", "prom", told=told, of=of)))
    assert places.found == ()
    [note] = places.notes
    assert note.startswith("Service shop/prom: ")
    assert why in note


def test_one_without_a_ready_endpoint_is_not_asked() -> None:
    one = service("monitoring", "prometheus")
    away = endpoints("monitoring", "prometheus", ready=0, unready=1)
    places = places_of(state_of(one, away))
    assert places.found == ()
    assert places.notes == ("Prometheus monitoring/prometheus (found): no endpoint is ready",)
    assert names(found(one, endpoints("monitoring", "prometheus", ready=1)))


def test_a_registration_goes_first_and_says_how() -> None:
    told = {"service": "shop/named", "port": "https:9090/p", "labels": "cluster=blue"}
    first, second = found(
        service("shop", "named"), service("istio-system", "prometheus"), registered=told
    )
    assert first == Place("shop", "named", 9090, "https", "/p", (("cluster", "blue"),), True)
    assert str(first) == "Prometheus shop/named (named at the registration)"
    assert str(second) == "Prometheus istio-system/prometheus (found)"


def test_a_registration_may_say_the_labels_alone() -> None:
    found_one = service("istio-system", "prometheus", of="cluster=green")
    [place] = found(found_one, registered={"labels": "cluster=blue"})
    assert place.labels == (("cluster", "blue"),)
    assert not place.is_registered


def test_a_registered_service_that_is_not_there_is_told() -> None:
    registered = Registered.of({"meshbus.io/prometheus": {"service": "shop/gone"}})
    places = places_of(state_of(service("istio-system", "prometheus")), registered)
    assert len(places.found) == 1
    assert places.notes == ("Service shop/gone: named at the registration, and not there",)


@pytest.mark.parametrize(
    "told",
    [
        "monitoring/prometheus",
        {"service": "prometheus"},
        {"service": "monitoring/../prometheus"},
        {"service": "a/b", "url": "http://p"},
        {"service": "a/b", "port": 9090},
        {"labels": "blue"},
        {"password": "hidden"},
    ],
)
def test_a_registration_that_is_not_understood_is_told_and_nothing_of_it_counts(told: Any) -> None:
    registered = Registered.of({"meshbus.io/prometheus": told})
    assert registered == Registered(problem=registered.problem)
    assert registered.problem.startswith("meshbus.io/prometheus of the registration: ")
    assert "hidden" not in registered.problem
    assert places_of(State("token"), registered).notes == (registered.problem,)


def test_changes_that_may_be_about_it_concern() -> None:
    one, other = service("monitoring", "prometheus"), service("shop", "cart")
    ready = endpoints("monitoring", "prometheus", ready=1)
    unready = endpoints("monitoring", "prometheus", ready=0)
    state = state_of(one, other)
    registered = Registered(service=other.key)
    pod = Pod(key=Key(kinds.POD, "monitoring", "prometheus"))

    def is_about(before: Object | None, after: Object | None, **known: Registered) -> bool:
        obj = after or before
        assert obj is not None
        return concerns([Change(obj.key, before, after)], state, **known)

    assert is_about(None, one)
    assert is_about(one, None)
    assert is_about(one, service("monitoring", "prometheus", told="false"))
    assert is_about(unready, ready)
    assert is_about(None, ready)
    assert not is_about(ready, endpoints("monitoring", "prometheus", ready=2))
    assert not is_about(None, unready)
    assert not is_about(None, endpoints("shop", "cart", ready=1))
    assert not is_about(None, other)
    assert is_about(None, other, registered=registered)
    assert is_about(None, endpoints("shop", "cart", ready=1), registered=registered)
    assert not is_about(None, pod)
