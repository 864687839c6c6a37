"""Checks of plugins: a WasmPlugin or TrafficExtension runs fetched code in the proxies, so it must
pin that code, and say what happens to requests when the code cannot be loaded.

Defaults and forms: istio.io/api, extensions/v1alpha1/wasm.proto and traffic_extension.proto.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from services.chassis.kube.objects import KubeObject
from services.translator.extensions.findings import tell
from services.translator.istio.objects import entries, group_kind, inner, mapping, subject_of, text
from services.translator.reports import Finding, Report

_GROUP = "extensions.istio.io"
_DIGEST = re.compile(r"[a-f0-9]{64}\Z")
_MUTABLE_TAGS = frozenset(
    {"latest", "main", "master", "head", "dev", "edge", "nightly", "snapshot", "stable", "canary"}
)
_GUARDING_PHASES = frozenset({"AUTHN", "AUTHZ"})
_SECRET_NAME = re.compile(
    r"(?i)(passw(or)?d|passphrase|secret|token|api_?key|private_?key|credential|access_?key)"
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|eyJ[\w-]{8,}\.[\w-]{8,}\.|AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}"
    r"|xox[abprs]-\w|glpat-\w{16,}|sk-\w{20,}"
)


def check_plugin(obj: KubeObject) -> list[Finding]:
    """Reports risks of a WasmPlugin or TrafficExtension; other objects have no findings.

    Fields, phases and matches are left to the schema. Addresses are never quoted: they may hold
    credentials.
    """
    spec = inner(obj, "spec")
    if group_kind(obj) == (_GROUP, "WasmPlugin"):
        report, module = Report(subject_of(obj), ("spec",)), spec
    elif group_kind(obj) == (_GROUP, "TrafficExtension") and isinstance(spec.get("wasm"), dict):
        report, module = Report(subject_of(obj), ("spec", "wasm")), spec["wasm"]
    else:
        return []
    _check_module(report, module)
    _check_failing(report, module, phase=text(spec.get("phase")))
    _check_environment(report, module)
    return report.findings


def _check_module(report: Report, module: dict[str, Any]) -> None:
    checksum = text(module.get("sha256"))
    if checksum and not _DIGEST.match(checksum):
        tell(report, "checksum-malformed", ("sha256",))
    url = text(module.get("url"))
    if not url:
        return
    parts = _split(url)
    if parts is None:
        tell(report, "address-unreadable", ("url",))
        return
    if "@" in parts.netloc:
        tell(report, "credentials", ("url",))
    match parts.scheme:
        case "http" | "https":
            if not checksum:
                tell(report, "download-unpinned", ("url",))
            if parts.scheme == "http":
                tell(report, "plain-http", ("url",))
        case "oci":
            _check_image(report, module, path=parts.path, checksum=checksum)
        case "file":
            tell(report, "local-file", ("url",))
        case _:
            tell(report, "scheme-unknown", ("url",))


def _split(url: str) -> SplitResult | None:
    """The parts of an address; without a scheme it names an image."""
    try:
        return urlsplit(url if "://" in url else f"oci://{url}")
    except ValueError:
        return None


def _check_image(report: Report, module: dict[str, Any], *, path: str, checksum: str) -> None:
    image, _, digest = path.partition("@")
    if digest:
        _check_digest(report, digest=digest, checksum=checksum)
        return
    if checksum:
        return
    tag = image.rpartition("/")[2].partition(":")[2] or "latest"
    policy = text(module.get("imagePullPolicy"))
    if tag.lower() in _MUTABLE_TAGS:
        tell(report, "mutable-tag", ("url",))
    elif policy == "Always":
        tell(report, "tag-pulled-again", ("imagePullPolicy",))
    elif policy != "IfNotPresent":
        tell(report, "image-unpinned", ("url",))


def _check_digest(report: Report, *, digest: str, checksum: str) -> None:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not _DIGEST.match(value):
        tell(report, "digest-malformed", ("url",))
    elif checksum and checksum != value:
        tell(report, "checksum-differs", ("sha256",))


def _check_failing(report: Report, module: dict[str, Any], *, phase: str) -> None:
    strategy = text(module.get("failStrategy"))
    if not strategy:
        tell(report, "fails-closed-by-default", ("failStrategy",))
    elif strategy == "FAIL_OPEN" and phase in _GUARDING_PHASES:
        tell(report, "guard-fails-open", ("failStrategy",), phase=phase)


def _check_environment(report: Report, module: dict[str, Any]) -> None:
    for index, variable in entries(mapping(module.get("vmConfig")).get("env")):
        name, value = text(variable.get("name")), text(variable.get("value"))
        if value and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value)):
            tell(report, "secret-in-environment", ("vmConfig", "env", index, "value"))
