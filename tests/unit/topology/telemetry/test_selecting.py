"""Queries about everything, cut down to one cluster of several."""

from __future__ import annotations

from datetime import datetime

import pytest

from services.chassis.prometheus import MetricsError, Sample
from services.topology.telemetry.selecting import Selected, read_labels, selected
from tests.unit.topology.telemetry.told import AT

BLUE = {"cluster": "blue"}


@pytest.mark.parametrize(
    ("query", "cut_down"),
    [
        ("up", 'up{cluster="blue"}'),
        ('up{job="a"}', 'up{cluster="blue",job="a"}'),
        ("up{}", 'up{cluster="blue",}'),
        ('up {job="a",}', 'up {cluster="blue",job="a",}'),
        ('{__name__=~"a|b"}', '{cluster="blue",__name__=~"a|b"}'),
        ('{"with.dots", job="a"}', '{cluster="blue","with.dots", job="a"}'),
        ('up{job="}"} # up\n', 'up{cluster="blue",job="}"} # up\n'),
        ("up # up\r+ up", 'up{cluster="blue"} # up\r+ up{cluster="blue"}'),
        ("rate(a:b_total[5m])", 'rate(a:b_total{cluster="blue"}[5m])'),
        ("rate(a[5m:30s] offset -1h)", 'rate(a{cluster="blue"}[5m:30s] offset -1h)'),
        ("a @ end() offset 5m", 'a{cluster="blue"} @ end() offset 5m'),
        ("sum by (job, le) (a)", 'sum by (job, le) (a{cluster="blue"})'),
        ("sum(a) BY (job)", 'sum(a{cluster="blue"}) BY (job)'),
        ("topk(5, a) > bool 1e3", 'topk(5, a{cluster="blue"}) > bool 1e3'),
        (
            "a / on (job) group_left (x) b",
            'a{cluster="blue"} / on (job) group_left (x) b{cluster="blue"}',
        ),
        (
            "a and b or on() vector(1)",
            'a{cluster="blue"} and b{cluster="blue"} or on() vector(1)',
        ),
        (
            'label_replace(a, "x", "$1 or up", "y", "(.*)")',
            'label_replace(a{cluster="blue"}, "x", "$1 or up", "y", "(.*)")',
        ),
        (r"""{a="\"", b='\\', c=`\`}""", r"""{cluster="blue",a="\"", b='\\', c=`\`}"""),
        ("-0x1f + Inf - NaN", "-0x1f + Inf - NaN"),
        ("time()", "time()"),
        ("sum", 'sum{cluster="blue"}'),
    ],
)
def test_every_selector_gets_the_label(query: str, cut_down: str) -> None:
    assert selected(query, BLUE) == cut_down


@pytest.mark.parametrize(
    "query",
    ['up{a="b"', "rate(up[5m", "sum by (a", "up; up", "up ∧ up", '{a="b" or c="d"}', "info(up)"],
)
def test_what_cannot_be_cut_down_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"missing|not understood|alternatives|does not name"):
        selected(query, BLUE)


def test_without_labels_a_query_stays_as_it_is() -> None:
    assert selected("info(up); anything", {}) == "info(up); anything"


def test_a_labels_value_stays_a_value() -> None:
    labels = {"cluster": 'a"} or up{b="\\\n'}
    assert selected("up", labels) == r'up{cluster="a\"} or up{b=\"\\\n"}'


def test_labels_are_read() -> None:
    assert read_labels("") == {}
    assert read_labels(" cluster = blue, region=north ,") == {"cluster": "blue", "region": "north"}


@pytest.mark.parametrize("text", ["cluster", "cluster=", "=blue", "a-b=c", 'cluster{}="b"'])
def test_other_labels_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        read_labels(text)


class Kept:
    """A Prometheus that keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        self.asked.append(text)
        return [Sample({}, 1.0)]


async def test_what_is_asked_is_cut_down_and_what_cannot_be_is_not_asked() -> None:
    kept = Kept()
    blue = Selected(kept, BLUE)
    assert await blue.query("up", at=AT) == [Sample({}, 1.0)]
    with pytest.raises(MetricsError, match="cut down to one cluster: a } is missing"):
        await blue.query("up{", at=AT)
    assert kept.asked == ['up{cluster="blue"}']
