"""What Istio's names of clusters mean, as it becomes known."""

from __future__ import annotations

from typing import Any

from services.topology.feed.deltas import INFO_PART, Delta
from services.topology.feed.neighbours import Names, Neighbours, names_for
from services.topology.feed.views import ClusterView, Views

OWN = Names("blue", "east", "shop")


def test_names_are_those_of_the_same_mesh_that_mean_one_cluster() -> None:
    known = {
        "c1": OWN,
        "c2": Names("green", "west", "shop"),
        "c3": Names("red", "north", "bank"),
        "c4": Names("one", "twice", "shop"),
        "c5": Names("two", "twice", "shop"),
        "c6": Names("copy", "east", "shop"),
    }
    assert names_for("c1", known) == {"west": "green"}
    assert names_for("c3", known) == {}
    assert names_for("never heard of", known) == {}


def view(token: str, name: str = "", **istio: str) -> ClusterView:
    found = ClusterView(token)
    info: dict[str, Any] = {"cluster": token, "name": name} | ({"istio": istio} if istio else {})
    found.put(INFO_PART, "cluster", info)
    return found


def test_each_change_of_a_name_is_told_once() -> None:
    views = Views()
    views.replace(view("c1", "blue", cluster="east", mesh="shop"))
    neighbours, told = Neighbours(views), list[dict[str, str]]()
    stop = neighbours.start()
    leave = neighbours.listen("c1", lambda names: told.append(dict(names)))
    assert told == []
    views.replace(view("c2", "green", cluster="west", mesh="shop"))
    views.replace(view("c2", "green", cluster="west", mesh="shop"))
    assert told == [{"west": "green"}]
    # A cluster that cannot be reached keeps its name; one that left has none.
    views.replace(view("c2", "green"))
    assert told == [{"west": "green"}]
    views.forget("c2")
    assert told[1:] == [{}]
    third = view("c3", "red", cluster="north", mesh="shop")
    views.clusters["c3"] = third
    views.notify(Delta(cluster="c3", epoch=1, number=5, parts={INFO_PART: {"cluster": {}}}))
    assert told[2:] == [{"north": "red"}]
    leave()
    stop()
    views.forget("c3")
    assert len(told) == 3


def test_a_watch_that_comes_in_the_place_of_another_stays() -> None:
    views = Views()
    views.replace(view("c1", "blue", cluster="east", mesh="shop"))
    views.replace(view("c2", "green", cluster="west", mesh="shop"))
    neighbours = Neighbours(views)
    neighbours.start()
    first, second = list[object](), list[object]()
    leave = neighbours.listen("c1", first.append)
    neighbours.listen("c1", second.append)
    leave()
    views.forget("c2")
    assert (len(first), len(second)) == (1, 2)
