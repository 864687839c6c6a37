"""`Drifts`: suspicion, confirmation, telling, healing."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.chassis.errors import BusUnavailable
from services.chassis.kube.objects import KubeObject
from services.topology.cluster.objects import Key
from services.topology.drift import watching
from services.topology.drift.watching import Drifts
from tests.unit.topology.drift.worlds import (
    HTTP_GONE,
    KEY,
    KIND,
    ROUTE,
    ROUTE_FIELDS,
    T1,
    World,
    edited,
    entry,
    intent,
    live,
    own,
    route,
    watched,
)

AS_APPLIED = live(ROUTE, own(ROUTE_FIELDS))
KEPT = intent(ROUTE, ROUTE_FIELDS)
SPEC = {"f:spec": ROUTE_FIELDS["f:spec"]}
UNLABELLED = live(route(team=None), own(SPEC))
ID = "networking.istio.io/VirtualService/shop/reviews"


@pytest.fixture
def world() -> World:
    return World(kept={KEY: KEPT}, there={KEY: AS_APPLIED})


async def intended(drifts: Drifts, world: World) -> None:
    """The intent is known and its object was looked at."""
    drifts.intended(KEY, world.kept[KEY])
    before = world.lookups
    await world.until(lambda: world.lookups > before)


async def test_an_edit_is_told_and_ends_when_it_is_taken_back(world: World) -> None:
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, edited())
        await world.until(lambda: world.told)
        assert world.told[0][0] == ID
        assert world.last["object"] == {"kind": KIND, "namespace": "shop", "name": "reviews"}
        assert world.last["kind"] == "changed"
        assert world.last["manager"] == "kubectl-edit"
        assert world.last["operation"] == "Update"
        assert world.last["time"] == T1
        assert world.last["intent"]["operation"] == "op-1"
        assert world.last["mode"] == "report"
        assert world.last["healing"] == ""
        assert [(c["path"], c["wanted"], c["found"]) for c in world.last["changes"]] == [
            ("spec.http[0].route[0].weight", 90, 80)
        ]
        assert list(drifts.items()) == [ID]
        drifts.saw(KIND, AS_APPLIED)
        await world.until(lambda: len(world.told) == 2)
        assert world.told[1] == (ID, None)
        assert drifts.items() == {}
        assert world.healed == []


async def test_what_a_first_look_does_not_find_is_looked_for_again(world: World) -> None:
    world.there.pop(KEY)
    async with watched(world, patience_s=0.05) as drifts:
        await intended(drifts, world)
        assert world.told == []
        world.there[KEY] = AS_APPLIED
        before = world.lookups
        await world.until(lambda: world.lookups > before)
        assert world.told == []


async def test_what_is_not_found_twice_is_gone(world: World) -> None:
    world.there.pop(KEY)
    async with watched(world, patience_s=0.05) as drifts:
        drifts.intended(KEY, KEPT)
        await world.until(lambda: world.told)
        assert world.last["kind"] == "deleted"
        assert world.lookups >= 2


async def test_what_is_as_applied_costs_no_request(world: World) -> None:
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, AS_APPLIED)
        other = live(ROUTE | {"metadata": {"name": "x", "namespace": "shop"}})
        drifts.saw(KIND, other)
        drifts.gone(KIND, other)
        # The next look answers for those before it.
        drifts.saw(KIND, edited())
        await world.until(lambda: world.told)
        assert (world.reads, world.lookups) == (1, 0)
        assert drifts.kinds() == {KEY}


async def test_the_same_drift_is_told_once(world: World) -> None:
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        for number in (1, 2, 3):
            drifts.saw(KIND, edited(version=f"2{number}"))
            await world.until(partial(world.has_read, number))
        drifts.saw(KIND, edited(70, version="23"))
        await world.until(lambda: world.told and world.last["changes"][0]["found"] == 70)
        assert len(world.told) == 2


async def test_a_deletion_is_told_with_the_intent_still_there_only(world: World) -> None:
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.gone(KIND, AS_APPLIED)
        await world.until(lambda: world.told)
        assert world.last["kind"] == "deleted"
        assert world.last["changes"] == []
        drifts.intended(KEY, None)
        assert world.told[-1] == (ID, None)
        assert drifts.kinds() == frozenset()


async def test_our_own_deletion_is_no_drift(world: World) -> None:
    """Lifecycle forgets first, but that word may come later than the watch's."""
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        del world.kept[KEY]
        drifts.gone(KIND, AS_APPLIED)
        await world.until(lambda: not drifts.kinds())
        assert world.told == []


async def test_the_end_of_an_older_object_of_that_name_is_no_drift(world: World) -> None:
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.gone(KIND, live(ROUTE, uid="u0"))
        await world.until(lambda: world.lookups)
    assert world.told == []


async def test_our_own_later_apply_waits_for_its_intent(world: World) -> None:
    again = live(route(team=None), own(SPEC, time=T1))
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, again)
        await world.until(lambda: world.reads)
        renewed = intent(route(team=None), SPEC, time=T1, operation="op-2", resource_version="20")
        world.kept[KEY], world.there[KEY] = renewed, again
        await intended(drifts, world)
        assert world.told == []
        # And is measured by it from then on.
        drifts.saw(KIND, live(route(team=None, weight=1), own({}, time=T1), entry("x", SPEC)))
        await world.until(lambda: world.told)
        assert world.last["intent"]["operation"] == "op-2"


async def test_within_a_second_a_suspicion_waits_for_the_intent(world: World) -> None:
    world.kept[KEY] = intent(ROUTE, ROUTE_FIELDS, age=timedelta())
    world.there[KEY] = UNLABELLED
    async with watched(world) as drifts:
        drifts.intended(KEY, world.kept[KEY])
        drifts.saw(KIND, UNLABELLED)
        await world.until(lambda: world.reads == 1)
        world.kept[KEY] = intent(route(team=None), SPEC, operation="op-2")
        await world.until(lambda: world.reads == 2)
    assert world.told == []


async def test_within_a_second_a_suspicion_is_told_in_the_end(world: World) -> None:
    world.kept[KEY] = intent(ROUTE, ROUTE_FIELDS, age=timedelta())
    world.there[KEY] = UNLABELLED
    async with watched(world) as drifts:
        drifts.intended(KEY, world.kept[KEY])
        drifts.saw(KIND, UNLABELLED)
        await world.until(lambda: world.told)
        assert world.reads == 2
        assert world.last["kind"] == "removed"


async def test_what_is_put_right_while_it_is_looked_at_is_not_told_for_good(world: World) -> None:
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)

        def put_right() -> None:
            world.on_read = lambda: None
            drifts.saw(KIND, live(ROUTE, own(ROUTE_FIELDS), version="21"))

        world.on_read = put_right
        drifts.saw(KIND, edited())
        await world.until(lambda: world.reads == 2)
    assert world.told == []


async def test_an_old_intent_needs_no_wait(world: World) -> None:
    async with watched(world, patience_s=3600.0) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, UNLABELLED)
        await world.until(lambda: world.told)
        assert world.reads == 1


async def test_an_intent_that_comes_after_the_change_is_looked_into(world: World) -> None:
    world.there[KEY] = edited()
    async with watched(world) as drifts:
        drifts.saw(KIND, edited())
        drifts.intended(KEY, KEPT)
        await world.until(lambda: world.told)
        assert world.last["kind"] == "changed"


async def test_what_a_list_lacks_is_asked_for(world: World) -> None:
    async with watched(world) as drifts:
        await intended(drifts, world)
        drifts.relisted(KIND, [], namespace="elsewhere")
        drifts.relisted("/Service", [])
        drifts.relisted(KIND, [], namespace="shop")
        await world.until(lambda: world.lookups == 2)
        assert world.told == []
        del world.there[KEY]
        drifts.relisted(KIND, [])
        await world.until(lambda: world.told)
        assert world.last["kind"] == "deleted"
        drifts.relisted(KIND, [AS_APPLIED])
        await world.until(lambda: world.told[-1][1] is None)


async def test_an_object_on_its_way_out_is_left_alone(world: World) -> None:
    leaving = edited()
    leaving["metadata"]["deletionTimestamp"] = T1
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, leaving)
        drifts.gone(KIND, leaving)
        await world.until(lambda: world.told)
        assert [item["kind"] for _, item in world.told if item] == ["deleted"]


async def test_a_bus_that_does_not_answer_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.topology.drift.watching._AGAIN_S", 0.01)
    failures = 2

    def fail() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise BusUnavailable("no answer")

    world.on_read = fail
    async with watched(world) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, edited())
        await world.until(lambda: world.told)
        assert world.last["changes"][0]["found"] == 80


@pytest.mark.parametrize(
    ("default", "annotated", "is_told", "is_healed"),
    [
        ("report", "", True, False),
        ("report", "heal", True, True),
        ("heal", "", True, True),
        ("heal", "report", True, False),
        ("ignore", "report", True, False),
    ],
)
async def test_the_annotation_wins_over_the_setting(
    default: str, annotated: str, is_told: bool, is_healed: bool, world: World
) -> None:
    world.kept[KEY] = KEPT.model_copy(update={"mode": annotated})
    async with watched(world, mode=default) as drifts:
        drifts.intended(KEY, world.kept[KEY])
        drifts.saw(KIND, edited())
        await world.until(lambda: world.told and (world.healed or not is_healed))
    assert bool(world.told) is is_told
    assert bool(world.healed) is is_healed


@pytest.mark.parametrize(("default", "annotated"), [("ignore", ""), ("heal", "ignore")])
async def test_ignored_drift_is_not_told(default: str, annotated: str, world: World) -> None:
    world.kept[KEY] = KEPT.model_copy(update={"mode": annotated})
    async with watched(world, mode=default) as drifts:
        drifts.intended(KEY, world.kept[KEY])
        drifts.saw(KIND, edited())
        await world.until(lambda: world.reads)
        # A later look, over another object, comes after the end of the first.
        drifts.gone(KIND, AS_APPLIED)
        await world.until(lambda: world.reads == 2)
    assert world.told == []
    assert world.healed == []


def restored(number: int) -> KubeObject:
    return live(ROUTE, own(ROUTE_FIELDS, time=T1), version=str(100 + number))


async def test_a_repair_that_works_ends_the_drift(world: World) -> None:
    async with watched(world, mode="heal") as drifts:

        def heal(body: KubeObject) -> None:
            assert body == ROUTE
            drifts.saw(KIND, restored(0))

        world.on_heal = heal
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, edited())
        await world.until(lambda: world.told and world.told[-1][1] is None)
    assert len(world.healed) == 1


async def test_a_fight_is_given_up_and_taken_up_again_on_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.topology.drift.intents._FIRST_PAUSE_S", 0.01)
    world.there[KEY] = edited()
    async with watched(world, mode="heal", heal_attempts=3) as drifts:

        def fight(_body: KubeObject) -> None:
            drifts.saw(KIND, edited(version=str(100 + len(world.healed))))

        world.on_heal = fight
        drifts.intended(KEY, KEPT)
        with capture_logs() as logs:
            drifts.saw(KIND, edited())
            await world.until(lambda: world.told and world.last["healing"] == "given up")
        assert len(world.healed) == 3
        given_up = [line for line in logs if line["event"] == "healing_given_up"]
        assert [(line["log_level"], line["manager"]) for line in given_up] == [
            ("error", "kubectl-edit")
        ]
        assert not await drifts.heal("nobody")
        world.on_heal = lambda _body: drifts.saw(KIND, restored(1))
        assert await drifts.heal(ID)
        await world.until(lambda: world.told[-1][1] is None)
        assert len(world.healed) == 4


@pytest.mark.parametrize(("operation", "healed"), [("op-2", 2), ("op-1", 1)])
async def test_an_object_that_is_applied_anew_is_healed_again(
    operation: str, healed: int, world: World
) -> None:
    """But not one that was only put back."""
    world.there[KEY] = edited()
    async with watched(world, mode="heal", heal_attempts=1) as drifts:
        drifts.intended(KEY, KEPT)
        drifts.saw(KIND, edited())
        await world.until(lambda: world.told and world.last["healing"] == "given up")
        world.kept[KEY] = KEPT.model_copy(update={"operation": operation})
        reads = world.reads
        drifts.intended(KEY, world.kept[KEY])
        await world.until(lambda: world.reads > reads + (healed > 1))
    assert len(world.healed) == healed


async def test_a_repair_leaves_out_what_others_hold_by_right(world: World) -> None:
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}, "f:paused": {}}}
    obj = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "reviews", "namespace": "shop"},
        "spec": {"replicas": 1, "paused": False},
    }
    kept = intent(obj, fields, mode="heal")
    key = type(KEY)(kept.kind, "shop", "reviews")
    world.kept[key] = kept
    scaled = entry("kube-controller-manager", {"f:spec": {"f:replicas": {}}}, subresource="scale")
    paused = entry("kubectl", {"f:spec": {"f:paused": {}}})
    async with watched(world) as drifts:
        drifts.intended(key, kept)
        drifts.saw(
            kept.kind,
            live(obj | {"spec": {"replicas": 4, "paused": True}}, own({}), scaled, paused),
        )
        await world.until(lambda: world.healed)
    assert world.healed[0]["spec"] == {"paused": False}
    assert [change["path"] for change in world.last["changes"]] == ["spec.paused"]


async def test_an_object_that_nobody_foresaw_ends_no_others_judging(world: World) -> None:
    odd = Key(KIND, "shop", "odd")
    world.kept[odd] = intent(named(ROUTE, "odd"), ROUTE_FIELDS)
    # An item's keys that are no JSON.
    broken = entry("kubectl", {"f:spec": {"f:http": {}}})
    sight = live(named(route(weight=1), "odd"), own(HTTP_GONE), broken)
    sight["metadata"]["managedFields"] = [*sight["metadata"]["managedFields"], "text"]
    async with watched(world) as drifts:
        drifts.intended(odd, world.kept[odd])
        drifts.intended(KEY, KEPT)
        with capture_logs() as logs:
            drifts._seen[odd] = sight
            drifts._queue.add(odd)
            await world.until(lambda: world.reads)
            drifts.saw(KIND, edited())
            await world.until(lambda: world.told)
    assert world.told[0][0] == ID
    assert "drift_unjudged" in [entry["event"] for entry in logs]


def named(obj: KubeObject, name: str) -> KubeObject:
    return {**obj, "metadata": {**obj["metadata"], "name": name}}


async def test_what_another_owner_has_told_stays_until_it_was_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(world) as earlier:
        earlier.intended(KEY, KEPT)
        earlier.saw(KIND, edited())
        await world.until(lambda: world.told)
        told = list(earlier.items().values())
    monkeypatch.setattr(watching, "_ADOPTED_FOR_S", 0.05)
    stray = {**told[0], "id": "a/Kind/shop/whose-intent-went"}
    world.there[KEY] = edited()
    async with watched(world) as drifts:
        drifts.adopt([*told, stray])
        drifts.intended(KEY, KEPT)
        await world.until(lambda: (stray["id"], None) in world.told)
        assert (ID, None) not in world.told
        assert drifts.items()[ID]["detected"] == told[0]["detected"]
        drifts.saw(KIND, AS_APPLIED)
        await world.until(lambda: (ID, None) in world.told)
