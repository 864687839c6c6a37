"""The decisions of a rollout: every order of answers, wishes and failures has one of the ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.bus.envelopes import MAX_BODY_BYTES
from services.chassis.errors import (
    ClusterUnreachable,
    DisruptionDenied,
    GateBroken,
    NotReadyInTime,
    OperationCancelled,
)
from services.chassis.messages import ErrorReport
from services.lifecycle.rollouts.deciding import MOST_TRIES, Seen, Verdict, decide
from services.lifecycle.rollouts.options import RolloutOptions
from services.lifecycle.rollouts.records import (
    MOST_CLUSTERS,
    Fate,
    PartRecord,
    RolloutPart,
    RolloutRecord,
    RolloutStep,
    Stage,
    WishRecord,
)

_T0 = datetime(2026, 11, 29, 12, 0, tzinfo=timezone.utc)
_EXPIRES = _T0 + timedelta(days=5)
_FORWARD = (
    RolloutStep.PRECHECK,
    RolloutStep.CANARY,
    RolloutStep.MOVE,
    RolloutStep.SWITCH,
    RolloutStep.REMOVE,
)


class Fleet:
    """Clusters that answer steps, and the record that decisions make."""

    def __init__(self, count: int, names: Sequence[str] = (), **spec: object) -> None:
        self.options = RolloutOptions.model_validate({"version": "1.31.0", **spec}, strict=True)
        names = names or [f"c{number}" for number in range(count)]
        self.record = RolloutRecord(
            rollout="r",
            version="1.31.0",
            begun=_T0,
            since=_T0,
            parts={name: RolloutPart(cluster=name, name=name) for name in names},
        )
        self.parts = {
            name: PartRecord(rollout="r", cluster=name, expires=_EXPIRES) for name in names
        }
        self.ended: dict[str, ErrorReport | None] = {}
        self.wish = WishRecord()
        self.broken: dict[str, str] = {}
        self.cancelled: frozenset[str] = frozenset()
        self.now = _T0
        self.repeats = 0
        self.largest = 0
        """Bytes that the record has had at most."""
        self.given: list[tuple[str, RolloutStep, int]] = []
        self.notes: list[str] = []

    def decide(self) -> None:
        """Decisions until there is nothing left to decide, which is soon."""
        for _ in range(5):
            if not self._decides():
                return
        raise AssertionError(f"one decision leads to the next: {self.record}")

    def _decides(self) -> bool:
        before = self.record
        seen = Seen(
            now=self.now,
            parts=self.parts,
            ended=self.ended,
            cancelled=self.cancelled,
            wish=self.wish,
            verdict=Verdict(self.broken),
        )
        self.record = decide(before, self.options, seen)
        self.cancelled = frozenset()
        for name, part in self.record.parts.items():
            former = before.parts[name]
            if part.number != former.number:
                assert part.number == former.number + 1
                assert not former.is_open or self.parts[name].number == former.number
                assert part.step is not None
                assert former.again_at is None or former.again_at <= self.now
                self.given.append((name, part.step, part.tries))
        if self.record is before:
            return False
        self.notes += [note.summary for note in self.record.notes]
        assert len({note.number for note in self.record.notes}) == len(self.record.notes)
        self.largest = max(self.largest, len(self.record.model_dump_json()))
        return True

    @property
    def open(self) -> list[str]:
        return [name for name, part in self.record.parts.items() if part.is_open]

    def answer(
        self,
        name: str,
        error: ErrorReport | None = None,
        *,
        retryable: bool = False,
        left: int = 0,
    ) -> None:
        part = self.record.parts[name]
        if part.step is RolloutStep.END:
            self.ended[name] = None
            return
        update = {
            "number": part.number,
            "is_done": error is None,
            "error": error,
            "is_retryable": retryable,
            "from_revision": "1-30-3",
            "left": left
            if error is None and part.step in (RolloutStep.MOVE, RolloutStep.BACK)
            else 0,
        }
        if update["left"]:
            self.repeats += 1
        self.parts[name] = self.parts[name].model_copy(update=update)

    def run(self, *, failing: dict[tuple[str, RolloutStep], ErrorReport] | None = None) -> None:
        """To the end, each step answered in turn."""
        for _ in range(1000):
            self.decide()
            if self.record.is_over:
                return
            for name in self.open:
                step = self.record.parts[name].step
                assert step is not None
                self.answer(name, (failing or {}).get((name, step)))
            self.now += timedelta(seconds=30)
        raise AssertionError(f"no end: {self.record}")

    def until(self, stage: Stage) -> None:
        """To the stage, each step answered in turn."""
        for _ in range(100):
            self.decide()
            if self.record.stage is stage:
                return
            for name in self.open:
                self.answer(name)
            self.now += timedelta(seconds=1)
        raise AssertionError(f"no {stage}: {self.record}")

    def fates(self) -> dict[str, Fate | None]:
        return {name: part.fate for name, part in self.record.parts.items()}

    def steps(self, name: str) -> list[RolloutStep]:
        return [step for cluster, step, _ in self.given if cluster == name]


def _error() -> ErrorReport:
    return ErrorReport.of(NotReadyInTime("not ready"))


def test_all_goes_well_in_waves() -> None:
    fleet = Fleet(8, waves=[{"clusters": 1}, {"clusters": 3}])
    fleet.run()
    assert [len(wave) for wave in fleet.record.waves] == [1, 3, 4]
    assert set(fleet.fates().values()) == {Fate.DONE}
    for name in fleet.parts:
        assert fleet.steps(name) == [*_FORWARD, RolloutStep.END]
    # The second wave opens after the first one is done.
    places = [name for name, step, _ in fleet.given if step is RolloutStep.PRECHECK]
    assert fleet.given.index((fleet.record.waves[0][0], RolloutStep.REMOVE, 1)) < fleet.given.index(
        (places[1], RolloutStep.PRECHECK, 1)
    )


def test_a_gate_that_fails_brings_its_wave_back_and_leaves_the_rest() -> None:
    fleet = Fleet(8, waves=[{"clusters": 1}, {"clusters": 3}], gate={"withinSeconds": 60})
    first, second, third = ["c0"], ["c1", "c2", "c3"], ["c4", "c5", "c6", "c7"]
    fleet.broken = {"c2": "errors at 7 %"}
    fleet.run()
    assert {name for name, fate in fleet.fates().items() if fate is Fate.DONE} == set(first)
    assert {n for n, fate in fleet.fates().items() if fate is Fate.ROLLED_BACK} == set(second)
    assert {name for name, fate in fleet.fates().items() if fate is Fate.LEFT} == set(third)
    assert fleet.record.reason is not None
    assert fleet.record.reason.code == "MB-4016"
    assert "c2: errors at 7 %" in fleet.record.reason.summary
    for name in second:
        assert RolloutStep.SWITCH not in fleet.steps(name)
        assert fleet.steps(name)[-2:] == [RolloutStep.BACK, RolloutStep.END]
    for name in third:
        assert fleet.steps(name) == [RolloutStep.END]


def test_a_gate_that_is_broken_for_a_moment_stops_nothing() -> None:
    fleet = Fleet(1, gate={"withinSeconds": 120, "windowSeconds": 60}, soakSeconds=0)
    while fleet.record.stage is not Stage.GATE:
        fleet.decide()
        for name in fleet.open:
            fleet.answer(name)
    fleet.broken = {"c0": "slow"}
    fleet.decide()
    fleet.now += timedelta(seconds=90)
    fleet.decide()
    fleet.broken = {}
    fleet.run()
    assert fleet.fates() == {"c0": Fate.DONE}
    assert "The gate holds again" in fleet.notes


def test_a_step_that_fails_for_good_stops_the_rollout() -> None:
    fleet = Fleet(2, waves=[{}])
    fleet.run(failing={("c0", RolloutStep.CANARY): _error()})
    assert fleet.fates() == {"c0": Fate.ROLLED_BACK, "c1": Fate.ROLLED_BACK}


def test_a_precheck_that_fails_leaves_everything_as_it_was() -> None:
    fleet = Fleet(2, waves=[{}])
    fleet.run(failing={("c0", RolloutStep.PRECHECK): _error()})
    assert fleet.fates() == {"c0": Fate.LEFT, "c1": Fate.LEFT}
    assert all(step in (RolloutStep.PRECHECK, RolloutStep.END) for _, step, _ in fleet.given)


def test_a_move_goes_on_as_long_as_namespaces_are_left() -> None:
    fleet = Fleet(1)
    while RolloutStep.MOVE not in fleet.steps("c0"):
        for name in fleet.open:
            fleet.answer(name)
        fleet.decide()
    for left in (2, 1):
        fleet.answer("c0", left=left)
        fleet.decide()
        assert fleet.record.stage is Stage.MOVE
    fleet.wish = WishRecord(is_paused=True)
    fleet.answer("c0", left=1)
    fleet.decide()
    assert fleet.steps("c0").count(RolloutStep.MOVE) == 3
    assert fleet.open == []
    fleet.wish = WishRecord()
    fleet.run()
    assert fleet.steps("c0").count(RolloutStep.MOVE) == 4
    assert fleet.fates() == {"c0": Fate.DONE}


def test_what_may_pass_is_tried_again() -> None:
    fleet = Fleet(1)
    fleet.decide()
    for _ in range(MOST_TRIES - 1):
        fleet.answer("c0", ErrorReport.of(ClusterUnreachable("away")), retryable=True)
        fleet.decide()
    assert [step for _, step, _ in fleet.given] == [RolloutStep.PRECHECK] * MOST_TRIES
    fleet.answer("c0")
    fleet.run()
    assert fleet.fates() == {"c0": Fate.DONE}


def test_a_paused_rollout_begins_nothing() -> None:
    fleet = Fleet(2)
    fleet.wish = WishRecord(is_paused=True)
    for _ in range(5):
        fleet.decide()
        fleet.now += timedelta(hours=1)
    assert fleet.given == []
    fleet.wish = WishRecord()
    fleet.run()
    assert set(fleet.fates().values()) == {Fate.DONE}


def test_one_cluster_goes_back_and_the_others_go_on() -> None:
    fleet = Fleet(3, waves=[{}])
    while RolloutStep.MOVE not in fleet.steps("c1"):
        for name in fleet.open:
            fleet.answer(name)
        fleet.decide()
    fleet.wish = WishRecord(back=["c1"])
    fleet.run()
    assert fleet.fates() == {"c0": Fate.DONE, "c1": Fate.ROLLED_BACK, "c2": Fate.DONE}
    assert fleet.record.reason is None


def test_old_revisions_that_go_last_let_all_go_back() -> None:
    fleet = Fleet(2, removeOld="afterAll", soakSeconds=0)
    while fleet.record.wave == 0:
        fleet.decide()
        for name in fleet.open:
            fleet.answer(name)
        fleet.now += timedelta(seconds=30)
    assert RolloutStep.REMOVE not in fleet.steps("c0")
    fleet.wish = WishRecord(back=["*"])
    fleet.run()
    assert fleet.fates()["c0"] is Fate.ROLLED_BACK


def test_old_revisions_go_last() -> None:
    fleet = Fleet(3, removeOld="afterAll")
    fleet.run()
    assert set(fleet.fates().values()) == {Fate.DONE}
    kinds = [step for _, step, _ in fleet.given if step is not RolloutStep.END]
    assert kinds[-3:] == [RolloutStep.REMOVE] * 3


def test_a_manifest_has_a_shorter_course() -> None:
    fleet = Fleet(3, what="manifest", waves=[{"clusters": 1}, {"clusters": 1}])
    while fleet.record.wave < 1:
        fleet.decide()
        for name in fleet.open:
            fleet.answer(name)
        fleet.now += timedelta(seconds=30)
    fleet.run(failing={("c1", RolloutStep.APPLY): _error()})
    assert fleet.fates() == {"c0": Fate.DONE, "c1": Fate.ROLLED_BACK, "c2": Fate.LEFT}
    assert fleet.steps("c0") == [RolloutStep.PRECHECK, RolloutStep.APPLY, RolloutStep.END]
    assert fleet.steps("c1") == [
        RolloutStep.PRECHECK,
        RolloutStep.APPLY,
        RolloutStep.BACK,
        RolloutStep.END,
    ]


@pytest.mark.parametrize(
    ("what", "steps"),
    [
        ("istio", ["precheck", "baseline", "canary", "move", "prove", "switch", "remove"]),
        ("manifest", ["precheck", "baseline", "apply", "prove"]),
    ],
)
def test_a_performance_gate_measures_before_and_after(what: str, steps: list[str]) -> None:
    fleet = Fleet(2, what=what, gate={"performance": {"test": "name: checkout"}})
    fleet.run()
    assert set(fleet.fates().values()) == {Fate.DONE}
    assert fleet.steps("c0") == [*(RolloutStep(step) for step in steps), RolloutStep.END]


def test_load_tests_that_do_worse_bring_their_wave_back() -> None:
    error = ErrorReport.of(GateBroken("load tests do worse than before"))
    fleet = Fleet(2, gate={"performance": {"test": "name: checkout"}})
    fleet.run(failing={("c0", RolloutStep.PROVE): error})
    assert fleet.fates() == {"c0": Fate.ROLLED_BACK, "c1": Fate.LEFT}
    fleet = Fleet(2, gate={"performance": {"test": "name: checkout"}})
    fleet.run(failing={("c0", RolloutStep.BASELINE): error})
    assert fleet.fates() == {"c0": Fate.LEFT, "c1": Fate.LEFT}


def test_a_cluster_that_never_came_takes_no_part() -> None:
    fleet = Fleet(3)
    del fleet.parts["c0"]
    fleet.decide()
    assert fleet.record.stage is Stage.GATHERING
    fleet.ended["c0"] = _error()
    fleet.run()
    assert fleet.fates() == {"c0": Fate.FAILED, "c1": Fate.DONE, "c2": Fate.DONE}


def test_a_removal_that_fails_stops_the_rollout_and_brings_nothing_back() -> None:
    fleet = Fleet(3)
    fleet.run(failing={("c0", RolloutStep.REMOVE): _error()})
    assert fleet.fates() == {"c0": Fate.FAILED, "c1": Fate.LEFT, "c2": Fate.LEFT}
    assert RolloutStep.BACK not in [step for _, step, _ in fleet.given]


def test_a_cancelled_operation_aborts_the_rollout() -> None:
    fleet = Fleet(2)
    fleet.decide()
    fleet.answer("c0")
    fleet.decide()
    fleet.cancelled = frozenset({"c0"})
    fleet.decide()
    assert fleet.record.reason is not None
    fleet.run()
    assert fleet.fates() == {"c0": Fate.ROLLED_BACK, "c1": Fate.LEFT}


@pytest.mark.parametrize("error", [DisruptionDenied("no"), OperationCancelled("on request")])
def test_a_way_back_that_is_held_up_is_tried_again(error: Exception) -> None:
    fleet = Fleet(1, backTimeoutSeconds=600)
    fleet.until(Stage.GATE)
    fleet.wish = WishRecord(aborts=True)
    fleet.decide()
    for _ in range(3):
        assert fleet.open == ["c0"]
        fleet.answer("c0", ErrorReport.of(error))
        fleet.decide()
        assert fleet.open == []
        fleet.now += timedelta(seconds=60)
        fleet.decide()
    assert sum("does not get back yet" in note for note in fleet.notes) == 3
    fleet.run()
    assert fleet.fates() == {"c0": Fate.ROLLED_BACK}


def test_a_way_back_that_is_held_up_for_too_long_is_given_up() -> None:
    fleet = Fleet(1, backTimeoutSeconds=600)
    fleet.until(Stage.GATE)
    fleet.wish = WishRecord(aborts=True)
    began = fleet.now
    fleet.run(failing={("c0", RolloutStep.BACK): ErrorReport.of(DisruptionDenied("no"))})
    assert fleet.fates() == {"c0": Fate.FAILED}
    assert timedelta(seconds=600) <= fleet.now - began < timedelta(seconds=1200)
    reason = fleet.record.parts["c0"].reason
    assert reason is not None
    assert reason.code == DisruptionDenied.code


def test_a_way_back_that_gets_on_has_its_time_anew() -> None:
    fleet = Fleet(1, backTimeoutSeconds=100)
    fleet.until(Stage.GATE)
    fleet.wish = WishRecord(aborts=True)
    fleet.decide()
    for _ in range(4):
        fleet.answer("c0", ErrorReport.of(DisruptionDenied("no")))
        fleet.decide()
        fleet.now += timedelta(seconds=60)
        fleet.decide()
        fleet.answer("c0", left=1)
        fleet.decide()
    fleet.run()
    assert fleet.fates() == {"c0": Fate.ROLLED_BACK}


def test_a_cluster_that_leaves_after_its_wave_is_not_done_in_the_middle() -> None:
    fleet = Fleet(2, removeOld="afterAll", soakSeconds=0)
    while RolloutStep.CANARY not in fleet.steps("c1"):
        fleet.decide()
        for name in fleet.open:
            fleet.answer(name)
        fleet.now += timedelta(seconds=30)
    fleet.wish = WishRecord(back=["c0"])
    fleet.decide()
    assert fleet.record.parts["c0"].step is RolloutStep.BACK
    fleet.wish = WishRecord(back=["c0"], aborts=True)
    fleet.decide()
    assert fleet.fates()["c0"] is None
    fleet.run()
    assert fleet.fates() == {"c0": Fate.ROLLED_BACK, "c1": Fate.ROLLED_BACK}


@pytest.mark.parametrize("stage", [Stage.GATE, Stage.SOAK])
def test_a_pause_is_no_part_of_the_soak(stage: Stage) -> None:
    fleet = Fleet(1, gate={"windowSeconds": 60}, soakSeconds=60)
    fleet.until(stage)
    fleet.wish = WishRecord(is_paused=True)
    fleet.decide()
    fleet.now += timedelta(hours=1)
    fleet.decide()
    fleet.wish = WishRecord()
    fleet.decide()
    fleet.now += timedelta(seconds=50)
    fleet.decide()
    assert fleet.record.stage is stage
    fleet.now += timedelta(seconds=20)
    fleet.decide()
    assert fleet.record.stage is not stage


def test_a_pause_does_not_break_a_gate() -> None:
    fleet = Fleet(1, gate={"withinSeconds": 60})
    fleet.until(Stage.GATE)
    fleet.broken = {"c0": "slow"}
    fleet.decide()
    fleet.wish = WishRecord(is_paused=True)
    fleet.decide()
    fleet.now += timedelta(hours=1)
    fleet.wish = WishRecord()
    fleet.decide()
    assert fleet.record.reason is None
    fleet.now += timedelta(seconds=61)
    fleet.decide()
    assert fleet.record.stage is Stage.BACK


def test_a_rollout_that_takes_too_long_goes_back_in_time() -> None:
    fleet = Fleet(2)
    fleet.until(Stage.GATE)
    fleet.wish = WishRecord(is_paused=True)
    fleet.decide()
    fleet.now = _EXPIRES - timedelta(hours=4)
    fleet.decide()
    assert fleet.record.reason is None
    fleet.now = _EXPIRES - timedelta(hours=3)
    fleet.run()
    assert fleet.now < _EXPIRES
    assert fleet.fates() == {"c0": Fate.ROLLED_BACK, "c1": Fate.LEFT}
    assert fleet.record.reason is not None
    assert fleet.record.reason.code == "MB-2007"


def test_no_secret_gets_into_the_record() -> None:
    fleet = Fleet(2, waves=[{}])
    fleet.until(Stage.CANARY)
    secret = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZXNoIn0.c2lnbmF0dXJl"
    error = ErrorReport.of(NotReadyInTime("pull", cause=f"token {secret}", remedy=secret))
    fleet.run(failing={("c0", RolloutStep.CANARY): error})
    assert fleet.record.reason is not None
    assert secret not in fleet.record.model_dump_json()
    assert "token [redacted]" in fleet.record.model_dump_json()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("count", [300, MOST_CLUSTERS])
def test_the_record_of_a_large_fleet_fits_into_a_message(count: int, fails: bool) -> None:
    names = [f"{number:04}{'n' * 60}" for number in range(count)]
    fleet = Fleet(count, names, waves=[{}], backTimeoutSeconds=20)
    fleet.until(Stage.MOVE)
    words = "a reason that nobody can read to its end, " * 100
    error = ErrorReport.of(NotReadyInTime(words, cause=words, remedy=words, subject=words))
    for name in fleet.open:
        fleet.answer(name, error if fails else None)
        many = [f"{number:02}{'s' * 61}" for number in range(60)]
        fleet.parts[name] = fleet.parts[name].model_copy(update={"namespaces": many})
    fleet.decide()
    fleet.broken = dict.fromkeys(names, words)
    fleet.run(failing={(name, RolloutStep.BACK): error for name in names if fails})
    assert set(fleet.fates().values()) == {Fate.FAILED if fails else Fate.ROLLED_BACK}
    assert fleet.largest < MAX_BODY_BYTES


_WAVES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"clusters": st.integers(1, 3)}),
        st.fixed_dictionaries({"share": st.floats(1, 100)}),
    ),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(1, 5),
    waves=_WAVES,
    removal=st.sampled_from(["afterWave", "afterAll"]),
    data=st.data(),
)
def test_any_order_of_answers_has_an_end(
    count: int, waves: list[dict[str, object]], removal: str, data: st.DataObject
) -> None:
    fleet = Fleet(count, waves=waves, removeOld=removal, soakSeconds=60)
    names = list(fleet.parts)
    for _ in range(60):
        fleet.decide()
        if fleet.record.is_over:
            break
        action = data.draw(
            st.sampled_from(
                [
                    "answer",
                    "answer",
                    "answer",
                    "fail",
                    "away",
                    "time",
                    "time",
                    "gate",
                    "wish",
                    "end",
                ]
            )
        )
        open_now = fleet.open
        if action in ("answer", "fail", "away") and open_now:
            name = data.draw(st.sampled_from(open_now))
            error = None if action == "answer" else _error()
            left = data.draw(st.integers(0, 1))
            fleet.answer(name, error, retryable=action == "away", left=left)
        elif action == "time":
            fleet.now += timedelta(seconds=data.draw(st.integers(1, 200)))
        elif action == "gate":
            fleet.broken = data.draw(
                st.dictionaries(st.sampled_from(names), st.just("slow"), max_size=1)
            )
        elif action == "wish":
            fleet.wish = WishRecord(
                is_paused=data.draw(st.booleans()),
                aborts=fleet.wish.aborts or data.draw(st.booleans()),
                back=data.draw(st.lists(st.sampled_from([*names, "*"]), max_size=1)),
            )
        elif action == "end" and data.draw(st.integers(0, 9)) == 0:
            fleet.ended[data.draw(st.sampled_from(names))] = _error()
    fleet.wish = fleet.wish.model_copy(update={"is_paused": False})
    fleet.broken = {}
    fleet.run()
    _check(fleet)


def _check(fleet: Fleet) -> None:
    """Each cluster has one end, and no step came twice or out of its order."""
    counted = Counter(fleet.given)
    assert all(times <= 1 + fleet.repeats for times in counted.values()), counted
    for name, part in fleet.record.parts.items():
        assert part.fate is not None
        assert part.is_told
        tried = [(step, tries) for cluster, step, tries in fleet.given if cluster == name]
        steps = list(dict.fromkeys(step for step, _ in tried))
        forward = [step for step in steps if step in _FORWARD]
        assert forward == list(_FORWARD[: len(forward)])
        assert all(tries <= MOST_TRIES for step, tries in tried if step is not RolloutStep.BACK)
        if RolloutStep.BACK in steps:
            assert RolloutStep.CANARY in steps, "nothing was changed"
            assert RolloutStep.REMOVE not in steps, "there is nothing to go back to"
            assert steps.index(RolloutStep.BACK) > steps.index(forward[-1])
        if part.fate is Fate.ROLLED_BACK:
            assert RolloutStep.BACK in steps
        if part.fate is Fate.LEFT:
            assert RolloutStep.CANARY not in steps
        if fleet.record.reason is None:
            assert part.fate in (Fate.DONE, Fate.ROLLED_BACK, Fate.FAILED)


def test_clusters_tell_their_own_labels_and_the_request_wins() -> None:
    labels = {"c1": {"region": "us"}}
    fleet = Fleet(4, waves=[{"labels": {"region": "eu"}}], labels=labels)
    for name in ("c1", "c2", "c3"):
        told = {"labels": {"region": "eu"}}
        fleet.parts[name] = fleet.parts[name].model_copy(update=told)
    fleet.decide()
    assert fleet.record.waves == [["c2", "c3"], ["c0", "c1"]]


@pytest.mark.parametrize(
    ("waves", "sizes"),
    [
        ([], [1, 7]),
        ([{"clusters": 1}, {"share": 25}, {}], [1, 2, 5]),
        ([{"names": ["c7"]}, {"labels": {"region": "eu"}}], [1, 2, 5]),
        ([{"names": ["nobody"]}], [8]),
        ([{"share": 1}, {"share": 99}], [1, 7]),
    ],
)
def test_waves_take_by_number_share_name_and_label(
    waves: list[dict[str, object]], sizes: list[int]
) -> None:
    labels = {"c1": {"region": "eu"}, "c2": {"region": "eu", "tier": "1"}}
    fleet = Fleet(8, waves=waves, labels=labels)
    fleet.decide()
    assert [len(wave) for wave in fleet.record.waves] == sizes
    assert sorted(c for wave in fleet.record.waves for c in wave) == sorted(fleet.parts)
