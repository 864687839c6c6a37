"""Rewrites kinds and versions that Istio and the Gateway API no longer have.

One removed kind has an exact successor: an authentication Policy or MeshPolicy that only sets
mutual TLS for a whole namespace or mesh is a PeerAuthentication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.objects import group_kind, inner, mapping, name_of, text
from services.translator.istio.versions import Minor, minor_text

_AUTHENTICATION = "authentication.istio.io"
_GATEWAY_API = "gateway.networking.k8s.io"

_GONE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "rbac.istio.io": ("1.6", "AuthorizationPolicy of security.istio.io"),
        _AUTHENTICATION: (
            "1.6",
            "PeerAuthentication, RequestAuthentication, AuthorizationPolicy of security.istio.io",
        ),
        "config.istio.io": (
            "1.8",
            "Telemetry, AuthorizationPolicy with a CUSTOM provider, WasmPlugin or EnvoyFilter",
        ),
        "install.istio.io": (
            "1.24",
            "the operation `istio`, which takes an IstioOperator as an overlay in its body",
        ),
        "inference.networking.x-k8s.io/InferencePool": (
            "1.28",
            "InferencePool of inference.networking.k8s.io/v1, whose fields differ",
        ),
    }
)
"""Group, or group and kind, to the Istio version that removed it, and its successor."""

_NETWORKING_KINDS = (
    *("DestinationRule", "Gateway", "ServiceEntry", "Sidecar", "VirtualService", "WorkloadEntry"),
    "WorkloadGroup",
)
# Group, kinds, former versions, current version, and the first Istio that reads that.
_PROMOTIONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str, Minor], ...] = (
    ("networking.istio.io", _NETWORKING_KINDS, ("v1alpha3", "v1beta1"), "v1", (1, 22)),
    ("security.istio.io", ("AuthorizationPolicy",), ("v1beta1",), "v1", (1, 20)),
    ("security.istio.io", ("RequestAuthentication",), ("v1beta1",), "v1", (1, 20)),
    ("security.istio.io", ("PeerAuthentication",), ("v1beta1",), "v1", (1, 22)),
    ("telemetry.istio.io", ("Telemetry",), ("v1alpha1",), "v1", (1, 22)),
    (
        _GATEWAY_API,
        ("Gateway", "GatewayClass", "HTTPRoute"),
        ("v1alpha2", "v1beta1"),
        "v1",
        (1, 20),
    ),
    (_GATEWAY_API, ("GRPCRoute",), ("v1alpha2",), "v1", (1, 22)),
    (_GATEWAY_API, ("BackendTLSPolicy",), ("v1alpha3",), "v1", (1, 28)),
    (_GATEWAY_API, ("TLSRoute",), ("v1alpha2", "v1alpha3"), "v1", (1, 30)),
    (_GATEWAY_API, ("TCPRoute",), ("v1alpha2",), "v1", (1, 31)),
    # v1 exists since Gateway API 1.5, but v1beta1 is what every cluster serves and stores.
    (_GATEWAY_API, ("ReferenceGrant",), ("v1alpha2",), "v1beta1", (1, 20)),
)


@dataclass(frozen=True, slots=True)
class Promotion:
    """Versions of a kind that are written as another one, from an Istio minor on."""

    former: tuple[str, ...]
    current: str
    since: Minor


PROMOTIONS: Mapping[tuple[str, str], Promotion] = MappingProxyType(
    {
        (group, kind): Promotion(former, current, since)
        for group, kinds, former, current, since in _PROMOTIONS
        for kind in kinds
    }
)
"""Group and kind to its promotion. `since` is the first Istio that reads the current version: for
the Gateway API's kinds that of the Gateway API release which it was built with."""

_MODES = {None: "STRICT", "": "STRICT", "STRICT": "STRICT", "PERMISSIVE": "PERMISSIVE"}


def rewrite_retired(rewriting: Rewriting) -> bool:
    """Rewrites or refuses an object of a removed kind; False for an object of any other kind."""
    group, kind = group_kind(rewriting.obj)
    if (group, kind) == (_GATEWAY_API, "ReferencePolicy"):
        rewriting.obj["kind"] = "ReferenceGrant"
        rewriting.report_restored(("kind",), "ReferenceGrant", since="Gateway API 0.6")
        return True
    gone = _GONE.get(f"{group}/{kind}") or _GONE.get(group)
    if gone is None:
        return False
    if group == _AUTHENTICATION and kind in ("Policy", "MeshPolicy"):
        mode = _mutual_tls(rewriting.obj)
        if mode:
            _rewrite_policy(rewriting, kind=kind, mode=mode)
            return True
    since, successor = gone
    rewriting.report.error(
        ("kind",),
        f"Istio {since} and newer have no {kind} of {group}",
        rule="gone",
        remedy=f"use {successor}",
    )
    return True


def _mutual_tls(obj: dict[str, Any]) -> str:
    """The mode of a policy that only sets mutual TLS; "" for any other policy.

    Targets name Services, whose pods are not known here, and only a policy called `default` ever
    meant a whole namespace or mesh.
    """
    spec = mapping(obj.get("spec"))
    if name_of(obj) != "default" or set(spec) - {"peers"}:
        return ""
    peers = spec.get("peers")
    if not isinstance(peers, list) or len(peers) != 1:
        return ""
    peer = mapping(peers[0])
    tls = peer.get("mtls")
    if set(peer) != {"mtls"} or not isinstance(tls, dict | None) or set(tls or {}) - {"mode"}:
        return ""
    mode = (tls or {}).get("mode")
    return _MODES.get(mode, "") if isinstance(mode, str | None) else ""


def _rewrite_policy(rewriting: Rewriting, *, kind: str, mode: str) -> None:
    obj = rewriting.obj
    metadata = inner(obj, "metadata")
    if kind == "MeshPolicy":
        metadata["namespace"] = rewriting.root_namespace
    elif not text(metadata.get("namespace")):
        # A namespace that is filled in later is the same for both kinds.
        metadata.pop("namespace", None)
    obj["apiVersion"] = "security.istio.io/v1"
    if not rewriting.reaches((1, 22)):
        obj["apiVersion"] = "security.istio.io/v1beta1"
    obj["kind"] = "PeerAuthentication"
    obj["spec"] = {"mtls": {"mode": mode}}
    where = f" in {rewriting.root_namespace}" if kind == "MeshPolicy" else ""
    rewriting.report_restored(("kind",), f"PeerAuthentication{where}", since="Istio 1.6")


def rewrite_version(rewriting: Rewriting) -> None:
    """Writes an object in its kind's current version, if the target reads that."""
    obj = rewriting.obj
    group, kind = group_kind(obj)
    promotion = PROMOTIONS.get((group, kind))
    version = text(obj.get("apiVersion")).rpartition("/")[2]
    if promotion is None or version not in promotion.former:
        return
    if not rewriting.reaches(promotion.since):
        return
    if kind == "TLSRoute" and not inner(obj, "spec").get("hostnames"):
        rewriting.report_kept(
            ("spec", "hostnames"),
            f"{kind} of {promotion.current} needs hostnames",
            "name the hosts, then use the current version",
        )
        return
    obj["apiVersion"] = f"{group}/{promotion.current}"
    rewriting.report.info(
        ("apiVersion",),
        f"{version} was written as {promotion.current}, which Istio {minor_text(promotion.since)} "
        "and newer read",
        rule="api-version",
    )
