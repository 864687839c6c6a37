"""The document beside a test: what it means, its limits, and the words for what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.errors import LoadTestMalformed
from services.chassis.kube.manifests import parse_documents
from services.perf.definitions.loads import Objective, Saturation, Stage
from services.perf.definitions.options import KIND, PerformanceOptions
from services.perf.definitions.reading import read_test

HEAD = {"apiVersion": "meshbus.io/v1", "kind": KIND}


def read(**spec: Any) -> PerformanceOptions:
    return read_options({**HEAD, "spec": spec})


def read_options(document: dict[str, Any]) -> PerformanceOptions:
    """The options of a document beside a test that has nothing wrong with it."""
    client = {"rps": 20, "endpoint_urls": ["http://checkout.shop.svc/"]}
    test = {"name": "a test", "duration": "30s", "clients": [client]}
    return read_test(f"{json.dumps({'test': test})}\n---\n{json.dumps(document)}")[1]


def refused(**spec: Any) -> str:
    with pytest.raises(LoadTestMalformed) as raised:
        read(**spec)
    return raised.value.summary


def test_nothing_is_needed() -> None:
    documents: list[dict[str, Any]] = [{}, {"spec": None}, {"spec": {}}, {"metadata": {"a": "b"}}]
    for document in documents:
        assert read_options({**HEAD, **document}) == PerformanceOptions()
    options = PerformanceOptions()
    assert (options.workers, options.onLostWorker, options.timeoutSeconds) == (0, "rerun", 10)
    assert (options.threshold, options.settleSeconds, options.repeats) == (0.1, 5, 3)
    assert (options.furtherPairs, options.alternate, options.rollback) == (3, True, True)
    assert options.rollback
    assert options.course == []


def test_the_example_of_the_module_can_be_read() -> None:
    from services.perf.definitions import options as module

    assert module.__doc__ is not None
    example = module.__doc__.partition("\n\n")[2].partition("\nIt is read here")[0]
    [document] = parse_documents(example)
    spec = document["spec"]
    assert set(spec) == set(PerformanceOptions.model_fields)
    with pytest.raises(LoadTestMalformed, match="exclude each other"):
        read_options(document)
    for name in ("stages", "ramp"):
        del spec[name]
    options = read_options(document)
    assert options.onLostWorker == "rerun"
    assert options.change.strip()


def test_stages_and_their_course() -> None:
    options = read(stages=[{"rate": 50, "durationSeconds": 60}, {"rate": 0, "durationSeconds": 5}])
    assert options.course == [Stage(rate=50, duration_s=60), Stage(rate=0, duration_s=5)]


def test_a_ramp_is_written_out() -> None:
    options = read(ramp={"from": 50, "to": 500, "steps": 10, "durationSeconds": 300})
    assert [stage.rate for stage in options.course] == [50 * step for step in range(1, 11)]
    assert {stage.duration_s for stage in options.course} == {30}
    down = read(ramp={"from": 90, "to": 30, "steps": 3, "durationSeconds": 6})
    assert [stage.rate for stage in down.course] == [90, 60, 30]


def test_objective_and_saturation_in_the_services_terms() -> None:
    options = read(
        saturation={"lowest": 50, "highest": 5000, "stepSeconds": 15, "precision": 0.1},
        objective={"p50Ms": 1, "p90Ms": 2.5, "p99Ms": 250, "errorRatio": None, "rateRatio": 0.9},
    )
    assert options.saturation is not None
    assert options.objective is not None
    assert options.saturation.bounds() == Saturation(
        lowest=50, highest=5000, step_duration_s=15, precision=0.1
    )
    assert options.objective.wanted() == Objective(
        p50_ms=1, p90_ms=2.5, p99_ms=250, error_ratio=None, rate_ratio=0.9
    )


def test_the_longest_search_lasts_a_day() -> None:
    bounds: dict[str, Any] = {"lowest": 1, "highest": 1_000_000, "precision": 0.005}
    fits = 86_400 // Saturation(lowest=1, highest=1_000_000, precision=0.005).most_steps
    read(saturation={**bounds, "stepSeconds": fits})
    assert "shorten the steps" in refused(saturation={**bounds, "stepSeconds": fits + 1})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"workers": -1}, "spec.workers: must be at least 0"),
        ({"workers": 257}, "spec.workers: must be at most 256"),
        ({"workers": True}, "spec.workers: must be a whole number"),
        ({"workers": "4"}, "spec.workers: must be a whole number"),
        ({"onLostWorker": "retry"}, "spec.onLostWorker: must be 'rerun' or 'report'"),
        ({"http2": "yes"}, "spec.http2: must be true or false"),
        ({"timeoutSeconds": 0}, "spec.timeoutSeconds: must be at least 0.001"),
        ({"timeoutSeconds": True}, "spec.timeoutSeconds: must be a number"),
        ({"targets": "http://a/"}, "spec.targets: must be a list"),
        ({"targets": [{"weight": 1}]}, "spec.targets[0].url: is missing"),
        ({"targets": [{"url": "http://a/", "weight": 0}]}, "spec.targets[0].weight: must be at"),
        ({"targets": [{"url": "u", "wight": 1}]}, "unknown field, did you mean weight?"),
        ({"targets": [{"url": "u"}] * 65}, "spec.targets: must have at most 64 entries"),
        ({"stages": [{"rate": -1, "durationSeconds": 1}]}, "spec.stages[0].rate: must be at least"),
        ({"stages": [{"rate": 1, "durationSeconds": 1}]}, "spec.stages[0]: the rate and the"),
        ({"stages": [{"rate": 5, "durationSeconds": 0.5}]}, "spec.stages[0].durationSeconds: must"),
        ({"stages": [{"rate": 5, "durationSeconds": 60_000}] * 2}, "longer than 86400 s together"),
        ({"stages": [{"rate": 5, "durationSeconds": 1}] * 257}, "must have at most 256 entries"),
        ({"ramp": {"from": 0, "to": 5, "durationSeconds": 60}}, "spec.ramp.from: must be above 0"),
        ({"ramp": {"first": 1, "to": 5, "durationSeconds": 60}}, "spec.ramp.from: is missing"),
        ({"ramp": {"from": 5, "to": 9, "steps": 20, "durationSeconds": 19}}, "a second or more"),
        ({"ramp": {"from": 1, "to": 9, "steps": 9, "durationSeconds": 9}}, "spec.ramp: the rate"),
        ({"saturation": {"lowest": 5, "highest": 5}}, "highest must be above lowest"),
        ({"saturation": {"lowest": 0.1, "highest": 5}}, "spec.saturation: the rate and the"),
        ({"saturation": {"lowest": 5, "highest": 9, "precision": 0}}, "precision: must be at"),
        ({"objective": {"errorRatio": 2}}, "spec.objective.errorRatio: must be at most 1"),
        ({"objective": {"p99": 2}}, "spec.objective.p99: unknown field, did you mean p99Ms?"),
        ({"objective": {"p99Ms": float("nan")}}, "spec.objective.p99Ms: must be"),
        ({"prometheus": "prometheus:9090"}, "spec.prometheus: must begin with http://"),
        ({"prometheus": "http://u:pw@prom/"}, "spec.prometheus: holds user information"),
        ({"prometheus": "http://prom/?a=b"}, "spec.prometheus: must be a base URL"),
        ({"service": "checkout"}, "spec.service: must be name.namespace"),
        ({"service": "a.b\n"}, "spec.service: must be name.namespace"),
        ({"baseline": "../a"}, "spec.baseline: must be a name"),
        ({"baseline": "a\n"}, "spec.baseline: must be a name"),
        ({"change": {"kind": "VirtualService"}}, "spec.change: must be text"),
        ({"change": "x" * 1_000_001}, "spec.change: must have at most 1000000 characters"),
        ({"threshold": 0}, "spec.threshold: must be above 0"),
        ({"settleSeconds": -1}, "spec.settleSeconds: must be at least 0"),
        ({"repeats": 11}, "spec.repeats: must be at most 10"),
        ({"furtherPairs": -1}, "spec.furtherPairs: must be at least 0"),
        ({"replaceBaseline": True}, "spec: replaceBaseline needs the name of a baseline"),
        ({"rollback": 1}, "spec.rollback: must be true or false"),
        ({"stage": []}, "spec.stage: unknown field, did you mean stages?"),
        ({"zzz": 1}, "spec.zzz: unknown field, there are workers, onLostWorker"),
        (
            {
                "stages": [{"rate": 5, "durationSeconds": 1}],
                "ramp": {"from": 5, "to": 9, "durationSeconds": 60},
            },
            "stages, ramp and saturation exclude each other",
        ),
    ],
)
def test_what_is_refused(spec: dict[str, Any], words: str) -> None:
    assert words in refused(**spec)


@pytest.mark.parametrize("spec", [[], "workers: 4", 7])
def test_a_spec_that_is_no_mapping(spec: Any) -> None:
    with pytest.raises(LoadTestMalformed, match="spec: must be a mapping"):
        read_options({**HEAD, "spec": spec})


def test_what_stands_beside_the_spec_is_not_dropped() -> None:
    with pytest.raises(LoadTestMalformed, match="belongs into it"):
        read_options({**HEAD, "spec": {}, "workers": 4})


def test_everything_is_told_at_once() -> None:
    told = refused(workers=-1, http2=1, objective={"p99": 1}, repeats=0).split("; ")
    assert len(told) == 4


def test_values_are_not_told() -> None:
    canary = "canary-5b1e"
    told = refused(
        workers=canary,
        onLostWorker=canary,
        targets=[{"url": 1, "weight": canary}],
        prometheus=f"http://{canary}@a/?{canary}",
        service=f"{canary}!",
        baseline=f"{canary} {canary}",
        **{f"{canary} {canary}": 1},
    )
    assert canary not in told
    assert canary not in repr(read(change=canary))
