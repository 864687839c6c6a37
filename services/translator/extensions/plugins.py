"""The care for plugins: a WasmPlugin or TrafficExtension runs fetched code in the proxies, so it
must be fixed which code that is, and what happens when it cannot be had.

Defaults and forms: istio.io/api, extensions/v1alpha1/wasm.proto and traffic_extension.proto.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from services.chassis.kube.objects import KubeObject
from services.translator.istio.objects import entries, group_kind, inner, mapping, subject_of, text
from services.translator.reports import Finding, Path, Report

GROUP = "extensions.istio.io"
KINDS = ("WasmPlugin", "TrafficExtension")

_WASM: Path = ("spec", "wasm")
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
    """What is unsafe or worth knowing about a WasmPlugin or TrafficExtension; else nothing.

    The schema's business (fields, phases, matches) is not looked at. Addresses are never quoted:
    they may hold credentials.
    """
    group, kind = group_kind(obj)
    if group != GROUP or kind not in KINDS:
        return []
    spec = inner(obj, "spec")
    if kind == "TrafficExtension":
        if not isinstance(spec.get("wasm"), dict):
            return []
        module, base = spec["wasm"], _WASM
    else:
        module, base = spec, ("spec",)
    report = Report(subject_of(obj), base)
    _check_module(report, module)
    _check_failing(report, module, phase=text(spec.get("phase")))
    _check_environment(report, module)
    return report.findings


def _check_module(report: Report, module: dict[str, Any]) -> None:
    checksum = text(module.get("sha256"))
    if checksum and not _DIGEST.match(checksum):
        report.error(
            ("sha256",),
            "is not a SHA-256 sum of 64 digits, 0-9 and a-f",
            rule="plugin/checksum-form",
            remedy="write the sum as `sha256sum` prints it, without a prefix",
        )
    url = text(module.get("url"))
    parts = _split(url)
    if parts is None:
        if url:
            report.error(("url",), "cannot be read as an address", rule="plugin/address")
        return
    if "@" in parts.netloc:
        report.warning(
            ("url",),
            "holds credentials that everyone who reads the object can see",
            rule="plugin/credentials",
            remedy="put them into a Secret and name it in imagePullSecret",
        )
    if parts.scheme in ("http", "https"):
        _check_download(report, scheme=parts.scheme, checksum=checksum)
    elif parts.scheme == "oci":
        _check_image(report, module, path=parts.path, checksum=checksum)
    elif parts.scheme == "file":
        report.info(
            ("url",),
            "the module is read from the proxy's own file system",
            rule="plugin/local-file",
            remedy="see to it that every selected proxy has the file",
        )
    else:
        report.error(
            ("url",),
            "has a scheme that Istio does not know",
            rule="plugin/address",
            remedy="use oci, https, http or file",
        )


def _split(url: str) -> SplitResult | None:
    """The parts of an address; without a scheme it names an image."""
    if not url:
        return None
    try:
        return urlsplit(url if "://" in url else f"oci://{url}")
    except ValueError:
        return None


def _check_download(report: Report, *, scheme: str, checksum: str) -> None:
    if not checksum:
        report.warning(
            ("url",),
            "the module is fetched without a checksum: who controls the address runs code in "
            "the proxies",
            rule="plugin/unpinned",
            remedy="set sha256",
        )
    if scheme == "http":
        report.warning(
            ("url",),
            "the module is fetched over plain HTTP",
            rule="plugin/plain-http",
            remedy="use https or oci",
        )


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
        report.warning(
            ("url",),
            "the image's tag moves, so proxies may run different code",
            rule="plugin/mutable-tag",
            remedy="name the image by its digest, or set sha256",
        )
    elif policy == "Always":
        report.warning(
            ("imagePullPolicy",),
            "a tag that is always pulled again may bring other code at any time",
            rule="plugin/mutable-tag",
            remedy="name the image by its digest, or set sha256",
        )
    elif policy != "IfNotPresent":
        report.info(
            ("url",),
            "the image is named by a tag, with neither a digest nor a pull policy",
            rule="plugin/unpinned",
            remedy="name the image by its digest, set sha256, or set imagePullPolicy: IfNotPresent",
        )


def _check_digest(report: Report, *, digest: str, checksum: str) -> None:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not _DIGEST.match(value):
        report.error(
            ("url",),
            "the image's digest is not `sha256:` and 64 digits, 0-9 and a-f",
            rule="plugin/checksum-form",
        )
    elif checksum and checksum != value:
        report.error(
            ("sha256",),
            "is not the digest that the address names, so the module is never loaded",
            rule="plugin/checksum-differs",
            remedy="leave sha256 out",
        )


def _check_failing(report: Report, module: dict[str, Any], *, phase: str) -> None:
    strategy = text(module.get("failStrategy"))
    if not strategy:
        report.info(
            ("failStrategy",),
            "is not set, so FAIL_CLOSE holds: while the module cannot be loaded or has crashed, "
            "requests are answered with an error",
            rule="plugin/fail-strategy",
            remedy="set failStrategy: FAIL_OPEN where the plugin guards nothing",
        )
    elif strategy == "FAIL_OPEN" and phase in _GUARDING_PHASES:
        report.warning(
            ("failStrategy",),
            f"a plugin of phase {phase} that fails open lets everything pass while it fails",
            rule="plugin/fail-strategy",
            remedy="set failStrategy: FAIL_CLOSE",
        )


def _check_environment(report: Report, module: dict[str, Any]) -> None:
    for index, variable in entries(mapping(module.get("vmConfig")).get("env")):
        value = text(variable.get("value"))
        if not value:
            continue
        if _SECRET_NAME.search(text(variable.get("name"))) or _SECRET_VALUE.search(value):
            report.warning(
                ("vmConfig", "env", index, "value"),
                "looks like a secret that everyone who reads the object can see",
                rule="plugin/secret-in-environment",
                remedy="use valueFrom: HOST and give the proxy the variable from a Secret",
            )
