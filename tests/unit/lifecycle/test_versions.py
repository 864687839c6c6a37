"""Istio versions: exact or refused, and which steps are safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import VersionUnknown
from services.lifecycle.cluster.versions import (
    SUPPORTED_KUBERNETES,
    Version,
    choose_version,
    kubernetes_range,
    unsafe_step,
)

HERE = ["1.29.2", "1.31.1", "1.31.0", "1.31.2-rc.1", "1.9.9", "not-a-version"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.31.0", "1.31.0"),
        ("v1.31.0", "1.31.0"),
        (" 1.31.0\n", "1.31.0"),
        ("1.31.0-rc.1", "1.31.0-rc.1"),
        ("1.31.0-alpha.sha-f00", "1.31.0-alpha.sha-f00"),
    ],
)
def test_a_version_is_read(text: str, version: str) -> None:
    assert str(Version.parse(text)) == version


@pytest.mark.parametrize(
    "text",
    ["", "latest", "1.31", "1", "1.31.0.1", "1.31.x", "1.31.0-", "1.31.0 rc", "-1.0.0",
     "1.31.0-rc_1", "1.1234.0", "../1.31.0", "1.31.0/..", "1.31.0\n1.29.0"],
)  # fmt: skip
def test_another_text_is_no_version(text: str) -> None:
    assert Version.parse(text) is None


@given(st.text())
def test_whatever_is_read_is_safe_as_a_folder_s_name(text: str) -> None:
    version = Version.parse(text)
    if version is not None:
        assert "/" not in str(version)
        assert str(version).isascii()
        assert Version.parse(str(version)) == version


def test_versions_sort_by_number_and_releases_after_their_candidates() -> None:
    sorted_texts = ["1.9.9", "1.29.2", "1.31.0-rc.1", "1.31.0", "1.31.1", "2.0.0"]
    versions = [Version.parse(text) for text in reversed(sorted_texts)]
    known = sorted(version for version in versions if version is not None)
    assert [str(version) for version in known] == sorted_texts


@pytest.mark.parametrize("wanted", ["1.31.1", "v1.31.1", " 1.31.1 "])
def test_a_version_that_is_here_is_chosen(wanted: str) -> None:
    assert choose_version(wanted, HERE) == "1.31.1"


@pytest.mark.parametrize("wanted", ["", "  "])
def test_no_wish_gets_the_newest(wanted: str) -> None:
    assert choose_version(wanted, HERE) == "1.31.2-rc.1"
    assert choose_version(wanted, ["1.9.9", "1.29.0"]) == "1.29.0"


@pytest.mark.parametrize(
    "wanted",
    ["1.31.3", "1.31", "latest", "1.31.1-rc.1", "not-a-version", "1.31.1 ; true", "x" * 999],
)
def test_an_unknown_version_is_refused_and_the_others_are_listed(wanted: str) -> None:
    with pytest.raises(VersionUnknown) as caught:
        choose_version(wanted, HERE)
    summary = caught.value.summary
    assert wanted[:64] in summary
    assert "available: 1.31.2-rc.1, 1.31.1, 1.31.0, 1.29.2, 1.9.9" in summary
    assert "not-a-version," not in summary.partition("available:")[2]
    assert len(summary) < 300


@pytest.mark.parametrize("wanted", ["", "1.31.1"])
def test_a_machine_without_distributions_says_where_they_go(wanted: str) -> None:
    with pytest.raises(VersionUnknown) as caught:
        choose_version(wanted, ["README"])
    assert "MESHBUS_LIFECYCLE_DISTRIBUTIONS" in caught.value.remedy


@pytest.mark.parametrize(
    ("current", "wanted", "reason"),
    [
        ("1.31.0", "1.31.0", ""),
        ("1.31.0", "1.31.2", ""),
        ("1.29.2", "1.30.0", ""),
        ("1.31.0-rc.1", "1.31.0", ""),
        ("1.31.1", "1.31.0", "downgrade"),
        ("1.31.0", "1.31.0-rc.1", "downgrade"),
        ("1.31.0", "1.29.2", "downgrade"),
        ("2.0.0", "1.31.0", "downgrade"),
        ("1.29.2", "1.31.0", "jumps over"),
        ("1.9.0", "1.29.0", "jumps over"),
        ("1.31.0", "2.0.0", "jumps over"),
        ("", "1.31.0", ""),
        ("unknown", "1.31.0", ""),
    ],
)
def test_steps_between_versions(current: str, wanted: str, reason: str) -> None:
    text = unsafe_step(current, wanted)
    assert reason in text
    assert bool(text) == bool(reason)
    if text:
        assert text.startswith(f"{current} to {wanted} ")


@pytest.mark.parametrize(
    ("version", "minors"),
    [
        ("1.31.0", (32, 36)),
        ("1.31.7-rc.1", (32, 36)),
        ("1.29.2", (31, 35)),
        ("1.99.0", None),
        ("latest", None),
    ],
)
def test_kubernetes_ranges(version: str, minors: tuple[int, int] | None) -> None:
    assert kubernetes_range(version) == minors


def test_ranges_are_ranges() -> None:
    assert all(low <= high for low, high in SUPPORTED_KUBERNETES.values())
