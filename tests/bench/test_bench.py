"""The benchmarks run and write their page; what they measure is judged by people, not here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.stack import ROOT

ROWS = (
    "Install, default profile, fresh cluster",
    "Install, already installed",
    "10 VirtualServices in one manifest",
    "ApplyOperation accepted",
    "Progress event, worker to client",
    "A burst of events",
    "gateway, peak",
    "lifecycle, peak",
    "ProcessOAM of one VirtualService",
    "Read, translate and validate 1000 SMI objects",
    "translator, peak",
    "a design of 5 MB",
)


LOADS = (
    "Longer than `fortio load` itself",
    "p99 of Meshbus beside fortio's",
    "Merging 64 shards",
    "starting two more workers",
    "result does not have | 0",
    "As fast as possible, workers: 4",
)


GRAPH = (
    "20 services: registered to graph",
    "watch to client, p50",
    "late or never | 0",
    "memory of the service, peak",
    "watch to drift at the client, p50",
    "watch to healed in the cluster",
)


FLEET = (
    "until all graphs stand",
    "memory of replica 3, peak",
    "changes/s over all: watch to client, p99",
    "late or never | 0",
    "after a kill",
)


# One part shows that the programs still fit together; the pages themselves are made by people.
_QUICK = "topology"

PAGES = {
    "operations": ("benchmarks.md", ROWS),
    "loads": ("performance-tests.md", LOADS),
    "topology": ("live-graph.md", GRAPH),
    "fleet": ("fleet.md", FLEET),
}


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "scale", ["smoke", pytest.param("short", marks=(pytest.mark.full, pytest.mark.alone))]
)
@pytest.mark.parametrize(
    "part",
    [part if part == _QUICK else pytest.param(part, marks=pytest.mark.full) for part in PAGES],
)
def test_every_measurement_is_made(part: str, scale: str, tmp_path: Path) -> None:
    page, rows = PAGES[part]
    command = [sys.executable, "-m", "tests.bench", "--scale", scale, "--part", part]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / page).read_text()
    assert [row for row in rows if row not in text] == []
