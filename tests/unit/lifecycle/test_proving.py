"""The load tests of a rollout: asked for once, waited for, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.chassis.errors import GateBroken, OperationCancelled, RunUnknown
from services.lifecycle.manifests.work import Work
from services.lifecycle.rollouts import proving
from services.lifecycle.rollouts.options import PerformanceGateOptions
from services.lifecycle.rollouts.proving import LoadTests


@dataclass(slots=True)
class Perf:
    """Answers as perf does: a run takes two looks."""

    states: list[str] = field(default_factory=lambda: ["running", "done"])
    verdict: str = "same"
    runs: dict[str, list[str]] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    slow: set[str] = field(default_factory=set)
    """Sides whose runs break the objective."""
    compared: dict[str, Any] = field(default_factory=dict)

    async def ask(self, verb: str, question: Mapping[str, Any]) -> Any:
        match verb:
            case "run":
                self.tests.append(question["test"])
                self.runs[question["run"]] = list(self.states)
                return {"run": question["run"]}
            case "status":
                left = self.runs.get(question["run"])
                if left is None:
                    raise RunUnknown("no such run")
                state = left.pop(0) if len(left) > 1 else left[0]
                return {"state": state, "error": {"summary": "p99 is too long"}}
            case "results":
                holds = not any(side in question["run"] for side in self.slow)
                return {"stages": [{"holds": None}, {"holds": holds, "reason": "p90 is 500 ms"}]}
            case "compare":
                self.compared = dict(question)
                return {"verdict": self.verdict, "told": f"{self.verdict}\n p99"}
            case "cancel":
                self.cancelled.append(question["run"])
                return {}
        raise AssertionError(verb)


@dataclass(slots=True)
class Told:
    """A worker's fence and progress, as far as load tests use them."""

    notes: list[str] = field(default_factory=list)
    stops_after: int = 1000

    def check(self) -> None:
        self.stops_after -= 1
        if self.stops_after < 0:
            raise OperationCancelled("on request")

    def note(self, summary: str, details: str = "") -> None:
        self.notes.append(summary)

    def warn(self, summary: str, details: str = "") -> None:
        self.notes.append(summary)


def load_tests(perf: Perf, told: Told, *, runs: int = 2) -> LoadTests:
    command = SimpleNamespace(cluster="abcdefghijklmnop", cluster_name="shop-eu")
    work = SimpleNamespace(command=command, fence=told, progress=told)
    options = PerformanceGateOptions(test="url: http://{cluster}/", runs=runs)
    return LoadTests(ask=perf.ask, work=cast(Work, work), options=options, rollout="r")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_LOOK_EVERY_S", 0.0)


async def test_runs_are_asked_for_once_and_compared() -> None:
    perf, told = Perf(), Told()
    await load_tests(perf, told).before()
    await load_tests(perf, told).before()
    await load_tests(perf, told).after()
    assert perf.tests == ["url: http://shop-eu/"] * 4
    of = "r-abcdefghijkl"
    assert perf.compared == {
        "before": [f"{of}-before-1", f"{of}-before-2"],
        "after": [f"{of}-after-1", f"{of}-after-2"],
        "threshold": 0.1,
    }
    assert told.notes[-1] == "Load tests: same p99"


async def test_what_is_proven_to_be_worse_breaks_the_gate() -> None:
    perf = Perf(verdict="regression")
    tests = load_tests(perf, Told())
    await tests.before()
    with pytest.raises(GateBroken, match="worse than before: regression p99"):
        await tests.after()


async def test_an_objective_that_holds_no_more_breaks_the_gate() -> None:
    perf = Perf(slow={"after"})
    tests = load_tests(perf, Told())
    await tests.before()
    with pytest.raises(GateBroken, match="does not hold any more: p90 is 500 ms"):
        await tests.after()


async def test_an_objective_that_never_held_is_told() -> None:
    perf, told = Perf(slow={"before", "after"}), Told()
    await load_tests(perf, told).before()
    assert "does not hold before either" in told.notes[-1]
    await load_tests(perf, told).after()


@pytest.mark.parametrize("state", ["failed", "cancelled"])
async def test_a_run_that_fails_breaks_the_gate(state: str) -> None:
    perf = Perf(states=["running", state])
    with pytest.raises(GateBroken, match=f"{state}: p99 is too long"):
        await load_tests(perf, Told()).before()
    assert len(perf.runs) == 1


async def test_who_cancels_a_rollout_ends_its_load() -> None:
    perf = Perf(states=["running"])
    with pytest.raises(OperationCancelled):
        await load_tests(perf, Told(stops_after=3)).before()
    assert perf.cancelled == ["r-abcdefghijkl-before-1"]


async def test_a_run_that_does_not_end_breaks_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_LONGEST", proving._LONGEST * 0)
    with pytest.raises(GateBroken, match="has not ended"):
        await load_tests(Perf(), Told()).before()
