"""The demo as a newcomer runs it: it ends well and leaves nothing, or says what failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.building import build_nodes
from tests.testbed.obstacles import obstacle
from tests.testbed.stack import ROOT

GRAPH = ("nodes of demo-shop", "finding IST0101", "the finding with it", "healed: the weights are")
TRAFFIC = ("v1=80 v3=20", "became VirtualService", "Canary 4 of 4")
SIMULATED = ("Nodes are simulated (", "200 requests through istiod and Envoy: ")
REAL = (
    "The node is real",
    "200 requests through two sidecars: ",
    "ns/demo-shop/sa/visitor called spiffe://cluster.local/ns/demo-shop/sa/checkout",
    "on the page: visitor → checkout-v1 ",
)


def run_demo(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.system.demo"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=380,
    )


def running_from(folder: str) -> list[str]:
    """Command lines of processes that name `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in text:
            found.append(text)
    return found


@pytest.fixture
def nodes_built(built: None) -> None:
    """What a real node needs, where the machine can have one."""
    if not obstacle():
        build_nodes()


@pytest.mark.usefixtures("built")
def test_the_demo_ends_well_and_leaves_nothing() -> None:
    plays_well(*SIMULATED, REAL="0")


@pytest.mark.full
@pytest.mark.usefixtures("nodes_built")
def test_the_demo_plays_with_a_real_node_where_there_can_be_one() -> None:
    """What a real mesh does is tried by `tests/mesh` in each run."""
    plays_well(*(SIMULATED if obstacle() else REAL))


def plays_well(*told: str, **environment: str) -> None:
    runs = ROOT / ".run"
    before = set(runs.glob("demo-*"))
    done = run_demo(**environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("Plan: install", "is ready", "Summary", "Trace ", *TRAFFIC, *GRAPH, *told):
        assert words in done.stdout
    assert set(runs.glob("demo-*")) <= before
    assert running_from(str(runs / "demo-")) == [] or before


def test_a_demo_that_cannot_build_says_what_is_missing(tmp_path: Path) -> None:
    failed = run_demo(XDG_CACHE_HOME=str(tmp_path), PATH="/nonexistent")
    assert failed.returncode == 1
    assert "there is no `go` on PATH" in failed.stderr
