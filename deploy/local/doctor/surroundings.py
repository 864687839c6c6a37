"""What Meshbus works with: Istio releases, generators of load, Prometheus, Meshery, the disk."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from deploy.local.doctor.checks import Check, fail, ok, warn
from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import ask
from services.chassis.errors import MeshbusError
from services.gateway.meshery.packages import MODEL

_WITHIN = timedelta(seconds=10)
_HTTP_S = 5.0
_LITTLE, _TOO_LITTLE = 2 * 1024**3, 256 * 1024**2
"""Free bytes: an Istio release takes half a gigabyte, a full disk freezes streams."""
_MOST_BYTES = 8 * 1024**2
_WHERE = "look whether that address is right"
_HEALTH = "/grpc.health.v1.Health/Check"


async def releases(bus: Bus) -> Check:
    """Which versions of Istio can be installed."""
    try:
        answer = await ask(bus, {}, service="lifecycle", verb="versions", within=_WITHIN)
    except MeshbusError as error:
        return fail("Istio releases", error.summary, error.remedy)
    here, source = answer.get("versions") or [], answer.get("source") or ""
    if here:
        return ok("Istio releases", ", ".join(map(str, here)))
    if source:
        return ok("Istio releases", f"none here yet; fetched from {source} when asked for")
    remedy = "unpack one as <version>/ into the folder of MESHBUS_LIFECYCLE_DISTRIBUTIONS"
    return warn("Istio releases", "none, and none is fetched", remedy)


def gateway(address: str) -> Check:
    """Whether gRPC's health says that it serves."""
    channel = grpc.insecure_channel(address)
    try:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_HEALTH)
        answer = check(b"", timeout=_HTTP_S)
    except grpc.RpcError as error:
        code = error.code().name if isinstance(error, grpc.Call) else "no answer"
        remedy = "look at the gateway's log; with TLS on its port this check cannot be made"
        return fail("gateway", f"{address}: {code}", remedy)
    finally:
        channel.close()
    # HealthCheckResponse {status: SERVING}
    if answer == b"\x08\x01":
        return ok("gateway", f"{address} serves; Meshery: ADAPTER_URLS={address}")
    return fail("gateway", f"{address} does not serve", "its /readyz says what it waits for")


def generators(settings: Mapping[str, str]) -> list[Check]:
    """fortio and wrk2, where perf will look for them."""
    checks = []
    for name in ("fortio", "wrk2"):
        variable = f"MESHBUS_PERF_{name.upper()}"
        program = shutil.which(settings.get(variable, name))
        if program:
            checks.append(ok(name, program))
        else:
            remedy = f"install {name}, or name it in {variable}; only performance tests need one"
            checks.append(warn(name, "not on PATH", remedy))
    return checks


def prometheus(url: str) -> Check:
    """Whether it answers queries."""
    if not url:
        return ok("Prometheus", "none is set: each cluster's own is looked for, then its proxies")
    found = _http("Prometheus", url, "/api/v1/query?query=1", _WHERE)
    return found if isinstance(found, Check) else ok("Prometheus", f"{found[0]} answers")


def meshery(url: str) -> Check:
    """Whether Meshery's server answers, and which Istio versions its page offers."""
    if not url:
        return ok("Meshery", "no address was given (--meshery URL)")
    provider = os.environ.get("MESHBUS_GATEWAY_MESHERY_PROVIDER", "None")
    path = f"/api/meshmodels/models/{MODEL}?pagesize=all"
    found = _http("Meshery", url, path, _WHERE, {"Cookie": f"meshery-provider={provider}"})
    if isinstance(found, Check):
        return found
    shown, body = found
    try:
        models = json.loads(body)["models"] or []
        versions = [str(m["version"]) for m in models if m["name"] == MODEL]
    except (ValueError, LookupError, TypeError):
        return fail("Meshery", f"{shown} does not answer as Meshery does", _WHERE)
    if versions:
        return ok("Meshery", f"{shown}; its page offers Istio {', '.join(versions)}")
    remedy = "set MESHBUS_GATEWAY_MESHERY; the gateway's /readyz says what is wrong with it"
    return warn("Meshery", f"{shown} answers; its page offers no version of Istio", remedy)


def disk(folder: Path) -> Check:
    """Room beside keys and streams."""
    free = shutil.disk_usage(folder).free
    told = f"{free / 1024**3:.1f} GiB free in {folder}"
    if free < _TOO_LITTLE:
        return fail("disk", told, "make room: NATS freezes a stream that it cannot write")
    if free < _LITTLE:
        return warn("disk", told, "make room: an Istio release takes half a gigabyte")
    return ok("disk", told)


def _http(
    name: str, url: str, path: str, remedy: str, headers: Mapping[str, str] | None = None
) -> Check | tuple[str, bytes]:
    """The address as it may be shown and what answers there, or what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return fail(name, "its address is no http URL", remedy)
    # Credentials in a URL stay out of what is printed.
    shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    try:
        request = urllib.request.Request(url.rstrip("/") + path, headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=_HTTP_S) as answer:
            return shown, answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return fail(name, f"{shown} answers {error.code}", remedy)
    except OSError as error:
        return fail(name, f"{shown}: {getattr(error, 'reason', error)}", remedy)
