"""The bill of materials and the audit: all that is pinned, and no silence taken for a good word."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from typing import Any

import pytest

from deploy.auditing import AuditImpossible, asked, command
from deploy.bom import ROOT, bill, read_lock
from deploy.bundling import libraries

LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return bill(LOCK, PROJECT)


def test_every_pin_is_in_the_bill_with_its_hashes(document: dict[str, Any]) -> None:
    pins = re.findall(r"^([\w.-]+)(?:\[.*\])?==([^\s;\\]+)", LOCK, re.M)
    found = [(one["name"], one["version"]) for one in document["components"]]
    page = [(library.name, library.version) for library in libraries()]
    assert found == pins + page
    hashes = [
        hashed["content"]
        for one in document["components"]
        for reference in one.get("externalReferences", ())
        for hashed in reference["hashes"]
    ]
    assert hashes == re.findall(r"sha256:([0-9a-f]{64})", LOCK)


def test_the_services_own_are_told_from_tools(document: dict[str, Any]) -> None:
    scopes = {one["name"]: one["scope"] for one in document["components"]}
    asked_for = {re.split(r"[^\w.-]", text)[0].lower() for text in PROJECT["dependencies"]}
    assert {scopes[name] for name in asked_for} == {"required"}
    # One that aiohttp asks for, the page's, and those of tests.
    assert (scopes["multidict"], scopes["cytoscape"]) == ("required", "required")
    assert "esbuild" not in scopes
    assert (scopes["pytest"], scopes["mypy"]) == ("excluded", "excluded")


def test_every_reference_is_there_once(document: dict[str, Any]) -> None:
    own = document["metadata"]["component"]["bom-ref"]
    refs = [own, *(one["bom-ref"] for one in document["components"])]
    assert len(set(refs)) == len(refs)
    assert sorted(one["ref"] for one in document["dependencies"]) == sorted(refs)
    assert {ref for one in document["dependencies"] for ref in one["dependsOn"]} == set(refs) - {
        own
    }


def test_the_same_lock_gives_the_same_bytes(document: dict[str, Any]) -> None:
    assert json.dumps(bill(LOCK, PROJECT)) == json.dumps(document)
    other = bill(LOCK.replace(read_lock(LOCK)[0].hashes[0], "0" * 64), PROJECT)
    assert other["serialNumber"] != document["serialNumber"]


def _saying(text: str, *, status: int = 0) -> list[str]:
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({status})"]


def test_a_vulnerability_is_told_with_its_mending() -> None:
    vulnerable = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": []}
    answer = {
        "dependencies": [
            {"name": "a", "version": "1.0", "vulns": [vulnerable]},
            {"name": "b", "version": "1.0", "vulns": []},
            {"name": "c", "skip_reason": "unknown"},
        ]
    }
    assert asked(_saying(json.dumps(answer), status=1)) == ["a 1.0: PYSEC-2026-1, mended in 1.1"]


@pytest.mark.parametrize("said", [[], ["/does/not/exist"], _saying("no route to host", status=1)])
def test_no_answer_is_no_good_word(said: list[str]) -> None:
    with pytest.raises(AuditImpossible):
        asked(said or _saying(""))


def test_the_audit_asks_about_the_lock_and_installs_nothing_of_it() -> None:
    assert str(ROOT / "requirements.lock") in command()
    assert {"--disable-pip", "--require-hashes"} <= set(command())
