"""The house keeps its order: rooms of a size, each with a docstring, and a map that is right."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
MAP = ROOT / "docs" / "explanation" / "architecture.md"
MOST_MODULES = 16
"""In one folder beside its folders, `__init__` not counted."""

FOLDERS = sorted(path.parent for path in SERVICES.rglob("__init__.py"))
_PATH = re.compile(
    r"`((?:services/)?(?:chassis|gateway|lifecycle|translator|perf|topology)/[\w/]+(?:\.py)?)`"
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(SERVICES)))
def test_a_folder_says_what_it_is_about_and_is_read_at_a_glance(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, sorted(modules)


PARSERS = {
    "yaml": {"compose", "compose_all", "load", "load_all", "parse", "safe_load", "scan"},
    "msgpack": {"Unpacker", "unpack", "unpackb"},
    "json": {"load", "loads"},
    "zlib": {"decompress", "decompressobj"},
    "orjson": {"loads"},
}
"""Calls that build whatever a text holds."""
ELSEWHERE = {
    "chassis/bus/streams.py": "what the NATS server says",
    "chassis/prometheus.py": "an answer, bounded in bytes",
    "lifecycle/manifests/records.py": "an object that lifecycle has laid out itself",
    "lifecycle/mesh/installing.py": "an object that lifecycle has laid out itself",
    "lifecycle/mesh/safety.py": "an object that lifecycle has laid out itself",
    "perf/generators/fortio.py": "lines of a generator that perf has started",
    "topology/drift/fieldsets.py": "a part of a path, out of an object that has been read",
    "topology/feed/rendering.py": "items that topology has laid out itself",
    "topology/feed/views.py": "items that topology has laid out itself",
}
"""Where JSON is read without the budget, and whose it is."""


@pytest.mark.parametrize(
    "module", sorted(SERVICES.rglob("*.py")), ids=lambda path: str(path.relative_to(SERVICES))
)
def test_what_others_wrote_is_read_within_a_budget(module: Path) -> None:
    name = str(module.relative_to(SERVICES))
    if name.startswith("chassis/reading/"):
        return
    if name == "chassis/http/answers.py":
        return  # gzip in pieces, by a ratio of its own
    called = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.attr in PARSERS.get(node.value.id, ())
    }
    assert called <= ({"orjson.loads"} if name in ELSEWHERE else set())


def test_the_map_names_places_that_are_there() -> None:
    named = {match.removeprefix("services/") for match in _PATH.findall(MAP.read_text())}
    assert named, "the pattern finds no place at all"
    assert [name for name in sorted(named) if not (SERVICES / name).exists()] == []


def test_the_map_has_every_folder() -> None:
    text = MAP.read_text()
    missing = [
        str(folder.relative_to(SERVICES))
        for folder in FOLDERS
        if folder.parent.parent == SERVICES and f"`{folder.relative_to(SERVICES)}`" not in text
    ]
    assert missing == []


def test_what_is_shipped_needs_no_tests() -> None:
    shipped = [*SERVICES.rglob("*.py"), *(ROOT / "deploy").rglob("*.py")]
    named = [
        path for path in shipped if re.search(r"^\s*(from|import) tests\b", path.read_text(), re.M)
    ]
    assert named == []


def test_every_fault_has_its_tests() -> None:
    text = (ROOT / "docs" / "explanation" / "faults.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 21))
    for number, tests in rows:
        places = re.findall(r"`((?:faults|real|system|unit)/[\w/]+(?:\.py)?)`", tests)
        assert places, f"row {number} names no test"
        assert [place for place in places if not (ROOT / "tests" / place).exists()] == []
