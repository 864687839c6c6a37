"""The care for plugins: a WasmPlugin or TrafficExtension runs fetched code in the proxies, so it
must be fixed which code that is, and what happens when it cannot be had.

Defaults and forms: istio.io/api, extensions/v1alpha1/wasm.proto and traffic_extension.proto.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from services.chassis.kube.objects import KubeObject
from services.translator.findings import Finding, Level, Path
from services.translator.istio.reading import entries, group_kind, inner, mapping, subject_of, text

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


class _Checks:
    """The findings about one plugin. Addresses are never quoted: they may hold credentials."""

    def __init__(self, obj: KubeObject, base: Path) -> None:
        self.found: list[Finding] = []
        self._subject = subject_of(obj)
        self._base = base

    def tell(self, level: Level, rule: str, path: Path, message: str, remedy: str = "") -> None:
        self.found.append(
            Finding(
                level=level,
                rule=f"plugin/{rule}",
                subject=self._subject,
                path=(*self._base, *path),
                message=message,
                remedy=remedy,
            )
        )


def check_plugin(obj: KubeObject) -> list[Finding]:
    """What is unsafe or worth knowing about a WasmPlugin or TrafficExtension; else nothing.

    The schema's business (fields, phases, matches) is not looked at.
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
    checks = _Checks(obj, base)
    _check_module(checks, module)
    _check_failing(checks, module, phase=text(spec.get("phase")))
    _check_environment(checks, module)
    return checks.found


def _check_module(checks: _Checks, module: dict[str, Any]) -> None:
    checksum = text(module.get("sha256"))
    if checksum and not _DIGEST.match(checksum):
        checks.tell(
            Level.ERROR,
            "checksum-form",
            ("sha256",),
            "is not a SHA-256 sum of 64 digits, 0-9 and a-f",
            "write the sum as `sha256sum` prints it, without a prefix",
        )
    url = text(module.get("url"))
    parts = _split(url)
    if parts is None:
        if url:
            checks.tell(Level.ERROR, "address", ("url",), "cannot be read as an address")
        return
    if "@" in parts.netloc:
        checks.tell(
            Level.WARNING,
            "credentials",
            ("url",),
            "holds credentials that everyone who reads the object can see",
            "put them into a Secret and name it in imagePullSecret",
        )
    if parts.scheme in ("http", "https"):
        _check_download(checks, scheme=parts.scheme, checksum=checksum)
    elif parts.scheme == "oci":
        _check_image(checks, module, path=parts.path, checksum=checksum)
    elif parts.scheme == "file":
        checks.tell(
            Level.INFO,
            "local-file",
            ("url",),
            "the module is read from the proxy's own file system",
            "see to it that every selected proxy has the file",
        )
    else:
        checks.tell(
            Level.ERROR,
            "address",
            ("url",),
            "has a scheme that Istio does not know",
            "use oci, https, http or file",
        )


def _split(url: str) -> SplitResult | None:
    """The parts of an address; without a scheme it names an image."""
    if not url:
        return None
    try:
        return urlsplit(url if "://" in url else f"oci://{url}")
    except ValueError:
        return None


def _check_download(checks: _Checks, *, scheme: str, checksum: str) -> None:
    if not checksum:
        checks.tell(
            Level.WARNING,
            "unpinned",
            ("url",),
            "the module is fetched without a checksum: who controls the address runs code in "
            "the proxies",
            "set sha256",
        )
    if scheme == "http":
        checks.tell(
            Level.WARNING,
            "plain-http",
            ("url",),
            "the module is fetched over plain HTTP",
            "use https or oci",
        )


def _check_image(checks: _Checks, module: dict[str, Any], *, path: str, checksum: str) -> None:
    image, _, digest = path.partition("@")
    if digest:
        _check_digest(checks, digest=digest, checksum=checksum)
        return
    if checksum:
        return
    tag = image.rpartition("/")[2].partition(":")[2] or "latest"
    policy = text(module.get("imagePullPolicy"))
    if tag.lower() in _MUTABLE_TAGS:
        checks.tell(
            Level.WARNING,
            "mutable-tag",
            ("url",),
            "the image's tag moves, so proxies may run different code",
            "name the image by its digest, or set sha256",
        )
    elif policy == "Always":
        checks.tell(
            Level.WARNING,
            "mutable-tag",
            ("imagePullPolicy",),
            "a tag that is always pulled again may bring other code at any time",
            "name the image by its digest, or set sha256",
        )
    elif policy != "IfNotPresent":
        checks.tell(
            Level.INFO,
            "unpinned",
            ("url",),
            "the image is named by a tag, with neither a digest nor a pull policy",
            "name the image by its digest, set sha256, or set imagePullPolicy: IfNotPresent",
        )


def _check_digest(checks: _Checks, *, digest: str, checksum: str) -> None:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not _DIGEST.match(value):
        checks.tell(
            Level.ERROR,
            "checksum-form",
            ("url",),
            "the image's digest is not `sha256:` and 64 digits, 0-9 and a-f",
        )
    elif checksum and checksum != value:
        checks.tell(
            Level.ERROR,
            "checksum-differs",
            ("sha256",),
            "is not the digest that the address names, so the module is never loaded",
            "leave sha256 out",
        )


def _check_failing(checks: _Checks, module: dict[str, Any], *, phase: str) -> None:
    strategy = text(module.get("failStrategy"))
    if not strategy:
        checks.tell(
            Level.INFO,
            "fail-strategy",
            ("failStrategy",),
            "is not set, so FAIL_CLOSE holds: while the module cannot be loaded or has crashed, "
            "requests are answered with an error",
            "set failStrategy: FAIL_OPEN where the plugin guards nothing",
        )
    elif strategy == "FAIL_OPEN" and phase in _GUARDING_PHASES:
        checks.tell(
            Level.WARNING,
            "fail-strategy",
            ("failStrategy",),
            f"a plugin of phase {phase} that fails open lets everything pass while it fails",
            "set failStrategy: FAIL_CLOSE",
        )


def _check_environment(checks: _Checks, module: dict[str, Any]) -> None:
    for index, variable in entries(mapping(module.get("vmConfig")).get("env")):
        value = text(variable.get("value"))
        if not value:
            continue
        if _SECRET_NAME.search(text(variable.get("name"))) or _SECRET_VALUE.search(value):
            checks.tell(
                Level.WARNING,
                "secret-in-environment",
                ("vmConfig", "env", index, "value"),
                "looks like a secret that everyone who reads the object can see",
                "use valueFrom: HOST and give the proxy the variable from a Secret",
            )
