"""The error tree: each leaf is complete, and the drawing of it is true."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from services.chassis import errors
from services.chassis.errors import FOREIGN_TEXT_LIMIT, MeshbusError, Status, shortened
from services.chassis.messages import ErrorReport

NUMBER_OF_GROUP = {
    "RequestError": "MB-1",
    "BusError": "MB-2",
    "ClusterError": "MB-3",
    "LifecycleError": "MB-4",
    "TranslatorError": "MB-5",
    "PerfError": "MB-6",
    "TopologyError": "MB-7",
    "MesheryError": "MB-8",
    "InternalError": "MB-9",
}


def walk(kind: type[MeshbusError], depth: int = 0) -> Iterator[tuple[int, type[MeshbusError]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        yield from walk(child, depth + 1)


TREE = [(depth, kind) for depth, kind in walk(MeshbusError) if kind.__module__ == errors.__name__]
LEAVES = [kind for _, kind in TREE if not kind.__subclasses__()]
every_leaf = pytest.mark.parametrize("leaf", LEAVES)


def test_the_drawing_is_the_tree() -> None:
    line = re.compile(r"    ([│ ├└─]*)(\w+Error|[A-Z]\w+)(?: +(MB-\d{4}))?")
    drawn = []
    for text in (errors.__doc__ or "").splitlines():
        if found := re.match(line, text):
            code = "" if found[3] is None else found[3]
            drawn.append((len(found[1]) // 4, found[2], code))
    real = [(depth, kind.__name__, kind.code if kind in LEAVES else "") for depth, kind in TREE]
    assert drawn == real


@every_leaf
def test_a_leaf_says_all_that_a_user_needs(leaf: type[MeshbusError]) -> None:
    assert re.fullmatch(r"MB-\d{4}", leaf.code)
    assert isinstance(leaf.status, Status)
    assert isinstance(leaf.retryable, bool)
    for text in (leaf.probable_cause, leaf.usual_remedy):
        assert len(text) > 10
        assert text == text.strip()
        assert not text.endswith(".")
        assert "\n" not in text
    assert "probable_cause" in vars(leaf)
    assert "usual_remedy" in vars(leaf)


@every_leaf
def test_a_code_belongs_to_its_group(leaf: type[MeshbusError]) -> None:
    ancestors = [kind.__name__ for kind in leaf.__mro__]
    prefix = next(NUMBER_OF_GROUP[name] for name in ancestors if name in NUMBER_OF_GROUP)
    assert leaf.code.startswith(prefix)


def test_codes_are_unique() -> None:
    codes = [leaf.code for leaf in LEAVES]
    assert len(codes) == len(set(codes))


def test_statuses_are_those_of_grpc() -> None:
    import grpc

    assert {status.value for status in Status} <= {code.name for code in grpc.StatusCode}


@every_leaf
def test_the_text_has_code_summary_cause_and_remedy(leaf: type[MeshbusError]) -> None:
    assert str(leaf("something failed")) == (
        f"{leaf.code}: something failed. Cause: {leaf.probable_cause}. Remedy: {leaf.usual_remedy}"
    )
    assert str(leaf("a", cause="b", remedy="c")) == f"{leaf.code}: a. Cause: b. Remedy: c"


@every_leaf
def test_a_report_is_the_error_as_it_travels(leaf: type[MeshbusError]) -> None:
    report = ErrorReport.of(leaf("it failed", subject="Deployment a/b"))
    assert report.code == leaf.code
    assert report.summary == "it failed"
    assert report.cause == leaf.probable_cause
    assert report.remedy == leaf.usual_remedy
    assert report.subject == "Deployment a/b"


def test_a_report_of_a_foreign_error_has_none_of_its_text() -> None:
    report = ErrorReport.of(ValueError("a secret of somebody"))
    assert report.code == errors.InternalError.code
    assert "ValueError" in report.summary
    assert "secret" not in report.model_dump_json()


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", ""),
        ("  a\n\tb\r\n c ", "a b c"),
        ("a" * FOREIGN_TEXT_LIMIT, "a" * FOREIGN_TEXT_LIMIT),
        ("a" * (FOREIGN_TEXT_LIMIT + 1), "a" * (FOREIGN_TEXT_LIMIT - 1) + "…"),
    ],
    ids=["empty", "blanks", "just short enough", "too long"],
)
def test_foreign_text_is_cut_to_one_line(text: str, short: str) -> None:
    assert shortened(text) == short
