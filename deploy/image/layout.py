"""Lays out an image's tree: the same commit and lock give the same bytes, whoever does it where.

Packages are installed beside the tree and not in the build of the image: that one runs nothing, so
it needs no network and no root, and what it copies has been checked by hash. Bytecode is made here,
tied to the content of its source instead of its time, since nothing can be written where it runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.image.contents import FORTIO, ROOT, Image, own_files, requirements, sbom

_PROGRAMS = ("nats-server", "dumb-init")
_WITHOUT_WHEEL = "nkeys"
_UNWANTED = frozenset({"tests", "test", "__pycache__", "sample_data"})
"""Folders of packages that are for their makers alone."""
_LEXERS = frozenset({"python", "special"})
"""All that a traceback is coloured by; there are 250 more."""
_SOURCES = frozenset({".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h"})
_VOLUMES = ("data", "istio")
_PROGRAM_MODE, _FILE_MODE, _FOLDER_MODE = 0o755, 0o644, 0o755


class LayoutError(Exception):
    """A tree could not be laid out; the message has the reason and the remedy."""


def lay_out(image: Image, tree: Path, *, cache: Path, epoch: int) -> None:
    """Fills the folder `tree`; `epoch` is the time that all in it is said to be from."""
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "bin").mkdir(parents=True)
    _install(image, tree)
    for path in own_files():
        target = tree / "app" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
    if image.has_fortio:
        shutil.copyfile(fortio(cache), tree / "bin" / "fortio")
    (tree / "sbom.json").write_text(sbom(image))
    for folder in ("lib", "app"):
        _compile(tree / folder, at=f"/opt/meshbus/{folder}")
    volumes = tree.with_name("volumes")
    for name in _VOLUMES:
        (volumes / name).mkdir(parents=True, exist_ok=True)
    for root in (tree, volumes):
        _settle(root, epoch)


def _install(image: Image, tree: Path) -> None:
    wanted = tree.with_name(f"{image.name}.requirements.txt")
    wanted.write_text(requirements(image))
    library = tree / "lib"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-compile", "--require-hashes"]
    # Wheels alone, since what builds another one is not pinned; one is Python and has none.
    command += ["--only-binary=:all:", f"--no-binary={_WITHOUT_WHEEL}"]
    _run([*command, f"--target={library}", f"--requirement={wanted}"], "installing the packages")
    for name in _PROGRAMS:
        if (library / "bin" / name).exists():
            shutil.move(library / "bin" / name, tree / "bin" / name)
    # Scripts that name the interpreter of this machine.
    shutil.rmtree(library / "bin", ignore_errors=True)
    for path in sorted(library.rglob("*"), reverse=True):
        if path.is_dir() and path.name in _UNWANTED:
            shutil.rmtree(path)
        elif path.suffix in _SOURCES or path.name in ("RECORD", "INSTALLER", "REQUESTED"):
            path.unlink()
    for path in library.glob("pygments/lexers/[!_]*.py"):
        if path.stem not in _LEXERS:
            path.unlink()
    _strip(library)


def _strip(library: Path) -> None:
    """Takes the makers' symbols out of extensions: twenty megabytes that nobody reads. What wheels
    bring along in folders named `.libs` was patched already, and is left as it is."""
    if shutil.which("strip") is None:
        raise LayoutError("extensions are stripped by binutils' `strip`, and there is none on PATH")
    modules = sorted(path for path in library.rglob("*.so") if ".libs" not in str(path.parent))
    _run(["strip", "--strip-unneeded", *map(str, modules)], "stripping the extensions")


def fortio(cache: Path) -> Path:
    """The generator, built once from its Go module; Go checks the module's sum."""
    program = cache / f"fortio-{FORTIO}" / "fortio"
    if not program.exists():
        if shutil.which("go") is None:
            raise LayoutError("the image perf has fortio, which is built with Go: install Go 1.26")
        program.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(program.parent), "CGO_ENABLED": "0"}
        command = ["go", "install", "-trimpath", "-ldflags=-s -w", f"fortio.org/fortio@{FORTIO}"]
        _run(command, "building fortio", environment=environment)
    return program


def _compile(folder: Path, *, at: str) -> None:
    command = [sys.executable, "-m", "compileall", "-qq", "--invalidation-mode=unchecked-hash"]
    # Sets among constants are written in the order of their hashes.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    # Not judged by its status: a package may hold a file for another Python.
    subprocess.run([*command, "-s", folder, "-p", at, folder], env=environment, check=False)


def _settle(root: Path, epoch: int) -> None:
    """One owner's rights and one time for everything."""
    for path in [root, *root.rglob("*")]:
        if path.is_symlink():
            os.utime(path, (epoch, epoch), follow_symlinks=False)
            continue
        is_program = path.parent == root / "bin"
        mode = _FOLDER_MODE if path.is_dir() else _PROGRAM_MODE if is_program else _FILE_MODE
        path.chmod(mode)
        os.utime(path, (epoch, epoch))


def _run(command: list[str], what: str, *, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-800:]
        raise LayoutError(f"{what} failed: {words}")
