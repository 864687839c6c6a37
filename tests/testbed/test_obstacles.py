"""What keeps a machine from having a real node is told before anything is built for one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.testbed import cgroups, obstacles


@pytest.fixture(autouse=True)
def fitting_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever machine this is, the tests are about what comes after its kind."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(obstacles, "_LOADER", Path("/"))


def test_without_root_there_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "only root" in obstacles.obstacle.__wrapped__()


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: None if name == "nsenter" else which(name))
    assert "nsenter" in obstacles.obstacle.__wrapped__()


def test_a_single_processor_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert "2 processors" in obstacles.obstacle.__wrapped__()


def test_control_groups_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_NEEDED", ("antigravity",))
    assert "antigravity" in cgroups.obstacle()
