"""`make sbom`: what Meshbus is made of, as CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json/).

Everything in it stands in the tree: the pins and hashes of `requirements.lock`, who asks for whom
in its `# via` comments, and the one library of the page. The same lock gives the same bytes, so two
releases can be compared; a clock in it was rejected for that, and a generator of others as well: it
would describe an environment instead of the lock.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.bundling import Library, libraries

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_VIA = re.compile(r"\s+#(?: via)?\s*(?P<parent>[A-Za-z0-9._-]+(?: \([^)]*\))?)?\s*\Z")
_ROOT_PARENT = "meshbus (pyproject.toml)"


@dataclass(slots=True)
class Pin:
    """A package of the lock."""

    name: str
    version: str
    hashes: list[str] = field(default_factory=list)
    """SHA-256 of each archive that pip may take."""
    parents: list[str] = field(default_factory=list)
    """Who asks for it."""

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{normal(self.name)}@{self.version}"


def read_lock(text: str) -> list[Pin]:
    """The pins of a `requirements.lock`, in its order."""
    pins: list[Pin] = []
    for line in text.splitlines():
        if found := PIN.match(line):
            pins.append(Pin(found["name"], found["version"]))
        elif found := _HASH.search(line):
            pins[-1].hashes.append(found[1])
        elif (found := _VIA.match(line)) and found["parent"]:
            pins[-1].parents.append(found["parent"])
    return pins


def bill(lock: str, project: Mapping[str, Any]) -> dict[str, Any]:
    """The document; `project` is the table of that name in pyproject.toml."""
    pins = read_lock(lock)
    required = needed(pins, project["dependencies"])
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    page = libraries()
    digest = hashlib.sha256(lock.encode()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{own}#{digest}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "purl": own,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": [
            *(_component(pin, required) for pin in pins),
            *(_page_library(library) for library in page),
        ],
        "dependencies": _dependencies(pins, own, [_npm(library) for library in page]),
    }


def _component(pin: Pin, required: frozenset[str]) -> dict[str, Any]:
    # A hash is of an archive, and there is one for each platform.
    distribution = {
        "type": "distribution",
        "url": pin.purl,
        "hashes": [{"alg": "SHA-256", "content": one} for one in pin.hashes],
    }
    return {
        "type": "library",
        "bom-ref": pin.purl,
        "name": pin.name,
        "version": pin.version,
        "purl": pin.purl,
        # Tools for building and testing are in the lock, but in no service.
        "scope": "required" if normal(pin.name) in required else "excluded",
        "externalReferences": [distribution],
    }


def _npm(library: Library) -> str:
    return f"pkg:npm/{library.name.replace('@', '%40')}@{library.version}"


def _page_library(library: Library) -> dict[str, Any]:
    content = base64.b64decode(library.integrity.removeprefix("sha512-")).hex()
    return {
        "type": "library",
        "bom-ref": _npm(library),
        "name": library.name,
        "version": library.version,
        "purl": _npm(library),
        "scope": "required",
        "hashes": [{"alg": "SHA-512", "content": content}],
        "licenses": [{"license": {"id": "MIT"}}],
    }


def needed(pins: Iterable[Pin], dependencies: Iterable[str]) -> frozenset[str]:
    """What the services import, and whatever that asks for."""
    children: dict[str, list[str]] = {}
    for pin in pins:
        for parent in pin.parents:
            children.setdefault(normal(parent), []).append(normal(pin.name))
    pending = [normal(re.split(r"[^A-Za-z0-9._-]", text)[0]) for text in dependencies]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += children.get(name, ())
    return frozenset(found)


def _dependencies(pins: Iterable[Pin], own: str, page: Sequence[str]) -> list[dict[str, Any]]:
    pins = list(pins)
    refs = {normal(pin.name): pin.purl for pin in pins}
    asked: dict[str, list[str]] = {own: [*page]}
    asked |= {purl: [] for purl in (*page, *refs.values())}
    for pin in pins:
        for parent in pin.parents:
            ref = own if parent == _ROOT_PARENT else refs[normal(parent)]
            asked[ref].append(pin.purl)
    return [{"ref": ref, "dependsOn": sorted(found)} for ref, found in asked.items()]


def normal(name: str) -> str:
    """PEP 503's spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    document = bill((ROOT / "requirements.lock").read_text(), project)
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
