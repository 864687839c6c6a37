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
    "gateway, peak",
    "lifecycle, peak",
    "ProcessOAM of one VirtualService",
    "Read, translate and validate 1000 SMI objects",
    "translator, peak",
    "a design of 5 MB",
)


@pytest.mark.usefixtures("built")
def test_every_measurement_is_made(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--repeats", "1", "--output", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert [row for row in ROWS if row not in text] == []
