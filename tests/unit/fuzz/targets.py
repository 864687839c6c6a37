"""The parsers, and which errors they may have."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from google.protobuf.message import DecodeError

from proto import meshops_pb2 as pb
from services.chassis.bus import envelopes
from services.chassis.errors import MeshbusError
from services.chassis.kube.kubeconfigs import parse_kubeconfig, select_context
from services.chassis.kube.manifests import parse_manifest
from services.chassis.messages import Command, Event, Plan
from services.chassis.operations.bodies import find_options
from services.chassis.policy import PolicyMalformed, read_policy
from services.chassis.reading.inflating import inflated
from services.chassis.reading.jsons import read_json, read_strict_json
from services.chassis.reading.limits import Budget
from services.chassis.reading.packs import read_msgpack
from services.chassis.reading.protobufs import require_few_fields
from services.chassis.reading.yamls import YamlProblem, document_places, read_yaml_documents
from services.gateway import designs, wire
from services.lifecycle.applications.samples import ApplicationOptions
from services.lifecycle.mesh.requests import parse_request
from services.perf.definitions.reading import read_test
from services.translator.designs import read_declarations, read_oam
from services.translator.documents import read_input
from services.translator.intents import routing

_LIMIT = 4 * 1024 * 1024


def _yaml(body: bytes) -> None:
    """What is read has a place for each of its values, and JSON can carry it."""
    text = _text(body)
    documents = list(read_yaml_documents(text, budget=Budget.fresh(nodes=500)))
    places = list(document_places(text))
    assert len(places) == len(documents)
    orjson.dumps(documents)
    for document, place in zip(documents, places, strict=True):
        if isinstance(document, list):
            assert len(place.parts) == len(document)


def _json(body: bytes) -> None:
    """The count before is no less than what is there."""
    value = read_json(body, budget=Budget.fresh(nodes=100, is_shared=True))
    assert _count(value) <= 100


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + _count(part) for part in value.values())
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


def _msgpack(body: bytes) -> None:
    budget = Budget.fresh(nodes=min(len(body), 50))
    value = read_msgpack(body, budget=budget)
    assert len(body) <= 50 or _count(value) <= 50


def _message(body: bytes) -> None:
    encodings: list[Mapping[str, str]] = [
        {},
        {envelopes.CONTENT_TYPE: envelopes.JSON},
        {envelopes.CONTENT_TYPE: envelopes.MSGPACK},
        {envelopes.CONTENT_ENCODING: envelopes.DEFLATE},
    ]
    for headers in encodings:
        for model in (Command, Event, Plan):
            try:
                envelopes.decode(model, body, headers)
            except MeshbusError:
                continue


def _request(body: bytes) -> None:
    require_few_fields(body, most=20)
    try:
        request = pb.ApplyRuleRequest.FromString(body)
    except DecodeError:
        return
    wire.operation_request(request, body_limit=_LIMIT)


def _call(body: bytes) -> None:
    parts = _text(body).split("\n~\n")
    designs.provision_body(parts, limit=_LIMIT)
    designs.process_oam_body(parts[1:], parts[0], limit=_LIMIT)


def _options(body: bytes) -> None:
    text = _text(body)
    for kind, model in (
        (routing.KIND, routing.RoutingOptions),
        ("ApplicationOptions", ApplicationOptions),
    ):
        find_options(f"{text}\n# meshbus.io/v1 {kind}", kind, model)


def _design(body: bytes) -> None:
    parts = _text(body).split("\n~\n")
    read_declarations(parts)
    read_oam(parts[1:], parts[0])


def _text(body: bytes) -> str:
    """As gRPC and the bus hand texts on: they are UTF-8."""
    return body.decode("utf-8", "replace")


TARGETS: dict[str, Callable[[bytes], object]] = {
    "yaml": _yaml,
    "json": _json,
    "strict-json": lambda body: read_strict_json(_text(body)),
    "msgpack": _msgpack,
    "deflate": inflated,
    "message": _message,
    "request": _request,
    "call": _call,
    "kubeconfig": lambda body: parse_kubeconfig(_text(body)),
    "context": lambda body: select_context(_text(body), "one"),
    "manifest": lambda body: parse_manifest(_text(body)),
    "registrants": lambda body: designs.without_registrants("# registrant\n" + _text(body)),
    "input": lambda body: read_input(_text(body)),
    "options": _options,
    "overlay": lambda body: parse_request(_text(body)),
    "design": _design,
    "test": lambda body: read_test(_text(body)),
    "policy": lambda body: read_policy(_text(body)),
}
_OWN_WORDS: dict[str, tuple[type[Exception], ...]] = {
    "yaml": (YamlProblem,),
    "json": (ValueError,),
    "strict-json": (ValueError, RecursionError),
    "msgpack": (ValueError,),
    "deflate": (ValueError,),
    "policy": (PolicyMalformed,),
}


def run(name: str, body: bytes) -> None:
    """Gives a parser the bytes; what it raises in its own words is well."""
    with contextlib.suppress(MeshbusError, *_OWN_WORDS.get(name, ())):
        TARGETS[name](body)
