"""The documentation as MkDocs makes it: whole, and the same bytes each time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from docs import site


def test_the_site_is_built_without_a_warning_and_alike(tmp_path: Path) -> None:
    assert site.build(tmp_path / "one") == 0
    assert site.build(tmp_path / "two") == 0
    assert "Meshbus" in (tmp_path / "one" / "index.html").read_text()
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_link_that_leads_nowhere_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    for page in (*site.PROJECT, "README.md", "docs/README.md"):
        (tmp_path / page).write_text("# A page\n\n[there](#a-page)\n")
    (tmp_path / "docs" / "site.css").touch()
    monkeypatch.setattr(site, "ROOT", tmp_path)
    assert site.build(tmp_path / "site") == 0
    (tmp_path / "README.md").write_text("# A page\n\n[nowhere](#b)\n")
    assert site.build(tmp_path / "site") != 0
    assert "#b" in capfd.readouterr().err


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
