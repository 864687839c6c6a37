"""Processor, memory and istiod of a run: what was near its limit, as far as it is scraped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from services.chassis.prometheus import Sample
from services.perf.telemetry.distributions import distributions_of
from services.perf.telemetry.promql import Window, any_of, histogram, quoted
from services.perf.telemetry.verdicts import Evidence, Saturated

CPU = "container_cpu_usage_seconds_total"
MEMORY = "container_memory_working_set_bytes"
LIMITS = "kube_pod_container_resource_limits"
THROTTLED = "container_cpu_cfs_throttled_periods_total"
PERIODS = "container_cpu_cfs_periods_total"
PROCESS_CPU = "process_cpu_seconds_total"
ENVOY_MEMORY = "envoy_server_memory_allocated"
ISTIOD_TIMES = {
    "pilot_proxy_convergence_time": "from a change to the proxies having it",
    "pilot_xds_push_time": "to build and send one push",
}

_NEAR_LIMIT = 0.8
_THROTTLED_SHARE = 0.05
_MOST_TOLD = 5
_CONTAINER = ("namespace", "pod", "container")
_MESH_NAMESPACE = "istio-system"
_MESH_PODS = ("istiod", "ztunnel", "waypoint")

Containers = dict[tuple[str, ...], float]


def cpu_query(workloads: Iterable[str], window: Window) -> str:
    """Cores in use on average, by container of these workloads and of the mesh."""
    return f"{_by()} (rate({CPU}{{{_pods(workloads)}}}[{window.text}]))"


def memory_query(workloads: Iterable[str], window: Window) -> str:
    """Bytes in use at most."""
    return f"{_by('max')} (max_over_time({MEMORY}{{{_pods(workloads)}}}[{window.text}]))"


def throttled_query(workloads: Iterable[str], window: Window) -> str:
    """Share of the scheduler's periods in which a container was held back."""
    inside = f"{{{_pods(workloads)}}}[{window.text}]"
    return f"{_by()} (increase({THROTTLED}{inside})) / {_by()} (increase({PERIODS}{inside}))"


def limits_query(workloads: Iterable[str], window: Window) -> str:
    """Limits in cores and bytes."""
    pods = _pods(workloads)
    inside = f'{LIMITS}{{resource=~"cpu|memory",{pods}}}[{window.text}]'
    return f"max by ({', '.join((*_CONTAINER, 'resource'))}) (last_over_time({inside}))"


def process_cpu_query(window: Window) -> str:
    """Cores in use by the busiest processes, where no container is scraped."""
    return f"topk({_MOST_TOLD}, sum by (job, instance) (rate({PROCESS_CPU}[{window.text}])))"


def envoy_memory_query(window: Window) -> str:
    """Bytes that the largest proxies hold."""
    inside = f"max_over_time({ENVOY_MEMORY}[{window.text}])"
    return f"topk({_MOST_TOLD}, max by (job, instance) ({inside}))"


def istiod_query(metric: str, window: Window) -> str:
    return histogram(metric, window=window, by=("job",))


def containers_of(samples: Iterable[Sample], *, resource: str = "") -> Containers:
    """Values by namespace, pod and container; of the limits, those of one resource."""
    return {
        tuple(sample.labels.get(label, "") for label in _CONTAINER): sample.value
        for sample in samples
        if sample.labels.get("resource", "") == resource
    }


def near_limits(used: Containers, limits: Containers, *, what: str, query: str) -> list[Saturated]:
    """Containers that used most of what they may."""
    found = []
    for container, value in sorted(used.items()):
        share = value / limits[container] if limits.get(container) else 0.0
        if share >= _NEAR_LIMIT:
            text = f"{_told(container)} used {share:.0%} of its {what} limit"
            found.append(_saturated(what, container, share, text=text, query=query))
    return found


def throttled(shares: Containers, *, query: str) -> list[Saturated]:
    """Containers that the scheduler held back."""
    return [
        _saturated(
            "cpu_throttled",
            container,
            share,
            text=f"{_told(container)} was held back by its cpu limit in {share:.0%} of the periods",
            query=query,
        )
        for container, share in sorted(shares.items())
        if share >= _THROTTLED_SHARE  # False for the NaN of a container without periods
    ]


def busiest(used: Containers, *, query: str) -> list[Evidence]:
    """The containers that used most of a processor."""
    descending = sorted(used.items(), key=lambda item: -item[1])[:_MOST_TOLD]
    return [
        Evidence(text=f"{_told(container)} used {value:.2f} cores", query=query, value=value)
        for container, value in descending
    ]


def processes(samples: Iterable[Sample], *, unit: str, query: str) -> list[Evidence]:
    """Answers by job and instance: cores, or bytes told in MB."""
    found = []
    for sample in samples:
        where = f"{sample.labels.get('job', '')} at {sample.labels.get('instance', '')}"
        told = f"{sample.value:.2f} cores" if unit == "cores" else f"{sample.value / 1e6:.0f} MB"
        found.append(Evidence(text=f"{where} used {told}", query=query, value=sample.value))
    return found


def istiod_times(samples: Iterable[Sample], *, metric: str, query: str) -> list[Evidence]:
    """How long istiod took, if it sent anything in the window."""
    return [
        Evidence(
            text=f"istiod took {one.mean * 1000:.0f} ms on average {ISTIOD_TIMES[metric]} "
            f"({one.count:.0f} in the window, p99 {one.quantile(0.99) * 1000:.0f} ms)",
            query=query,
            value=round(one.mean, 6),
        )
        for one in distributions_of(samples, _job).values()
    ]


def _job(labels: Mapping[str, str]) -> str:
    return labels.get("job", "")


def _by(aggregate: str = "sum") -> str:
    return f"{aggregate} by ({', '.join(_CONTAINER)})"


def _pods(workloads: Iterable[str]) -> str:
    """Matchers of the pods of workloads, each `name.namespace`, and of the mesh's own."""
    pairs = [workload.rpartition(".") for workload in sorted(workloads)]
    names = "|".join(re.escape(name) for name in (*_MESH_PODS, *(pair[0] for pair in pairs)))
    namespaces = any_of([_MESH_NAMESPACE, *(pair[2] for pair in pairs)])
    pods = quoted(f"({names})-.+")
    return f'container!="",container!="POD",namespace=~{namespaces},pod=~{pods}'


def _told(container: tuple[str, ...]) -> str:
    namespace, pod, name = container
    return f"{name} of {pod}.{namespace}"


def _saturated(
    what: str, container: tuple[str, ...], value: float, *, text: str, query: str
) -> Saturated:
    where = "/".join(container)
    return Saturated(what=what, where=where, value=round(value, 4), text=text, query=query)
