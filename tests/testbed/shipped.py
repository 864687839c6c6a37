"""The images of Meshbus itself, as `make image` builds them, for the nodes of a real cluster."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploy import bundling
from deploy.image.contents import IMAGES, LOCK, ROOT, own_files
from tests.testbed import building, packages
from tests.testbed.processes import BedError

_RECIPE = ROOT / "deploy" / "image"
_KEPT = 3


def archives() -> list[Path]:
    """The archives of both, under the names that the chart asks for.

    They are built when anything that goes in is another than the last time; that takes minutes.
    """
    try:
        bundling.bundle()
    except bundling.BundlingError as error:
        raise BedError(str(error)) from error
    folder = building.cache_folder() / "shipped" / _digest()
    if not folder.is_dir():
        with building.build_lock():
            if not folder.is_dir():
                _build(folder)
    return sorted(folder.glob("*.tar"))


def _build(folder: Path) -> None:
    for package in ("buildah", "mmdebstrap"):
        packages.program(package)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shipped-", dir=folder.parent) as scratch:
        command = [sys.executable, "-m", "deploy.image", "--engine=buildah", "--base=debian"]
        done = subprocess.run(
            [*command, "--archives", f"--folder={scratch}/built"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BedError(f"the images cannot be built: {done.stderr.strip()}")
        whole = Path(scratch) / "whole"
        whole.mkdir()
        found = sorted(Path(scratch, "built").glob("*.tar"))
        for archive in [file for file in found if file.stem.startswith("meshbus-")]:
            archive.rename(whole / archive.name)
        assert len(list(whole.iterdir())) == len(IMAGES)
        whole.rename(folder)
    # The last ones stay: another checkout's run may be about to take them in.
    built = sorted(folder.parent.glob("[!.]*"), key=lambda each: each.stat().st_mtime)
    for former in built[:-_KEPT]:
        shutil.rmtree(former)


def _digest() -> str:
    content = hashlib.sha256(repr(sys.version_info).encode())
    for file in _sources():
        content.update(f"{file.relative_to(ROOT)}\0".encode())
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    yield LOCK
    yield from (file for file in sorted(_RECIPE.iterdir()) if file.is_file())
    yield from (ROOT / path for path in own_files())
