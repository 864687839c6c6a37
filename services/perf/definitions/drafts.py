"""Whichever form a test is written in, read into one: its documents, its form, its fields.

JSON is read by JSON's parser first, because YAML takes some of its escapes for errors. What is not
JSON, or not quite, is left to YAML's parser, which is strict, bounded, and tells the line.

Documents of other kinds are left alone: Meshery sends whatever its editor happens to hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from services.chassis.errors import LoadTestMalformed, ManifestMalformed
from services.chassis.kube.manifests import SIZE_LIMIT_BYTES, parse_documents
from services.chassis.operations.bodies import API_VERSION
from services.perf.definitions.fields import checked_json
from services.perf.definitions.forms import (
    HAS_COURSE,
    HAS_TARGETS,
    Client,
    Form,
    MesheryQuery,
    SmpFile,
    SmpMesh,
    SmpTest,
)
from services.perf.definitions.options import KIND
from services.perf.definitions.problems import near, refuse, told

_FORMS = "docs/how-to/perf.md has the forms of a test"
_PARTS: dict[str, type[Form]] = {"test": SmpTest, "mesh": SmpMesh, "clients": Client}
_COURSES = ("stages", "ramp", "saturation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A test as it was written, in one form for all."""

    name: str
    labels: dict[str, str]
    mesh: str
    clients: list[Client]
    duration_s: float | None
    """None only where the options have a course."""
    places: list[str]
    """Where each client stands, for errors."""


# --- documents -----------------------------------------------------------------------------------


def documents(body: str) -> list[Any]:
    """The documents of a body; raises `LoadTestMalformed` for one that is neither YAML nor JSON."""
    if body.lstrip().startswith("{") and len(body) <= SIZE_LIMIT_BYTES:
        try:
            return [checked_json(body)]
        except (ValueError, RecursionError):
            pass
    try:
        return list(parse_documents(body))
    except ManifestMalformed as error:
        raise LoadTestMalformed(
            error.summary.replace("the manifest", "the test"),
            cause="the text cannot be read as YAML or JSON",
            remedy=f"correct the named line; {_FORMS}",
        ) from None


def sorted_out(found: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The test and the document of options, empty where there is none; raises
    `LoadTestMalformed`."""
    tests: list[dict[str, Any]] = []
    options: list[dict[str, Any]] = []
    for number, document in enumerate(found, start=1):
        if not isinstance(document, dict):
            refuse([f"document {number} is not a mapping; {_FORMS}"])
        kind, version = document.get("kind"), document.get("apiVersion")
        if (version, kind) == (API_VERSION, KIND):
            options.append(document)
        elif _is_meant(kind, version):
            refuse([f"document {number}: must be of apiVersion {API_VERSION} and kind {KIND}"])
        elif kind is None or version is None:
            tests.append(document)
    for what, some in (("performance test", tests), (KIND, options)):
        if len(some) > 1:
            refuse([f"the body holds more than one {what}"])
    if not tests:
        refuse([f"the body holds no performance test; {_FORMS}"])
    return tests[0], options[0] if options else {}


def _is_meant(kind: Any, version: Any) -> bool:
    """Whether the document is one of options with a slip in its head."""
    ours = isinstance(version, str) and version.startswith(API_VERSION.partition("/")[0])
    if not isinstance(kind, str):
        return ours
    return kind == KIND or (ours and bool(near(kind, [KIND])) and kind.lower().startswith("perf"))


# --- forms ---------------------------------------------------------------------------------------


def drafted(document: dict[str, Any], options: dict[str, Any]) -> tuple[Draft | None, list[str]]:
    """The test in `document`, or all that is wrong with its fields."""
    spec = options.get("spec")
    given = spec if isinstance(spec, dict) else {}
    context = {
        HAS_TARGETS: bool(given.get("targets")),
        HAS_COURSE: any(given.get(name) for name in _COURSES),
    }
    form = _form(document)
    if form is None:
        return None, [f"none of the fields is one of a performance test; {_FORMS}"]
    try:
        read = form.model_validate(document, context=context)
    except ValidationError as error:
        return None, told(error, place="", names_at=lambda at: _names_at(form, at))
    if isinstance(read, MesheryQuery):
        return _of_query(read), []
    if isinstance(read, SmpFile):
        return _of_smp(read.test, read.mesh, place="test."), []
    assert isinstance(read, SmpTest)
    return _of_smp(read, SmpMesh(), place=""), []


def _form(document: dict[str, Any]) -> type[Form] | None:
    names = set(document)
    if "test" in names or isinstance(document.get("mesh"), dict):
        return SmpFile
    smp, meshery = len(names & SmpTest.known()), len(names & MesheryQuery.known())
    if not smp and not meshery:
        return None
    return SmpTest if smp >= meshery else MesheryQuery


def _names_at(form: type[Form], location: tuple[int | str, ...]) -> list[str]:
    owner: type[Form] = form
    for part in location[:-1]:
        owner = _PARTS.get(str(part), owner)
    return list(owner.model_fields)


def _of_smp(test: SmpTest, mesh: SmpMesh, *, place: str) -> Draft:
    version = {"mesh_version": mesh.version} if mesh.version else {}
    return Draft(
        name=test.name,
        labels={**mesh.labels, **version, **test.labels},
        mesh=mesh.type,
        clients=test.clients,
        duration_s=test.duration,
        places=[f"{place}clients[{index}]" for index in range(len(test.clients))],
    )


def _of_query(query: MesheryQuery) -> Draft:
    return Draft(
        name=query.name,
        labels={},
        mesh=query.mesh,
        clients=[query.client()],
        duration_s=query.t,
        places=["the query"],
    )
