"""Envoy's page for Prometheus, taken apart."""

from __future__ import annotations

import pytest

from services.topology.telemetry.stats import OfCluster, OfEdge, stats_of
from tests.unit.topology.telemetry.told import SHOP, text

CHECKOUT = "outbound|80||checkout.shop.svc.cluster.local"


def test_bytes_of_a_cluster_with_requests_are_those_requests() -> None:
    lines = (
        f'envoy_cluster_upstream_rq{{response_code="200",cluster_name="{CHECKOUT};"}} 9',
        f'envoy_cluster_upstream_rq{{response_code="503",cluster_name="{CHECKOUT};"}} 2',
        f'envoy_cluster_external_upstream_rq{{response_code="200",cluster_name="{CHECKOUT};"}} 9',
        f'envoy_cluster_upstream_rq_xx{{response_code_class="2",cluster_name="{CHECKOUT};"}} 9',
        f'envoy_cluster_upstream_rq_total{{cluster_name="{CHECKOUT};"}} 11',
        f'envoy_cluster_upstream_cx_tx_bytes_total{{cluster_name="{CHECKOUT};"}} 3509',
        'envoy_cluster_upstream_cx_tx_bytes_total{cluster_name="PassthroughCluster"} 70',
        'envoy_listener_downstream_cx_total{listener_address="0.0.0.0_80"} 7',
    )
    assert stats_of("\n".join(lines).encode()).counters == {
        OfCluster(CHECKOUT, "upstream_rq", "200"): 9,
        OfCluster(CHECKOUT, "upstream_rq", "503"): 2,
        OfCluster("PassthroughCluster", "upstream_cx_tx_bytes_total"): 70,
    }


def test_bounds_of_buckets_are_told_though_nothing_is_in_them() -> None:
    name = "envoy_cluster_upstream_rq_time_bucket"
    lines = [
        f'{name}{{cluster_name="{CHECKOUT};",le="{bound}"}} {count}'
        for bound, count in (("0.5", 0), ("300000", 4), ("+Inf", 4))
    ]
    stats = stats_of("\n".join(lines).encode())
    assert stats.counters == {
        OfCluster(CHECKOUT, "upstream_rq_time", "300000"): 4,
        OfCluster(CHECKOUT, "upstream_rq_time", "+Inf"): 4,
    }
    assert stats.bounds == {"0.5", "300000", "+Inf"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            f'envoy_cluster_upstream_rq{{response_code="200",cluster_name="{CHECKOUT};"}} 9',
            OfCluster(CHECKOUT, "upstream_rq", "200"),
        ),
        (
            (
                'envoy_cluster_my_shop_svc_cluster_local__upstream_rq{envoy_response_code="503",'
                'envoy_cluster_name="outbound|80||checkout"} 9'
            ),
            OfCluster("outbound|80||checkout.my-shop.svc.cluster.local", "upstream_rq", "503"),
        ),
        (
            (
                "envoy_cluster_example_com_upstream_cx_rx_bytes_total{"
                'envoy_cluster_name="outbound|443||api"} 9'
            ),
            OfCluster("outbound|443||api.example.com", "upstream_cx_rx_bytes_total"),
        ),
        (
            f'envoy_cluster_upstream_rq_time_bucket{{cluster_name="{CHECKOUT}",le="25"}} 9',
            OfCluster(CHECKOUT, "upstream_rq_time", "25"),
        ),
        (
            f'envoy_cluster_upstream_rq_time_sum{{cluster_name="{CHECKOUT}"}} 9',
            OfCluster(CHECKOUT, "upstream_rq_time", "sum"),
        ),
    ],
)
def test_lines_about_clusters(line: str, expected: OfCluster) -> None:
    assert stats_of(line.encode()).counters == {expected: 9}


@pytest.mark.parametrize(
    "line",
    [
        "# TYPE istio_requests_total counter",
        'envoy_cluster_upstream_rq_xx{response_code_class="2",cluster_name="a"} 9',
        'envoy_cluster_a_svc_cluster_local__external_upstream_rq{envoy_cluster_name="x"} 9',
        'envoy_cluster_internal_upstream_rq{envoy_cluster_name="xds-grpc"} 9',
        "envoy_server_uptime{} 9",
        'envoy_cluster_upstream_rq{cluster_name="a"} nine',
        'envoy_cluster_upstream_rq{cluster_name="a} 9',
        "envoy_cluster_upstream_rq{cluster_name=a} 9",
        "envoy_cluster_upstream_rq 9",
    ],
)
def test_lines_that_tell_nothing(line: str) -> None:
    counters = stats_of(line.encode()).counters
    assert counters == {}


def _line(metric: str, **more: str) -> str:
    labels = {"reporter": "destination", **SHOP, **more}
    listed = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric}{{{listed}}} 9"


def test_istios_requests_tell_security_too() -> None:
    told = {
        "request_protocol": "http",
        "response_code": "200",
        "response_flags": "-",
        "connection_security_policy": "mutual_tls",
        "source_principal": "spiffe://a",
    }
    line = _line("istio_requests_total", **told)
    assert stats_of(line.encode()).counters == {
        OfEdge("istio_requests_total", text(), "destination|http|200||-"): 9,
        OfEdge("security of istio_requests_total", text(), "http|mutual_tls|spiffe://a|"): 9,
    }


def test_sources_know_no_security() -> None:
    line = _line("istio_requests_total", reporter="source")
    (counter,) = stats_of(line.encode()).counters
    assert isinstance(counter, OfEdge)
    assert counter.metric == "istio_requests_total"


def test_istios_durations_are_those_of_successes() -> None:
    name = "istio_request_duration_milliseconds_bucket"
    lines = [
        _line(name, response_code=code, request_protocol="http", le="25") for code in ("200", "503")
    ]
    counted = stats_of("\n".join(lines).encode())
    duration = OfEdge("istio_request_duration_milliseconds", text(), "destination|http", "25")
    assert counted.counters == {duration: 9}
    assert counted.bounds == {"25"}


def test_lines_of_one_counter_add_up_and_quotes_are_unescaped() -> None:
    lines = [
        _line("istio_tcp_sent_bytes_total", reporter="source", pod=pod, destination_service=r"a\"b")
        for pod in ("one", "two")
    ]
    assert stats_of("\n".join(lines).encode()).counters == {
        OfEdge("istio_tcp_sent_bytes_total", text(destination_service='a"b'), "source|"): 18
    }
