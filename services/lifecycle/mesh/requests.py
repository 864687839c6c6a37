"""The body of the operations `istio` and `label-namespace`, read and checked.

The body is YAML with at most one IstioOperator (an overlay, as istioctl takes it) and at most one
LifecycleOptions (what an overlay has no field for):

    apiVersion: meshbus.io/v1
    kind: LifecycleOptions
    spec:
      profile: default
      revision: 1-31-0
      tags: [prod]
      force: false
      purge: false
      readinessTimeoutSeconds: 300
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.chassis.errors import (
    ManifestMalformed,
    OptionsMalformed,
    OverlayMalformed,
    OverlayRefused,
    ProfileUnknown,
)
from services.chassis.kube.manifests import parse_documents
from services.chassis.operations.bodies import API_VERSION, read_options
from services.lifecycle.cluster import istio

PROFILES = ("default", "demo", "minimal", "ambient", "preview", "empty", "remote", "stable")
_OPERATOR_API = "install.istio.io/v1alpha1"
_ISTIO_NAMESPACE = "spec.values.global.istioNamespace"
_LABEL = r"[a-z0-9]([-a-z0-9]{0,54}[a-z0-9])?"
_LABEL_PATTERN = re.compile(_LABEL + r"\Z")

Label = Annotated[str, StringConstraints(pattern=f"^{_LABEL}$")]

# Fields of IstioOperatorSpec that make istioctl read files or fetch charts.
_REFUSED_FIELDS = {"installPackagePath": "it names a folder or an address of charts"}


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    profile: str | None = None
    revision: Label | None = None
    tags: list[Label] | None = None
    force: bool = False
    purge: bool = False
    readinessTimeoutSeconds: int = Field(default=300, ge=1, le=3600)  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshRequest:
    """A checked request. `revision` is "default" for the unnamed one.

    `tags` None leaves the revision's tags as they are. `overlay` is the IstioOperator's spec.
    """

    profile: str = "default"
    revision: str = istio.DEFAULT_REVISION
    revision_given: bool = False
    tags: tuple[str, ...] | None = None
    namespace: str = istio.SYSTEM_NAMESPACE
    namespace_given: bool = False
    """False leaves a mesh that is there where it is."""
    overlay: dict[str, Any] = field(default_factory=dict)
    force: bool = False
    purge: bool = False
    readiness_timeout: timedelta = timedelta(seconds=300)


def parse_request(body: str) -> MeshRequest:
    """The request in `body` ("" asks for the defaults); raises a `LifecycleError`."""
    operator, options_document = _documents(body)
    try:
        options = read_options(options_document, "LifecycleOptions", _Options)
    except OptionsMalformed as error:
        raise OverlayMalformed(error.summary) from None
    spec = dict(operator.get("spec") or {})
    _refuse_fields(spec)
    namespace = _namespace(operator)
    profile = _agreed("profile", spec.pop("profile", None), options.profile) or "default"
    if profile not in PROFILES:
        raise ProfileUnknown(
            f"there is no profile {str(profile)[:64]!r}; available: {', '.join(PROFILES)}"
        )
    revision = _agreed("revision", spec.pop("revision", None), options.revision)
    if revision is not None and not _LABEL_PATTERN.match(revision):
        raise OverlayMalformed("spec.revision is not a revision's name (a-z, 0-9 and -)")
    return MeshRequest(
        profile=profile,
        revision=revision or istio.DEFAULT_REVISION,
        revision_given=revision is not None,
        tags=tuple(dict.fromkeys(options.tags)) if options.tags is not None else None,
        namespace=namespace or istio.SYSTEM_NAMESPACE,
        namespace_given=bool(namespace),
        overlay=spec,
        force=options.force,
        purge=options.purge,
        readiness_timeout=timedelta(seconds=options.readinessTimeoutSeconds),
    )


def _namespace(operator: dict[str, Any]) -> str:
    """Where istiod goes: `values.global.istioNamespace`, as Istio documents it, or the overlay's
    own namespace, which istioctl takes for it."""
    own = (operator.get("metadata") or {}).get("namespace")
    found: Any = operator.get("spec") or {}
    for step in ("values", "global", "istioNamespace"):
        found = found.get(step) if isinstance(found, dict) else None
    for place, name in (("metadata.namespace", own), (_ISTIO_NAMESPACE, found)):
        if name and not (isinstance(name, str) and _LABEL_PATTERN.match(name)):
            raise OverlayMalformed(f"{place} of the IstioOperator is not a namespace's name")
    if own and found and own != found:
        raise OverlayMalformed(
            f"metadata.namespace and {_ISTIO_NAMESPACE} of the IstioOperator differ"
        )
    return str(found or own or "")


def _documents(body: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    try:
        documents = list(parse_documents(body))
    except ManifestMalformed as error:
        raise OverlayMalformed(
            error.summary.replace("the manifest", "the overlay"), cause=error.cause
        ) from None
    for document in documents:
        if not isinstance(document, dict):
            raise OverlayMalformed("the overlay is not a mapping")
        key = (document.get("apiVersion"), document.get("kind"))
        if key not in ((_OPERATOR_API, "IstioOperator"), (API_VERSION, "LifecycleOptions")):
            raise OverlayMalformed(
                f"the body holds {str(key[1])[:64]!r} of {str(key[0])[:64]!r}",
                cause=f"only an IstioOperator of {_OPERATOR_API} and a LifecycleOptions of "
                f"{API_VERSION} are accepted",
                remedy="apply other objects with the operation `custom`",
            )
        kind = str(document["kind"])
        if kind in found:
            raise OverlayMalformed(f"the body holds more than one {kind}")
        for part in ("metadata", "spec"):
            if document.get(part) is not None and not isinstance(document[part], dict):
                raise OverlayMalformed(f"{part} of the {kind} is not a mapping")
        found[kind] = document
    return found.get("IstioOperator", {}), found.get("LifecycleOptions", {})


def _refuse_fields(spec: dict[str, Any]) -> None:
    for name, reason in _REFUSED_FIELDS.items():
        if name in spec:
            raise OverlayRefused(f"the IstioOperator sets spec.{name}: {reason}")


def _agreed(name: str, overlay: Any, option: str | None) -> str | None:
    """A field that both documents may set, but not to different values."""
    if overlay is not None and not isinstance(overlay, str):
        raise OverlayMalformed(f"spec.{name} of the IstioOperator is not text")
    if overlay is not None and option is not None and overlay != option:
        raise OverlayMalformed(f"IstioOperator and LifecycleOptions differ in spec.{name}")
    return option if option is not None else overlay
