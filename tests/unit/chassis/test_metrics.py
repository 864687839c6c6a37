"""The catalogue of metrics: each entry is whole, and the instruments are those of the entries."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.chassis.telemetry.metrics import (
    CATALOGUE,
    COMMAND_SECONDS,
    COMMANDS,
    RUNNING,
    Metric,
    Metrics,
    MetricType,
)

every_metric = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)


@every_metric
def test_an_entry_says_all_that_an_operator_needs(metric: Metric) -> None:
    assert re.fullmatch(r"meshbus_[a-z_]+", metric.name)
    assert len(metric.meaning) > 10
    assert len(metric.action) > 10
    assert all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)
    assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER)
    assert metric.name.endswith("_seconds") == (metric.type is MetricType.HISTOGRAM)
    assert bool(metric.buckets) == (metric.type is MetricType.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_names_are_unique() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(names) == len(set(names))


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Value by name and labels, as Prometheus reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


@every_metric
def test_every_entry_has_an_instrument(metric: Metric) -> None:
    metrics = Metrics()
    labels = [f"v{number}" for number, _ in enumerate(metric.labels)]
    if metric.type is MetricType.COUNTER:
        metrics.count(metric, *labels)
        name = metric.name
    elif metric.type is MetricType.HISTOGRAM:
        metrics.observe(metric, 0.2, *labels)
        name = f"{metric.name}_count"
    else:
        metrics.add(metric, 1, *labels)
        name = metric.name
    wanted = (name, tuple(sorted(zip(metric.labels, labels, strict=True))))
    assert samples(metrics)[wanted] == 1
    assert f"# HELP {metric.name.removesuffix('_total')}" in metrics.exposition().decode()


def test_values_add_up() -> None:
    metrics = Metrics()
    for outcome in ("done", "done", "failed"):
        metrics.count(COMMANDS, "istio", outcome)
    metrics.add(RUNNING, 3)
    metrics.add(RUNNING, -1)
    metrics.observe(COMMAND_SECONDS, 0.2, "istio")
    metrics.observe(COMMAND_SECONDS, 400.0, "istio")
    found = samples(metrics)
    assert found["meshbus_commands_total", (("kind", "istio"), ("outcome", "done"))] == 2
    assert found["meshbus_commands_total", (("kind", "istio"), ("outcome", "failed"))] == 1
    assert found["meshbus_commands_running", ()] == 2
    assert found["meshbus_command_seconds_sum", (("kind", "istio"),)] == pytest.approx(400.2)
    assert found["meshbus_command_seconds_bucket", (("kind", "istio"), ("le", "0.25"))] == 1


def test_two_processes_worth_of_metrics_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.add(RUNNING, 1)
    assert samples(other)["meshbus_commands_running", ()] == 0


def test_a_wrong_number_of_labels_is_an_error() -> None:
    with pytest.raises(ValueError, match="label"):
        Metrics().count(COMMANDS, "istio")
