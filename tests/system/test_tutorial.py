"""The tutorial, typed as it stands there: what it shows is what comes.

Its commands run in a copy of the tree with a home of its own, in two terminals as the page says.
Numbers, ids and tokens may differ from what the page shows; words may not.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.deploy.launches import free_offset
from tests.testbed.building import binary, distributions_folder
from tests.testbed.clusters import Cluster, kubectl_path
from tests.testbed.stack import ROOT
from tests.testbed.terminals import Terminal

PAGE = ROOT / "docs" / "tutorial" / "first-mesh.md"
AT = "/home/you/meshbus"
"""Where the page's checkout is."""
COPIED = ("Makefile", "runtime.lock", "deploy", "services", "proto")
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.M | re.S)
_OMITTED = "…"


@dataclass(frozen=True, slots=True)
class Step:
    """Commands of the page, and what it shows after them."""

    commands: str
    shown: str = ""

    @property
    def is_first_terminal(self) -> bool:
        return self.commands.startswith("make up")


def steps() -> list[Step]:
    found: list[Step] = []
    for kind, text in _BLOCK.findall(PAGE.read_text()):
        if kind == "sh":
            found.append(Step(text))
        else:
            found[-1] = Step(found[-1].commands, text)
    return found


def plain(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line)
    line = re.sub(r"\([a-z2-7]{8}…\)", "(TOKEN)", line)
    return " ".join(re.sub(r"\d+(\.\d+)?", "0", line).split())


@pytest.fixture
def kind(built: None, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that the page may have for itself."""
    with Cluster(tmp_path / "cluster", name="kind-kind") as cluster:
        yield cluster


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "meshbus"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return folder


@pytest.fixture
def environment(kind: Cluster, tmp_path: Path) -> dict[str, str]:
    """As a person has it: programs on PATH, a kubeconfig at home. Ports are free ones."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    (home / ".kube").mkdir(parents=True)
    (home / ".kube" / "config").write_text(kind.kubeconfig_text)
    programs.mkdir()
    (programs / "kubectl").symlink_to(kubectl_path())
    # The environment is this one, which has been made; another would take minutes.
    own = f"--assume-old=.venv/.meshbus-runtime BIN={Path(sys.executable).parent}"
    make = programs / "make"
    make.write_text(f'#!/bin/sh\nexec {shutil.which("make")} {own} "$@"\n')
    make.chmod(0o755)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_CACHE_HOME": cache,
        "MESHBUS_PORT_OFFSET": str(free_offset()),
        "MESHBUS_LIFECYCLE_DISTRIBUTIONS": str(distributions_folder()),
        "MESHBUS_PERF_FORTIO": str(binary("fortio")),
        # A worker that died is succeeded after this time.
        "MESHBUS_ACK_WAIT": "5s",
    }


@pytest.mark.timeout(900)
def test_what_the_tutorial_shows_is_what_comes(checkout: Path, environment: dict[str, str]) -> None:
    first = Terminal(checkout, environment)
    second = Terminal(checkout, environment)
    told = steps()
    assert len(told) > 8
    try:
        for step in told:
            if step.commands.startswith("rm -rf .run/up"):
                first.press(signal.SIGINT)
                first.hear("ended; the state stays in")
            if step.is_first_terminal:
                first.lines.clear()
                first.type(step.commands)
                first.hear("ready after")
                said = list(first.lines)
            else:
                said, status = second.run(step.commands)
                assert step.shown or status == 0, "\n".join(said)
            compare(step, said, checkout=checkout)
        assert not (checkout / ".run" / "up").exists()
    finally:
        second.close()
        first.close()


def compare(step: Step, said: list[str], *, checkout: Path) -> None:
    """Every line that the page shows has come."""
    came = {plain(line.replace(str(checkout), AT)) for line in said}
    for line in step.shown.splitlines():
        if line.strip() and line.strip() != _OMITTED:
            assert plain(line) in came, "\n".join([line, "--- said ---", *said])
