"""What followers of a graph get: snapshots, deltas of their view, and what they missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from services.topology.feed import following
from services.topology.feed.deltas import Delta, Item, View
from services.topology.feed.following import Follower, Following, parsed_position
from services.topology.feed.views import ClusterView, Views

Items = Mapping[str, Mapping[str, Item | None]]


class Feed:
    """A cluster's view, filled as its owner fills it."""

    def __init__(self) -> None:
        self.views = Views()
        self.following = Following(views=self.views)
        self.following.start()

    def begin(self, parts: Items, *, cluster: str = "c", epoch: int = 3, number: int = 0) -> None:
        view = ClusterView(cluster, epoch=epoch, number=number)
        for part, items in parts.items():
            for ident, item in items.items():
                view.put(part, ident, item)
        self.views.replace(view)

    def tell(self, parts: Items, *, cluster: str = "c", number: int = 0) -> Delta:
        view = self.views.clusters[cluster]
        delta = Delta(
            cluster=cluster, epoch=view.epoch, number=number or view.number + 1, parts=parts
        )
        view.apply(delta)
        self.views.notify(delta)
        return delta

    def follow(self, after: tuple[int, int] | None = None, view: View = View.APP) -> Follower:
        return self.following.follow("c", view, after=after)

    def events(self, follower: Follower) -> list[tuple[str, str, Any]]:
        """Everything that waits: (event, id, data)."""
        found = []
        for frame in self.following.take(follower).decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in frame.split("\n"))
            found.append((fields["event"], fields.get("id", ""), orjson.loads(fields["data"])))
        return found

    def news(self, follower: Follower) -> list[tuple[str, str, Any]]:
        """The events about the cluster itself."""
        return [event for event in self.events(follower) if event[0] != "clusters"]


def nodes(*names: str, view: View = View.APP, gone: bool = False) -> Items:
    return {f"{view}.nodes": {name: None if gone else {"id": name} for name in names}}


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.begin({**nodes("a", "b"), "findings": {"f1": {"code": "IST0101"}}})
    return feed


def test_a_new_follower_gets_everything_of_its_view(feed: Feed) -> None:
    follower = feed.follow()
    [(event, ident, data)] = feed.news(follower)
    assert (event, ident) == ("snapshot", "3.0")
    assert data == {
        "cluster": "c",
        "graphType": "app",
        "epoch": 3,
        "number": 0,
        "nodes": [{"id": "a"}, {"id": "b"}],
        "edges": [],
        "findings": {"f1": {"code": "IST0101"}},
        "drift": {},
        "info": {},
    }
    assert feed.events(follower) == []
    assert not follower.there_is_something.is_set()


def test_then_only_what_changes(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    told = feed.tell({**nodes("c"), "findings": {"f1": None}})
    [(event, ident, data)] = feed.news(follower)
    assert (event, ident) == ("delta", "3.1")
    assert data == {
        "cluster": "c",
        "graphType": "app",
        "epoch": 3,
        "number": 1,
        "time": told.time.isoformat(timespec="milliseconds"),
        "nodes": {"c": {"id": "c"}},
        "findings": {"f1": None},
    }


def test_changes_of_other_views_and_clusters_are_not_sent_but_move_the_position(feed: Feed) -> None:
    follower = feed.follow()
    feed.begin(nodes("z"), cluster="other")
    feed.events(follower)
    feed.tell(nodes("x", view=View.SERVICE))
    feed.tell(nodes("y"), cluster="other")
    assert not follower.there_is_something.is_set()
    assert feed.events(follower) == []
    assert b"id: 3.1\n" in feed.following.ping(follower)
    feed.tell(nodes("c"))
    assert [ident for _, ident, _ in feed.news(follower)] == ["3.2"]


def test_who_comes_back_gets_what_it_missed(feed: Feed) -> None:
    for name in "cdefg":
        feed.tell(nodes(name))
    follower = feed.follow(after=(3, 2))
    assert [(event, ident) for event, ident, _ in feed.news(follower)] == [
        ("delta", "3.3"),
        ("delta", "3.4"),
        ("delta", "3.5"),
    ]


def test_who_missed_nothing_gets_nothing(feed: Feed) -> None:
    assert feed.news(feed.follow(after=(3, 0))) == []
    feed.tell(nodes("c"))
    assert feed.news(feed.follow(after=(3, 1))) == []


@pytest.mark.parametrize(
    "after",
    [(2, 1), (3, 9), (4, 1)],
    ids=["an earlier epoch", "ahead of what was told", "a later epoch"],
)
def test_who_comes_back_from_elsewhere_gets_everything(feed: Feed, after: tuple[int, int]) -> None:
    feed.tell(nodes("c"))
    assert [event for event, _, _ in feed.news(feed.follow(after=after))] == ["snapshot"]


def test_only_so_much_is_kept(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_KEPT_DELTAS", 3)
    for name in "cdefg":
        feed.tell(nodes(name))
    kept = feed.news(feed.follow(after=(3, 2)))
    assert [ident for _, ident, _ in kept] == ["3.3", "3.4", "3.5"]
    assert [event for event, _, _ in feed.news(feed.follow(after=(3, 1)))] == ["snapshot"]


def test_only_so_many_bytes_are_kept(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_MOST_KEPT_BYTES", 100)
    feed.tell(nodes("c"))
    feed.tell(nodes("d" * 200))
    assert [event for event, _, _ in feed.news(feed.follow(after=(3, 1)))] == ["snapshot"]
    feed.tell(nodes("e"))
    assert [ident for _, ident, _ in feed.news(feed.follow(after=(3, 2)))] == ["3.3"]


def test_no_more_is_kept_than_a_snapshot_has(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small cluster, however much happens in it: a snapshot would be shorter."""
    monkeypatch.setattr(following, "_LEAST_KEPT_BYTES", 100)
    for number in range(40):
        feed.tell(nodes("busy" + "x" * (number % 2) * 200))
    kept = feed.news(feed.follow(after=(3, 35)))
    assert [event for event, _, _ in kept] == ["snapshot"]
    feed.tell(nodes(*(f"n{number}" for number in range(400))))
    for number in range(40):
        feed.tell(nodes("busy" + "x" * (number % 2) * 200))
    assert len(feed.news(feed.follow(after=(3, 60)))) > 10


def test_a_gap_becomes_a_snapshot(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    feed.tell(nodes("c"))
    feed.tell(nodes("d"), number=5)
    [(event, ident, data)] = feed.news(follower)
    assert (event, ident) == ("snapshot", "3.5")
    assert [node["id"] for node in data["nodes"]] == ["a", "b", "c", "d"]


def test_a_delta_told_twice_is_sent_once(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    feed.tell(nodes("c"))
    feed.tell(nodes("c"), number=1)
    feed.tell(nodes("d"))
    assert [ident for _, ident, _ in feed.news(follower)] == ["3.1", "3.2"]


def test_another_view_of_the_cluster_becomes_a_snapshot(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    feed.begin(nodes("x"), epoch=4)
    [(event, ident, data)] = feed.news(follower)
    assert (event, ident, data["nodes"]) == ("snapshot", "4.0", [{"id": "x"}])
    feed.tell(nodes("y"))
    assert [ident for _, ident, _ in feed.news(follower)][-1:] == ["4.1"]


def test_the_first_delta_of_an_epoch_is_not_lost_on_who_came_before_it(feed: Feed) -> None:
    """The owner numbers a delta before it is published; a client may come in between."""
    view = feed.views.clusters["c"]
    view.number += 1
    follower = feed.follow()
    [(_, ident, _)] = feed.news(follower)
    assert ident == "3.0"
    feed.tell(nodes("late"), number=1)
    told = feed.news(follower)
    assert any("late" in orjson.dumps(data).decode() for _, _, data in told)


def test_a_slow_client_gets_a_snapshot_instead_of_a_long_queue(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_WAITING_BYTES", 1_000)
    follower = feed.follow()
    feed.events(follower)
    for number in range(100):
        feed.tell(nodes(f"n{number}"))
        assert follower.waiting_bytes <= 1_000
    [(event, ident, data)] = feed.news(follower)
    assert (event, ident, len(data["nodes"])) == ("snapshot", "3.100", 102)
    feed.tell(nodes("more"))
    assert [event for event, _, _ in feed.news(follower)] == ["delta"]


def test_a_cluster_that_goes_and_comes_back(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    feed.views.forget("c")
    assert feed.news(follower) == [("gone", "", {"cluster": "c"})]
    feed.begin(nodes("x"), epoch=5)
    assert [event for event, _, _ in feed.news(follower)] == ["snapshot"]


def test_everybody_hears_of_clusters_but_not_of_each_change(feed: Feed) -> None:
    follower = feed.following.follow("", View.APP)
    assert feed.events(follower) == [("clusters", "", [{"cluster": "c"}])]
    feed.begin({"info": {"cluster": {"name": "two", "state": "watching"}}}, cluster="d")
    [(event, _, told)] = feed.events(follower)
    assert event == "clusters"
    assert told == [{"cluster": "c"}, {"cluster": "d", "name": "two", "state": "watching"}]
    feed.tell({"info": {"cluster": {"name": "two", "state": "watching", "nodes": 9}}}, cluster="d")
    assert feed.events(follower) == []
    feed.tell({"info": {"cluster": {"name": "two", "state": "unreachable"}}}, cluster="d")
    assert [event for event, _, _ in feed.events(follower)] == ["clusters"]


def test_all_that_comes_before_a_client_takes_is_one_text(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    for name in "cde":
        feed.tell(nodes(name))
    assert feed.following.take(follower).count(b"event: delta") == 3
    assert feed.following.take(follower) == b""


def test_who_left_gets_nothing_more(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    feed.following.unfollow(follower)
    feed.tell(nodes("c"))
    assert feed.events(follower) == []


def test_closing_wakes_everybody(feed: Feed) -> None:
    follower = feed.follow()
    feed.events(follower)
    feed.following.close()
    assert follower.is_closed
    assert follower.there_is_something.is_set()
    feed.tell(nodes("c"))
    assert feed.events(follower) == []


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("3.12", (3, 12)),
        ("0.0", (0, 0)),
        ("", None),
        ("3", None),
        ("3.", None),
        ("-3.1", None),
        ("3.1.2", None),
        ("٣.1", None),
        ("9" * 50 + ".1", None),
    ],
)
def test_positions_as_clients_say_them(text: str, position: tuple[int, int] | None) -> None:
    assert parsed_position(text) == position
