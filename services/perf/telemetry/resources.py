"""Checks processor and memory of a run's pods against their limits, and how fast istiod was."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable

from services.chassis.prometheus import Sample
from services.perf.telemetry.findings import Findings
from services.perf.telemetry.promql import any_of, distributions_of, histogram, quoted

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
_BY = ", ".join(_CONTAINER)
_MESH_NAMESPACE = "istio-system"
_MESH_PODS = ("istiod", "ztunnel", "waypoint")


async def check_containers(findings: Findings, workloads: Collection[str]) -> None:
    """Lists containers of the run's workloads and of the mesh that were near a limit."""
    if not findings.has(CPU, tells="processor and memory of proxies and applications"):
        await _check_processes(findings)
        return
    pods, window = _pods(workloads), findings.window.text
    inside = f"{{{pods}}}[{window}]"
    cpu = f"sum by ({_BY}) (rate({CPU}{inside}))"
    memory = f"max by ({_BY}) (max_over_time({MEMORY}{inside}))"
    throttled = (
        f"sum by ({_BY}) (increase({THROTTLED}{inside}))"
        f" / sum by ({_BY}) (increase({PERIODS}{inside}))"
    )
    limited = f'{LIMITS}{{resource=~"cpu|memory",{pods}}}[{window}]'
    limits = f"max by ({_BY}, resource) (last_over_time({limited}))"
    cores, bytes_used, held_back, bounds = await asyncio.gather(
        findings.ask(cpu, what=CPU),
        findings.ask(memory, what=MEMORY),
        findings.ask(throttled if THROTTLED in findings.names else "", what="throttling"),
        findings.ask(limits if LIMITS in findings.names else "", what=LIMITS),
    )
    if findings.has(LIMITS, tells="limits of containers"):
        most = {(*_container(s), s.labels.get("resource", "")): s.value for s in bounds}
        for what, used, query in (("cpu", cores, cpu), ("memory", bytes_used, memory)):
            for container, value in _containers(used):
                limit = most.get((*container, what), 0.0)
                share = value / limit if limit else 0.0
                if share >= _NEAR_LIMIT:
                    text = f"{_named(container)} used {share:.0%} of its {what} limit"
                    findings.add_saturated(what, "/".join(container), share, text=text, query=query)
    for container, share in _containers(held_back):
        if share >= _THROTTLED_SHARE:  # False for the NaN of a container without periods
            text = f"was held back by its cpu limit in {share:.0%} of the periods"
            text = f"{_named(container)} {text}"
            findings.add_saturated(
                "cpu_throttled", "/".join(container), share, text=text, query=throttled
            )
    for container, value in sorted(_containers(cores), key=lambda item: -item[1])[:_MOST_TOLD]:
        text = f"{_named(container)} used {value:.2f} cores"
        findings.add_evidence(text, value, query=cpu, digits=None)
    if not cores:
        findings.missing.append(f"{CPU}: two samples in the window, of these pods")


async def _check_processes(findings: Findings) -> None:
    """Reads processor and memory from the processes' own metrics, without their limits."""
    window = findings.window.text
    cpu = f"sum by (job, instance) (rate({PROCESS_CPU}[{window}]))"
    memory = f"max by (job, instance) (max_over_time({ENVOY_MEMORY}[{window}]))"
    for metric, used in ((PROCESS_CPU, cpu), (ENVOY_MEMORY, memory)):
        query = f"topk({_MOST_TOLD}, {used})" if metric in findings.names else ""
        for labels, value in await findings.ask(query, what=metric):
            amount = f"{value:.2f} cores" if metric == PROCESS_CPU else f"{value / 1e6:.0f} MB"
            where = f"{labels.get('job', '')} at {labels.get('instance', '')}"
            findings.add_evidence(f"{where} used {amount}", value, query=query, digits=None)


async def check_istiod(findings: Findings) -> None:
    """Reads how long istiod took to bring changes to the proxies."""
    known = [metric for metric in ISTIOD_TIMES if f"{metric}_count" in findings.names]
    if not known:
        names = " and ".join(ISTIOD_TIMES)
        findings.missing.append(f"{names}: how long istiod took to bring changes to the proxies")
    for metric in known:
        query = histogram(metric, window=findings.window, by=("job",))
        samples = await findings.ask(query, what=metric)
        for one in distributions_of(samples, lambda labels: labels.get("job", "")).values():
            text = (
                f"istiod took {one.mean * 1000:.0f} ms on average {ISTIOD_TIMES[metric]} "
                f"({one.count:.0f} in the window, p99 {one.quantile(0.99) * 1000:.0f} ms)"
            )
            findings.add_evidence(text, one.mean, query=query, digits=6)


def _containers(samples: Iterable[Sample]) -> list[tuple[tuple[str, ...], float]]:
    """Values by namespace, pod and container, in their order."""
    return sorted((_container(sample), sample.value) for sample in samples)


def _container(sample: Sample) -> tuple[str, ...]:
    return tuple(sample.labels.get(label, "") for label in _CONTAINER)


def _named(container: tuple[str, ...]) -> str:
    namespace, pod, name = container
    return f"{name} of {pod}.{namespace}"


def _pods(workloads: Collection[str]) -> str:
    """Matchers of the pods of workloads, each `name.namespace`, and of the mesh's own."""
    pairs = [workload.rpartition(".") for workload in sorted(workloads)]
    names = "|".join(re.escape(name) for name in (*_MESH_PODS, *(pair[0] for pair in pairs)))
    namespaces = any_of([_MESH_NAMESPACE, *(pair[2] for pair in pairs)])
    pods = quoted(f"({names})-.+")
    return f'container!="",container!="POD",namespace=~{namespaces},pod=~{pods}'
