"""Reading a test: from the body of an operation or a question to one that can be cut.

Whatever is wrong is told at once, with its place. What only the whole can show (a certificate
without a TLS target, a generator that does not speak the protocol) is looked for when each field
has passed by itself. Nothing that stands in a test is dropped silently, because a load test that
quietly leaves a header or a stage out measures something else than its reader believes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from services.perf.definitions.addresses import checked_endpoint
from services.perf.definitions.drafts import Draft, documents, drafted, sorted_out
from services.perf.definitions.fields import MOST_CONNECTIONS
from services.perf.definitions.forms import Client
from services.perf.definitions.loads import (
    GeneratorName,
    LoadTest,
    LostWorker,
    Protocol,
    Stage,
    Target,
)
from services.perf.definitions.options import (
    MOST_RATE,
    MOST_TARGETS,
    PerformanceOptions,
    checked_stage,
    parse_options,
)
from services.perf.definitions.problems import refuse

_HTTP = (Protocol.HTTP1, Protocol.HTTP2)


def read_test(body: str) -> tuple[LoadTest, PerformanceOptions]:
    """The test in `body`, and the options beside it.

    Raises `LoadTestMalformed` with every problem and its place.
    """
    document, beside = sorted_out(documents(body))
    options, problems = parse_options(beside) if beside else (PerformanceOptions(), [])
    draft, found = drafted(document, beside)
    if draft is None or options is None:
        refuse([*found, *problems])
    problems = [*_contradictions(draft, options), *_totals(draft)]
    targets, found = _targets(draft, options)
    problems += found
    stages, found = _stages(draft, options)
    problems += found
    problems += _beyond_wrk2(draft, targets, stages)
    if problems:
        refuse(list(dict.fromkeys(problems)))
    test = LoadTest(
        name=draft.name,
        generator=draft.clients[0].load_generator,
        targets=targets,
        stages=stages,
        saturation=options.saturation.bounds() if options.saturation else None,
        objective=options.objective.wanted() if options.objective else None,
        connections=sum(client.connections for client in draft.clients),
        workers=options.workers,
        on_lost_worker=LostWorker(options.onLostWorker),
        labels=draft.labels,
        mesh=draft.mesh,
        prometheus=options.prometheus,
        service=options.service,
        baseline=options.baseline,
    )
    return test, options


def _contradictions(draft: Draft, options: PerformanceOptions) -> Iterator[str]:
    """What fits its field and not its neighbours."""
    for place, client in zip(draft.places, draft.clients, strict=True):
        names = {name.lower() for name in client.headers}
        if client.load_generator is not draft.clients[0].load_generator:
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
        if bool(client.rps) is not bool(draft.clients[0].rps):
            yield f"{place}.rps: either all clients have a rate or none has"
    if options.http2 and not any(client.protocol in _HTTP for client in draft.clients):
        yield "spec.http2: the test has no HTTP target"
    if options.targets and len(draft.clients) > 1:
        yield "spec.targets: exclude several clients, because it is not told whose they are"


def _totals(draft: Draft) -> Iterator[str]:
    if sum(client.rps for client in draft.clients) > MOST_RATE:
        yield f"the rates of all clients must be at most {MOST_RATE} together"
    if sum(client.connections for client in draft.clients) > MOST_CONNECTIONS:
        yield f"the connections of all clients must be at most {MOST_CONNECTIONS} together"


def _targets(draft: Draft, options: PerformanceOptions) -> tuple[list[Target], list[str]]:
    targets: list[Target] = []
    problems = []
    if options.targets:
        client = draft.clients[0]
        for index, option in enumerate(options.targets):
            try:
                url = checked_endpoint(option.url, client.protocol)
            except ValueError as error:
                problems.append(f"spec.targets[{index}].url: {error}")
            else:
                targets.append(_target(url, client, options, weight=option.weight))
        problems += _unused_certificate(draft.places[0], targets)
    else:
        for place, client in zip(draft.places, draft.clients, strict=True):
            share = (client.rps or client.connections) / len(client.endpoint_urls)
            own = [_target(url, client, options, weight=share) for url in client.endpoint_urls]
            problems += _unused_certificate(place, own)
            targets += own
        if len({target.weight for target in targets}) == 1:
            targets = [target.model_copy(update={"weight": 1.0}) for target in targets]
    if len(targets) > MOST_TARGETS:
        problems.append(f"there must be at most {MOST_TARGETS} URLs in all")
    return targets, problems


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


def _stages(draft: Draft, options: PerformanceOptions) -> tuple[list[Stage], list[str]]:
    if options.saturation is not None or options.course:
        return options.course, []
    rate = sum(client.rps for client in draft.clients)
    assert draft.duration_s is not None  # the form has seen to it
    try:
        return [checked_stage(rate, draft.duration_s)], []
    except ValueError as error:
        return [], [f"{draft.places[0]}: {error}"]


def _beyond_wrk2(draft: Draft, targets: Iterable[Target], stages: Iterable[Stage]) -> Iterator[str]:
    if draft.clients[0].load_generator is not GeneratorName.WRK2:
        return
    if any(target.protocol is not Protocol.HTTP1 for target in targets):
        yield "wrk2 speaks HTTP/1.1 only; take fortio"
    if any(not stage.rate for stage in stages):
        yield "wrk2 needs a rate; take fortio for as fast as possible"
