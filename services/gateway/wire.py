"""RPC ⇄ messages, pure: the words of Meshery's contract and ours.

Strings that Meshery matches are contract and come from the worker that says them ("mesh is now
installed", "removed"); nothing here may add such a word to a text. Of an event Meshery shows the
summary alone, without its severity, so figures and severity become words of it here; on the bus
they are fields. The table is `docs/reference/meshery.md`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proto import meshops_pb2 as pb
from services.chassis.errors import MalformedRequest, RequestTooLarge
from services.chassis.messages import (
    AdvertisedOperation,
    ErrorReport,
    Event,
    Phase,
    Severity,
    Verb,
)
from services.chassis.messages.following import followed_operation
from services.gateway import designs

MESH = "ISTIO"
COMPONENT = "adapter"
NO_ERROR = "none"
"""What the real adapter puts into `SupportedOperationsResponse.error` when there is none."""

_EVENT_TYPES = {
    Severity.INFO: pb.EventType.INFO,
    Severity.WARN: pb.EventType.WARN,
    Severity.ERROR: pb.EventType.ERROR,
}
_LONGEST_ID = 128
_LONGEST_NAME = 256
# Go's gRPC takes messages of 4 MiB; a character has up to four bytes.
_LONGEST_DETAILS = 512 * 1024
_COUNTED = (
    "objects",
    "created",
    "applied",
    "pruned",
    "deleted",
    "wrong",
    "warnings",
    "notes",
    "cases",
    "passed",
)
"""Numbers of an end that its summary tells; a performance test's summary has its own."""
_PLURALS = ("objects", "warnings", "notes", "cases")
# mesheryctl takes an event with this word for a failure, whatever the event is; in a name, too.
_TRIPPING = re.compile("(err)(or)", re.IGNORECASE)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRequest:
    """A checked ApplyRuleRequest without its kubeconfigs."""

    operation: str
    """"" where the client sent none (generations A0 and A1)."""
    kind: str
    verb: Verb
    namespace: str
    username: str
    version: str
    body: str
    size: int
    """Bytes of the body."""


def operation_request(request: pb.ApplyRuleRequest, *, body_limit: int) -> OperationRequest:
    """The request's fields, checked; raises `MalformedRequest` or `RequestTooLarge`."""
    # Each time that the message is asked, it makes a text anew.
    body = request.custom_body
    size = len(body.encode())
    if size > body_limit:
        raise RequestTooLarge(f"custom_body has {size} bytes, the limit is {body_limit}")
    return OperationRequest(
        operation=_id(request.operation_id),
        kind=_plain("opName", request.opName, longest=_LONGEST_NAME),
        verb=Verb.DELETE if request.delete_op else Verb.APPLY,
        namespace=_namespace(request.namespace),
        username=_plain("username", request.username, longest=_LONGEST_NAME),
        version=_plain("version", request.version, longest=_LONGEST_NAME),
        body=designs.without_registrants(body),
        size=size,
    )


def design_request(*, username: str, delete: bool, body: str) -> OperationRequest:
    """ProcessOAM and Provision as an operation; components bring their own namespaces."""
    return OperationRequest(
        operation=str(uuid.uuid4()),
        kind=designs.KIND,
        verb=Verb.DELETE if delete else Verb.APPLY,
        namespace="default",
        username=_plain("username", username, longest=_LONGEST_NAME),
        version="",
        body=body,
        size=len(body.encode()),
    )


def design_lines(finals: Mapping[str, Event], names: Mapping[str, str]) -> list[str]:
    """One line for each component and cluster; a failed or an unfinished cluster says so."""
    lines: list[str] = []
    for cluster, name in names.items():
        event = finals.get(cluster)
        if event is None:
            lines.append(f"{name}: not finished in time")
        elif event.phase is Phase.DONE:
            told = event.details.splitlines() or [event.summary]
            lines += [f"{name}: {line}" for line in told]
        else:
            told = f"{event.summary}. {event.details}".splitlines()
            lines += [f"{name}: {line.strip()}" for line in told if line.strip()]
    return lines


def _id(text: str) -> str:
    """An id of the caller's own. Those of followings say whose events they are, so nobody picks
    one."""
    if followed_operation(text):
        raise MalformedRequest(
            "operation_id has the form of a following's, which Meshbus gives itself",
            remedy="end it otherwise than with -follow-<number>-<letters>",
        )
    return _plain("operation_id", text, longest=_LONGEST_ID)


def _plain(field: str, text: str, *, longest: int) -> str:
    if len(text) > longest:
        raise MalformedRequest(f"{field} has {len(text)} characters, the limit is {longest}")
    # Outer blanks would vanish from a header and make two ids one.
    if not text.isprintable() or text != text.strip():
        raise MalformedRequest(f"{field} holds control characters or outer blanks")
    return text


def _namespace(text: str) -> str:
    namespace = text or "default"
    if not _DNS_LABEL.match(namespace):
        raise MalformedRequest(
            f"namespace {namespace[:64]!r} is not a namespace's name",
            cause="a name has at most 63 of the characters a-z, 0-9 and -, and no - at its ends",
        )
    return namespace


def events_response(event: Event) -> pb.EventsResponse:
    """An event as StreamEvents sends it."""
    summary = _with_severity(_with_cluster(event.summary, event.cluster_name), event.severity)
    response = pb.EventsResponse(
        event_type=_EVENT_TYPES[event.severity],
        summary=summary + _figures(event),
        details=_cut(event.details),
        operation_id=event.operation,
        component=COMPONENT,
        component_name=MESH,
    )
    if event.error is not None:
        response.probable_cause = event.error.cause
        response.suggested_remediation = event.error.remedy
        response.error_code = event.error.code
        response.details = response.details or _error_text(event.error)
    if event.severity is not Severity.ERROR:
        response.summary = _harmless(response.summary)
        response.details = _harmless(response.details)
    return response


def _with_severity(summary: str, severity: Severity) -> str:
    """Meshery shows every event alike, so the words say what is bad."""
    begins = summary.casefold()
    if severity is Severity.WARN and not begins.startswith(("warning", "cancelled")):
        return f"Warning: {summary}"
    if severity is Severity.ERROR and "error" not in begins:
        return f"Error: {summary}"
    return summary


def _figures(event: Event) -> str:
    """What an end's numbers add to its summary."""
    told = [_counted(name, event.numbers[name]) for name in _COUNTED if event.numbers.get(name)]
    if event.phase is not Phase.DONE or not told:
        return ""
    seconds = event.numbers.get("seconds")
    return f": {', '.join(told)}" + (f" in {seconds:.1f} s" if seconds is not None else "")


def _counted(name: str, value: float) -> str:
    return f"{value:g} {name[:-1] if value == 1 and name in _PLURALS else name}"


def _harmless(text: str) -> str:
    """The text without the word that ends mesheryctl's waiting: names may bring it in."""
    return _TRIPPING.sub("\\1·\\2", text)


def _with_cluster(summary: str, cluster_name: str) -> str:
    """Adds the cluster's name for users who selected several contexts."""
    if not cluster_name or re.search(rf"(?<![\w-]){re.escape(cluster_name)}(?![\w-])", summary):
        return summary
    return f"{summary} on {cluster_name}"


def _error_text(error: ErrorReport) -> str:
    return f"{error.summary} ({error.subject})" if error.subject else error.summary


def _cut(details: str) -> str:
    return details if len(details) <= _LONGEST_DETAILS else details[: _LONGEST_DETAILS - 1] + "…"


def supported_operations(
    operations: Iterable[AdvertisedOperation],
) -> pb.SupportedOperationsResponse:
    """The operations as Meshery draws them."""
    return pb.SupportedOperationsResponse(
        ops=[
            pb.SupportedOperation(
                key=operation.name,
                value=operation.description,
                category=pb.OpCategory.Name(int(operation.category)),
            )
            for operation in operations
            if operation.is_listed
        ],
        error=NO_ERROR,
    )


def component_info(*, version: str, git_sha: str) -> pb.ComponentInfoResponse:
    return pb.ComponentInfoResponse(type=COMPONENT, name=MESH, version=version, git_sha=git_sha)
