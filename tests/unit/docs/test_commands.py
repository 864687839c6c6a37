"""What pages tell people to type is there: targets, modules, questions, settings, codes."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from docs import asyncapi, generate, site
from services.chassis import errors

PAGES = [page for page in site.pages() if page.name != "CHANGELOG.md"]
TODAY = [page for page in PAGES if page.parent.name != "decisions"]
"""Without the decisions, which tell of their own time too."""
MAKEFILE = (site.ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
VARIABLES = {*re.findall(r"\$\((?:foreach \w+,\$\()?([A-Z]+)\)", MAKEFILE), "KEEP"}
QUESTIONS = {
    f"{service}.{query.verb}": set(asyncapi.fields_of(query.usage))
    for service, query in asyncapi.questions()
}
CODES = {leaf.code for leaf in errors.leaves(errors.MeshbusError)}
SETTINGS = {
    f"{group.model_config.get('env_prefix', '')}{name.upper()}"
    for group in generate.GROUPS
    for name in group.model_fields
}
ELSEWHERE = {
    "MESHBUS_PORT_OFFSET": "of the launcher",
    "MESHBUS_NATS_STORE_KEY": "of the NATS server's configuration",
    "MESHBUS_UID": "of the Compose file",
    "MESHBUS_GID": "of the Compose file",
    "MESHBUS_TEST_QUIET_S": "of a test",
}
"""Variables that no service reads."""


_CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.M | re.S)


def every(pattern: str, *, pages: Sequence[Path] = PAGES) -> Iterator[tuple[Path, re.Match[str]]]:
    """Where a pattern stands in the code of pages."""
    for page in pages:
        for code in _CODE.finditer((site.ROOT / page).read_text()):
            for found in re.finditer(pattern, code[1] or code[2], re.M):
                yield page, found


def test_targets_of_make_are_in_the_makefile() -> None:
    wrong = {
        f"{page}: {found[0]}"
        for page, found in every(r"(?:^|[A-Z]=\S+ )make ([a-z-]+)((?: [A-Z]+=\S*)*)")
        if found[1] not in TARGETS or not set(re.findall(r" ([A-Z]+)=", found[2])) <= VARIABLES
    }
    assert wrong == set()


def test_modules_can_be_run() -> None:
    wrong = {
        f"{page}: {found[1]}"
        for page, found in every(r"python -m ([a-z_.]+[a-z_])")
        if not is_module(found[1])
    }
    assert wrong == set()


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_questions_are_answered() -> None:
    wrong = {
        f"{page}: {found[1]}"
        for page, found in every(r"mesh\.([a-z]+\.[a-z]+)\b(?!\.<)")
        if found[1] not in QUESTIONS
    }
    assert wrong == set()


def test_questions_have_the_fields_that_are_asked_with() -> None:
    asked = list(every(r"mesh\.([a-z]+\.[a-z]+)(?:\.as\.\w+)?(?: \\\n)?\s+'(\{.*?\})'"))
    assert len(asked) > 10
    for page, found in asked:
        # Of the question itself, and not of a value with fields of its own.
        named = set(re.findall(r'"(\w+)":', re.sub(r"(?<=.)\{[^{}]*\}", "", found[2])))
        assert named <= QUESTIONS[found[1]], f"{page}: {found[0]}"


def test_settings_are_known() -> None:
    known = {*SETTINGS, *ELSEWHERE}
    wrong = {
        f"{page}: {found[1]}"
        for page, found in every(r"\b(MESHBUS_[A-Z_]+[A-Z])\b(?!_?[…{])", pages=TODAY)
        if found[1] not in known
    }
    assert wrong == set()


def test_codes_are_errors() -> None:
    wrong = {
        f"{page}: {found[0]}" for page, found in every(r"\bMB-\d{4}\b") if found[0] not in CODES
    }
    assert wrong == set()
