"""What an answer that carries nothing out means: our error for it.

Of a body only the message of a `metav1.Status` is told. Anything else may be the page of a service
that has nothing to do with Kubernetes, with whatever that says to its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chassis.errors import (
    AnswerTooLarge,
    AnswerUnusable,
    ClusterFailed,
    ClusterForbidden,
    ClusterOverloaded,
    ClusterUnauthorized,
    KindUnknown,
    MeshbusError,
    NamespaceMissing,
    ObjectConflict,
    ObjectInvalid,
    ObjectNotFound,
    TooManyValues,
    WatchExpired,
    shortened,
)
from services.chassis.http import answers
from services.chassis.reading.jsons import read_json
from services.chassis.telemetry.redaction import redacted_text

_TERMINATING = "because it is being terminated"
# What server-side apply says, with a 500, to a field that the kind does not have.
_NOT_OF_ITS_SCHEMA = "failed to create typed patch object"
# A kind that was just defined answers so until its cache is filled, usually within 100 ms; the
# server asks for a second.
_FILLING = "storage is (re)initializing"
_FILLING_DELAY_S = 0.1
# An API server that is going down reports its own failed calls (to allocate an address, say) as if
# the object were invalid.
_OWN_CALL_FAILED = "connect: connection refused"


def unusable(subject: str, why: str) -> AnswerUnusable:
    """For an answer with a status of success that no API server gives."""
    return AnswerUnusable(f"{subject}: what the cluster's address answers {why}", subject=subject)


def refusal(refused: answers.AnswerRefused, subject: str) -> MeshbusError:
    """The coded error of a reader that did not read on."""
    if isinstance(refused, answers.TooLarge):
        return AnswerTooLarge(f"{subject}: the answer {refused}", subject=subject)
    return unusable(subject, str(refused))


def error_of(
    *, method: str, code: int, headers: Mapping[str, str], body: bytes, subject: str
) -> MeshbusError:
    """Our error for an answer of 400 and above (metav1.Status or anything else)."""
    text = _status_message(body)
    what = f"{subject}: {text}" if text else f"{subject}: HTTP {code}"
    match code:
        case 401:
            return ClusterUnauthorized("the cluster does not accept the credential")
        case 403 if _TERMINATING in text:
            return NamespaceMissing(
                what,
                subject=subject,
                cause="the namespace is being deleted",
                remedy="wait until it is gone, then repeat the operation",
            )
        # Policy engines deny with a 403; no right of the user's would change that.
        case _ if "admission webhook" in text and "denied" in text:
            return ObjectInvalid(what, subject=subject)
        case 403:
            return ClusterForbidden(what, subject=subject)
        # A path of a group or version that is not served is answered in plain text.
        case 404 if not text:
            return KindUnknown(f"{subject}: the cluster does not serve this kind", subject=subject)
        case 404 if "namespaces" in text and method != "GET":
            return NamespaceMissing(what, subject=subject)
        case 404:
            return ObjectNotFound(what, subject=subject)
        case 409:
            return ObjectConflict(what, subject=subject)
        case 410:
            return WatchExpired(what, subject=subject)
        case 422 if _OWN_CALL_FAILED in text:
            return ClusterFailed(what, subject=subject)
        case 400 | 405 | 406 | 413 | 415 | 422:
            return ObjectInvalid(what, subject=subject)
        case 429:
            overloaded = ClusterOverloaded(what, subject=subject)
            pause = _FILLING_DELAY_S if _FILLING in text else _retry_after(headers)
            overloaded.retry_after_s = pause
            return overloaded
        case _ if _NOT_OF_ITS_SCHEMA in text:
            return ObjectInvalid(what, subject=subject)
        case _:
            return ClusterFailed(what, subject=subject)


def is_status(body: bytes) -> bool:
    """Whether a body is a `metav1.Status`: the API server's own words."""
    return bool(_status(body))


def _status_message(body: bytes) -> str:
    """The message of a `metav1.Status`. Of any other body nothing is told: it may be the page of
    a service that has nothing to do with Kubernetes, with whatever that says to its own."""
    return shortened(redacted_text(str(_status(body).get("message", ""))))


def _status(body: bytes) -> Mapping[str, Any]:
    """Empty for any other body."""
    try:
        status = read_json(body)
    except (ValueError, TooManyValues):
        return {}
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        # In this order NaN becomes the least.
        return min(max(0.1, float(headers.get("Retry-After", "1"))), 10.0)
    except ValueError:
        return 1.0
