"""Reads a test: from the body of an operation or a question to one that can be cut into shards.

One error names all problems with their places, so that people correct a file in one go. Conflicts
between fields (a certificate without a TLS target, a generator that does not speak the protocol)
are looked for when each field has passed by itself. No field is dropped silently, because a load
test that quietly leaves a header or a stage out measures something else than its reader believes.

JSON is read by JSON's parser first, because YAML takes some of its escapes for errors. What is not
JSON, or not quite, is left to YAML's parser, which is strict, bounded, and tells the line.
Documents of other kinds are left alone: Meshery sends all that its editor holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from services.chassis.errors import LoadTestMalformed, ManifestMalformed
from services.chassis.kube.manifests import SIZE_LIMIT_BYTES, parse_documents
from services.chassis.operations.bodies import API_VERSION
from services.chassis.reading.jsons import read_strict_json
from services.perf.definitions.fields import (
    MOST_CONNECTIONS,
    MOST_RATE,
    MOST_TARGETS,
    checked_endpoint,
)
from services.perf.definitions.forms import (
    HAS_COURSE,
    HAS_TARGETS,
    Client,
    InputForm,
    MesheryQuery,
    SmpFile,
    SmpTest,
)
from services.perf.definitions.loads import (
    GeneratorName,
    LoadTest,
    LostWorker,
    Protocol,
    Stage,
    Target,
)
from services.perf.definitions.options import KIND, PerformanceOptions, checked_stage
from services.perf.definitions.problems import near, problems_in, refuse

_FORMS = "docs/how-to/perf.md has the forms of a test"
_COURSES = ("stages", "ramp", "saturation")
_HTTP = (Protocol.HTTP1, Protocol.HTTP2)


def read_test(body: str) -> tuple[LoadTest, PerformanceOptions]:
    """The test in `body`, and the options beside it.

    Raises `LoadTestMalformed` with every problem and its place.
    """
    document, beside = _sorted_out(_documents(body))
    problems: list[str] = []
    form = _form_of(document)
    file = _read_file(form, document, beside, problems)
    options = _read_options(beside, problems)
    if file is None or options is None:
        refuse(problems)
    clients = file.test.clients
    places = [_place(form, index) for index in range(len(clients))]
    problems += _contradictions(clients, places, options)
    problems += _totals(clients)
    targets = _targets(clients, places, options, problems)
    stages = _stages(file.test, places[0], options, problems)
    problems += _beyond_wrk2(clients[0], targets, stages)
    if problems:
        refuse(list(dict.fromkeys(problems)))
    test = LoadTest(
        name=file.test.name,
        generator=clients[0].load_generator,
        targets=targets,
        stages=stages,
        saturation=options.saturation.bounds() if options.saturation else None,
        objective=options.objective.wanted() if options.objective else None,
        connections=sum(client.connections for client in clients),
        workers=options.workers,
        on_lost_worker=LostWorker(options.onLostWorker),
        labels=file.labels,
        mesh=file.mesh.type,
        prometheus=options.prometheus,
        service=options.service,
        baseline=options.baseline,
        replaces_baseline=options.replaceBaseline,
    )
    return test, options


# --- documents -----------------------------------------------------------------------------------


def _documents(body: str) -> list[Any]:
    """The documents of a body; raises `LoadTestMalformed` for one that is neither YAML nor JSON."""
    if body.lstrip().startswith("{") and len(body) <= SIZE_LIMIT_BYTES:
        try:
            return [read_strict_json(body)]
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


def _sorted_out(found: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
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


def _form_of(document: dict[str, Any]) -> type[InputForm] | None:
    """The form whose fields the document has; None when it has none of any."""
    names = set(document)
    if "test" in names or isinstance(document.get("mesh"), dict):
        return SmpFile
    smp, meshery = len(names & SmpTest.known()), len(names & MesheryQuery.known())
    if not smp and not meshery:
        return None
    return SmpTest if smp >= meshery else MesheryQuery


def _read_file(
    form: type[InputForm] | None,
    document: dict[str, Any],
    options: dict[str, Any],
    problems: list[str],
) -> SmpFile | None:
    """The test as an SMP file, from any of the forms; None when its fields have problems."""
    if form is None:
        problems.append(f"none of the fields is one of a performance test; {_FORMS}")
        return None
    spec = options.get("spec")
    given = spec if isinstance(spec, dict) else {}
    context = {
        HAS_TARGETS: bool(given.get("targets")),
        HAS_COURSE: any(given.get(name) for name in _COURSES),
    }
    try:
        read = form.model_validate(document, context=context)
    except ValidationError as error:
        problems += problems_in(error, form, place="")
        return None
    if isinstance(read, SmpTest):
        return SmpFile.model_construct(test=read)
    assert isinstance(read, SmpFile | MesheryQuery)
    return read.as_smp() if isinstance(read, MesheryQuery) else read


def _read_options(document: dict[str, Any], problems: list[str]) -> PerformanceOptions | None:
    """The options in their document; None when there are problems with them."""
    extra = sorted(set(document) - {"apiVersion", "kind", "metadata", "spec"})
    if extra:
        problems.append(f"{KIND}: what stands beside spec belongs into it")
    spec = document.get("spec")
    try:
        options = PerformanceOptions.model_validate({} if spec is None else spec, strict=True)
    except ValidationError as error:
        problems += problems_in(error, PerformanceOptions, place="spec")
        return None
    return None if extra else options


def _place(form: type[InputForm] | None, index: int) -> str:
    """Where a client stands in a form, for errors."""
    if form is MesheryQuery:
        return "the query"
    return f"test.clients[{index}]" if form is SmpFile else f"clients[{index}]"


# --- the whole -----------------------------------------------------------------------------------


def _contradictions(
    clients: Sequence[Client], places: Sequence[str], options: PerformanceOptions
) -> Iterator[str]:
    """Fields that exclude each other."""
    for place, client in zip(places, clients, strict=True):
        names = {name.lower() for name in client.headers}
        if client.load_generator is not clients[0].load_generator:
            yield f"{place}.load_generator: must be the same for all clients"
        if client.cookies and "cookie" in names:
            yield f"{place}: cookies and a header Cookie exclude each other"
        if client.content_type and "content-type" in names:
            yield f"{place}: a content type and a header Content-Type exclude each other"
        if client.protocol is Protocol.TCP and (names or client.cookies):
            yield f"{place}: TCP has no headers and no cookies"
        if client.protocol not in _HTTP and client.content_type:
            yield f"{place}: only HTTP has a content type"
        if client.protocol is Protocol.GRPC and client.body:
            yield f"{place}.body: a gRPC test calls the health check, which takes none"
        if bool(client.rps) is not bool(clients[0].rps):
            yield f"{place}.rps: either all clients have a rate or none has"
    if options.http2 and not any(client.protocol in _HTTP for client in clients):
        yield "spec.http2: the test has no HTTP target"
    if options.targets and len(clients) > 1:
        yield "spec.targets: exclude several clients, because it is not told whose they are"


def _totals(clients: Sequence[Client]) -> Iterator[str]:
    if sum(client.rps for client in clients) > MOST_RATE:
        yield f"the rates of all clients must be at most {MOST_RATE} together"
    if sum(client.connections for client in clients) > MOST_CONNECTIONS:
        yield f"the connections of all clients must be at most {MOST_CONNECTIONS} together"


def _targets(
    clients: Sequence[Client],
    places: Sequence[str],
    options: PerformanceOptions,
    problems: list[str],
) -> list[Target]:
    """The options' targets with the first client's fields, or the URLs of all clients."""
    targets: list[Target] = []
    if options.targets:
        for index, option in enumerate(options.targets):
            try:
                url = checked_endpoint(option.url, clients[0].protocol)
            except ValueError as error:
                problems.append(f"spec.targets[{index}].url: {error}")
            else:
                targets.append(_target(url, clients[0], options, weight=option.weight))
        problems += _unused_certificate(places[0], targets)
    else:
        for place, client in zip(places, clients, strict=True):
            share = (client.rps or client.connections) / len(client.endpoint_urls)
            own = [_target(url, client, options, weight=share) for url in client.endpoint_urls]
            problems += _unused_certificate(place, own)
            targets += own
        if len({target.weight for target in targets}) == 1:
            targets = [target.model_copy(update={"weight": 1.0}) for target in targets]
    if len(targets) > MOST_TARGETS:
        problems.append(f"there must be at most {MOST_TARGETS} URLs in all")
    return targets


def _target(url: str, client: Client, options: PerformanceOptions, *, weight: float) -> Target:
    headers = dict(client.headers)
    if client.cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    is_http2 = options.http2 and client.protocol is Protocol.HTTP1
    return Target(
        url=url,
        weight=weight,
        protocol=Protocol.HTTP2 if is_http2 else client.protocol,
        headers=headers,
        body=client.body,
        content_type=client.content_type,
        insecure=options.insecure,
        ca_certificate=client.ssl_certificate,
        timeout_s=options.timeoutSeconds,
    )


def _unused_certificate(place: str, targets: Sequence[Target]) -> Iterator[str]:
    if any(target.ca_certificate for target in targets) and not any(map(_has_tls, targets)):
        yield f"{place}.ssl_certificate: none of the targets speaks TLS"


def _has_tls(target: Target) -> bool:
    # gRPC without a scheme speaks TLS when there is a certificate to check it by.
    return target.url.lower().startswith("https://") or target.protocol is Protocol.GRPC


def _stages(
    test: SmpTest, place: str, options: PerformanceOptions, problems: list[str]
) -> list[Stage]:
    if options.saturation is not None or options.course:
        return options.course
    assert test.duration is not None  # the form has seen to it
    try:
        return [checked_stage(sum(client.rps for client in test.clients), test.duration)]
    except ValueError as error:
        problems.append(f"{place}: {error}")
        return []


def _beyond_wrk2(
    client: Client, targets: Iterable[Target], stages: Iterable[Stage]
) -> Iterator[str]:
    if client.load_generator is not GeneratorName.WRK2:
        return
    if any(target.protocol is not Protocol.HTTP1 for target in targets):
        yield "wrk2 speaks HTTP/1.1 only; take fortio"
    if any(not stage.rate for stage in stages):
        yield "wrk2 needs a rate; take fortio for as fast as possible"
