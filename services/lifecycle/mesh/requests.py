"""The body of the operations `istio` and `label-namespace`, read and checked.

The body is YAML with at most one IstioOperator (an overlay, as istioctl takes it) and at most one
LifecycleOptions (what an overlay has no field for). Meshery sends whatever its editor holds with
each operation, so anything else is left alone, and told; but what is recognisably meant for this
operation and is not right is refused, because something else would be installed than was asked for.

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
    shortened,
)
from services.chassis.kube.manifests import parse_documents
from services.chassis.operations.bodies import API_VERSION, KINDS, find_options, read_options
from services.lifecycle.cluster import istio

PROFILES = ("default", "demo", "minimal", "ambient", "preview", "empty", "remote", "stable")
_OPERATOR_GROUP = "install.istio.io/"
_OPERATOR_API = f"{_OPERATOR_GROUP}v1alpha1"
_OWN_GROUP = f"{API_VERSION.partition('/')[0]}/"
_OWN = ("IstioOperator", "LifecycleOptions")
_MOST_TOLD = 3
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
    beside: bool = False
    """What another revision has in the cluster, such as gateways and tags, stays that one's."""
    crossing: str | None = None
    """The network to which a gateway of its own leads the traffic of other clusters; "" takes such
    a gateway away, None leaves it as it is."""
    identity_judged: bool = False
    """Whoever asks has seen to what proxies and other clusters know the mesh by."""
    readiness_timeout: timedelta = timedelta(seconds=300)
    ignored: str = ""
    """What else the body held, for people."""


def parse_injection(body: str) -> MeshRequest:
    """The request of `label-namespace`, which takes the revision of a LifecycleOptions alone."""
    try:
        options = find_options(body, "LifecycleOptions", _Options)
    except OptionsMalformed as error:
        raise OverlayMalformed(error.summary, cause=error.cause) from None
    if options is None:
        ignored = "text without LifecycleOptions" if body.strip() else ""
        return MeshRequest(ignored=ignored)
    return MeshRequest(
        revision=options.revision or istio.DEFAULT_REVISION,
        revision_given=options.revision is not None,
    )


def parse_request(body: str) -> MeshRequest:
    """The request in `body` ("" asks for the defaults); raises a `LifecycleError`."""
    operator, options_document, ignored = _documents(body)
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
        ignored=ignored,
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


def _documents(body: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The IstioOperator, the LifecycleOptions, and what else there is."""
    found: dict[str, dict[str, Any]] = {}
    others: list[str] = []
    try:
        documents = list(parse_documents(body))
    except ManifestMalformed as error:
        words = error.summary.replace("the manifest", "the overlay")
        if not any(word in body for word in (*_OWN, _OPERATOR_GROUP, _OWN_GROUP)):
            return {}, {}, "text that cannot be read"
        raise OverlayMalformed(words, cause=error.cause) from None
    for document in documents:
        if not _is_meant(document):
            others.append(_kind_of(document))
            continue
        key = (document.get("apiVersion"), document.get("kind"))
        if key not in ((_OPERATOR_API, "IstioOperator"), (API_VERSION, "LifecycleOptions")):
            raise OverlayMalformed(
                f"the body holds {str(key[1])[:64]!r} of {str(key[0])[:64]!r}",
                cause=f"only an IstioOperator of {_OPERATOR_API} and a LifecycleOptions of "
                f"{API_VERSION} are accepted",
                remedy="correct its apiVersion and kind",
            )
        kind = str(document["kind"])
        if kind in found:
            raise OverlayMalformed(f"the body holds more than one {kind}")
        for part in ("metadata", "spec"):
            if document.get(part) is not None and not isinstance(document[part], dict):
                raise OverlayMalformed(f"{part} of the {kind} is not a mapping")
        found[kind] = document
    return found.get("IstioOperator", {}), found.get("LifecycleOptions", {}), _listed(others)


def _is_meant(document: Any) -> bool:
    """Whether a document is for this operation, right or not."""
    if not isinstance(document, dict):
        return False
    kind, group = str(document.get("kind")), str(document.get("apiVersion"))
    if kind in _OWN or group.startswith(_OPERATOR_GROUP):
        return True
    return group.startswith(_OWN_GROUP) and not (group == API_VERSION and kind in KINDS)


def _kind_of(document: Any) -> str:
    kind = document.get("kind") if isinstance(document, dict) else None
    return shortened(kind)[:64] if isinstance(kind, str) and kind else "a document without a kind"


def _listed(others: list[str]) -> str:
    more = f" and {len(others) - _MOST_TOLD} more" if len(others) > _MOST_TOLD else ""
    return ", ".join(others[:_MOST_TOLD]) + more


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
