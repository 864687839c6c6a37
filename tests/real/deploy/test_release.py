"""What `make release` makes: whole or told, the same twice, and taken by those who use it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.charting import CHART
from deploy.releasing import PARTS, SUMS
from tests.real.deploy.charts import Helm
from tests.testbed.recipe import KUBERNETES_VERSION
from tests.testbed.stack import ROOT


def release(folder: Path, *options: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """The command as make runs it; with `path`, on a machine that has these programs alone."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.releasing", f"--folder={folder}", *options],
        cwd=ROOT,
        env={"PATH": path or "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All but the images, which take minutes; tests of their own build them."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    done = release(folder, "--without=images")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_sums_hold_for_every_file(parts: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=parts, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK") == len(list(parts.iterdir())) - 1


def test_the_same_commit_gives_the_same_bytes(parts: Path, tmp_path: Path) -> None:
    assert release(tmp_path / "again", "--without=images").returncode == 0
    assert (tmp_path / "again" / SUMS).read_text() == (parts / SUMS).read_text()


def test_helm_takes_the_chart_as_it_takes_the_folder(parts: Path, helm: Helm) -> None:
    [chart] = parts.glob("meshbus-*.tgz")
    shown = yaml.safe_load(helm.run("show", "chart", str(chart)))
    assert chart.name == f"meshbus-{shown['version']}.tgz"
    rendering = ("--namespace=meshbus", f"--kube-version={KUBERNETES_VERSION}")
    packed = helm.run("template", "meshbus", str(chart), *rendering)
    assert packed == helm.run("template", "meshbus", str(CHART), *rendering)


def test_what_cannot_be_built_is_told_and_hinders_nothing(tmp_path: Path) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    (nothing / "git").symlink_to(shutil.which("git") or "git")
    done = release(tmp_path / "dist", path=str(nothing))
    assert done.returncode == 1
    assert "no images" in done.stderr
    assert "install one" in done.stderr
    assert set(PARTS) == {"chart", "sbom", "contracts", "images"}
    made = {path.suffix for path in (tmp_path / "dist").iterdir()}
    assert made == {"", ".tgz", ".json", ".yaml", ".proto"}
