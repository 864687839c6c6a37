"""`make release`: what is shipped of a version, in `dist/<version>`, with the sums of all of it.

    python -m deploy.releasing [--base debian] [--without images]

The same commit gives the same bytes, so whoever builds it can say whether it is what was shipped.
What this machine cannot build is told with the remedy, and the rest is made all the same; the exit
status is 1 then, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy import bundling
from deploy.bom import ROOT, bill

SUMS = "SHA256SUMS"
_CHART = ROOT / "deploy" / "chart"
_COPIED = {
    "deploy/compose.yaml": "meshbus-{version}-compose.yaml",
    "docs/reference/asyncapi.yaml": "meshbus-{version}-asyncapi.yaml",
    "proto/bus.schema.json": "meshbus-{version}-bus.schema.json",
    "proto/meshops.proto": "meshbus-{version}-meshops.proto",
}
"""Contracts and files that are of use alone, and what each is called beside the others."""


class PartMissing(Exception):
    """A part cannot be made here; the message has the reason and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version on its way into a folder."""

    folder: Path
    version: str
    epoch: int
    """When its commit was made: the time of everything in it."""
    base: str
    """Of the images; "" leaves the choice to `deploy.image`."""

    def chart(self) -> None:
        """The chart as `helm package` would name it. Helm's own packing was rejected: it puts the
        time of the packing in, and would be one more thing to install."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path in sorted(_CHART.rglob("*")):
                if path.is_file():
                    name = f"meshbus/{path.relative_to(_CHART)}"
                    archive.addfile(self._entry(name, path), io.BytesIO(path.read_bytes()))
        file = self.folder / f"meshbus-{self.version}.tgz"
        file.write_bytes(gzip.compress(packed.getvalue(), mtime=0))

    def _entry(self, name: str, path: Path) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = path.stat().st_size, self.epoch, 0o644
        return entry

    def sbom(self) -> None:
        """What all of it is made of; each image has its own inside."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        document = bill((ROOT / "requirements.lock").read_text(), project)
        text = json.dumps(document, indent=2) + "\n"
        (self.folder / f"meshbus-{self.version}-sbom.json").write_text(text)

    def contracts(self) -> None:
        for source, name in _COPIED.items():
            shutil.copyfile(ROOT / source, self.folder / name.format(version=self.version))

    def images(self) -> None:
        """Both, as archives that `docker load`, podman and buildah take."""
        try:
            bundling.bundle()
        except bundling.BundlingError as error:
            raise PartMissing(str(error)) from None
        work = ROOT / ".run" / "image"
        command = [sys.executable, "-m", "deploy.image", "--archives", f"--folder={work}"]
        command += [f"--base={self.base}"] if self.base else []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            words = done.stderr.strip().removeprefix("image: ")[-800:]
            raise PartMissing(
                f"{words}. BASE=debian makes the base of Debian's packages where no registry is "
                "reached; OPTIONS='--without images' makes the rest alone"
            )
        for file in work.glob(f"meshbus-*-{self.version}.tar"):
            shutil.move(file, self.folder / file.name)

    def sums(self) -> list[str]:
        """Writes the sums of what is there; returns their lines."""
        files = sorted(path for path in self.folder.iterdir() if path.name != SUMS)
        lines = []
        for file in files:
            with file.open("rb") as content:
                lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}")
        (self.folder / SUMS).write_text("".join(f"{line}\n" for line in lines))
        return lines


PARTS: dict[str, Callable[[Release], None]] = {
    "chart": Release.chart,
    "sbom": Release.sbom,
    "contracts": Release.contracts,
    "images": Release.images,
}


def make(release: Release, *, without: frozenset[str] = frozenset()) -> int:
    """Makes all parts that can be made; the exit status."""
    shutil.rmtree(release.folder, ignore_errors=True)
    release.folder.mkdir(parents=True)
    missing = {}
    for name, part in PARTS.items():
        if name in without:
            continue
        try:
            part(release)
        except PartMissing as error:
            missing[name] = str(error)
    for line in release.sums():
        print(line, flush=True)
    for name, why in missing.items():
        print(f"release: no {name}: {why}", file=sys.stderr)
    if not missing:
        print(f"wrote {release.folder}; `sha256sum --check {SUMS}` there checks it")
    return 1 if missing else 0


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit("release: a release is made from a commit: this is no checkout of git")
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.releasing", description=__doc__)
    parser.add_argument("--base", default="", help="of the images, as for `make image`")
    parser.add_argument(
        "--without", action="append", default=[], choices=PARTS, help="leave it out"
    )
    parser.add_argument("--folder", type=Path, help="default: dist/<version>")
    options = parser.parse_args()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    release = Release(
        folder=(options.folder or ROOT / "dist" / version).resolve(),
        version=version,
        epoch=int(_git("log", "-1", "--format=%ct")),
        base=options.base,
    )
    if _git("status", "--porcelain", "--untracked-files=no"):
        print("release: there are changes that are in no commit, so nobody can make the same")
    return make(release, without=frozenset(options.without))


if __name__ == "__main__":
    sys.exit(main())
