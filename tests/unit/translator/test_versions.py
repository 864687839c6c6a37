"""Istio versions: their order, and whose definitions hold for which."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.translator.istio.versions import nearest, newest_first, parsed


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.31.0", (1, 31, 0, True)),
        ("v1.31.2", (1, 31, 2, True)),
        ("1.31", (1, 31, 0, True)),
        (" 1.31.0 ", (1, 31, 0, True)),
        ("1.31.0-rc.1", (1, 31, 0, False)),
        ("1.31-alpha.0a1b", (1, 31, 0, False)),
        ("", None),
        ("latest", None),
        ("1", None),
        ("1.31.0.1", None),
        ("1.31.0+build", None),
        ("1.31.0-", None),
        ("1.1000.0", None),
        ("1.31.0\n1", None),
        ("x1.31.0", None),
    ],
)
def test_a_version_is_parsed_or_none(text: str, version: tuple[int, int, int, bool] | None) -> None:
    assert parsed(text) == version


ORDERED = ["1.31.0", "1.31.0-rc.0", "1.30.10", "1.30.9", "1.30.0", "1.9.9", "0.8.0"]


@given(st.randoms())
def test_the_newest_comes_first_and_what_is_no_version_goes(shuffle: random.Random) -> None:
    given = [*ORDERED, "latest", ".cache", ""]
    shuffle.shuffle(given)
    assert newest_first(given) == ORDERED


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param("1.31.0", "1.31.0", id="itself"),
        pytest.param("v1.31.0", "1.31.0", id="itself with a v"),
        pytest.param("1.31.7", "1.31.0", id="another patch"),
        pytest.param("1.31.0-rc.0", "1.31.0-rc.0", id="a pre-release itself"),
        pytest.param("1.31.0-beta.0", "1.31.0-rc.0", id="another pre-release"),
        pytest.param("1.30.0", "1.30.9", id="the newest of the minor"),
        pytest.param("1.30.9", "1.30.9", id="the wanted of several"),
        pytest.param("1.29.0", "", id="another minor"),
        pytest.param("2.31.0", "", id="another major"),
        pytest.param("latest", "", id="no version"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_whose_definitions_hold(wanted: str, found: str) -> None:
    available = ["1.30.1", "1.31.0-rc.0", "notes", "1.30.9", "1.31.0"]
    assert nearest(wanted, available) == found
    assert nearest(wanted, available[::-1]) == found
    assert nearest(wanted, []) == ""


def test_of_two_pre_releases_the_wanted_one() -> None:
    available = ["1.32.0-alpha.1", "1.32.0-beta.0"]
    assert [nearest(version, available) for version in available] == available
