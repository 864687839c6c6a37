"""Kinds that Istio and the Gateway API no longer have, and what took their place.

One of them can be said exactly as before: an authentication Policy or MeshPolicy that only sets
mutual TLS for a whole namespace or mesh is a PeerAuthentication.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.objects import group_kind, inner, mapping, name_of, text

_AUTHENTICATION = "authentication.istio.io"
_POLICIES = "PeerAuthentication, RequestAuthentication and AuthorizationPolicy"

_GONE_GROUPS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "rbac.istio.io": ("1.6", "AuthorizationPolicy of security.istio.io"),
        _AUTHENTICATION: ("1.6", f"{_POLICIES} of security.istio.io"),
        "config.istio.io": (
            "1.8",
            "Telemetry, AuthorizationPolicy with a CUSTOM provider, WasmPlugin or EnvoyFilter",
        ),
        "install.istio.io": (
            "1.24",
            "the operation `istio`, which takes an IstioOperator as an overlay in its body",
        ),
    }
)
"""Group to the Istio that removed its kinds, and what to use."""

_GONE_KINDS: Mapping[tuple[str, str], tuple[str, str]] = MappingProxyType(
    {
        ("inference.networking.x-k8s.io", "InferencePool"): (
            "1.28",
            "InferencePool of inference.networking.k8s.io/v1, whose fields differ",
        ),
    }
)
_MODES = {None: "STRICT", "": "STRICT", "STRICT": "STRICT", "PERMISSIVE": "PERMISSIVE"}


def is_retired(group: str, kind: str) -> bool:
    return group in _GONE_GROUPS or (group, kind) in _GONE_KINDS


def rewrite_retired(rewriting: Rewriting) -> bool:
    """Deals with an object of a kind that is gone; False for every other object."""
    group, kind = group_kind(rewriting.obj)
    if (group, kind) == ("gateway.networking.k8s.io", "ReferencePolicy"):
        rewriting.obj["kind"] = "ReferenceGrant"
        rewriting.restored(("kind",), "ReferenceGrant", since="Gateway API 0.6")
        return True
    gone = _GONE_KINDS.get((group, kind)) or _GONE_GROUPS.get(group)
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
    """The mode of a policy that says nothing but that; "" for any other policy.

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
    rewriting.restored(("kind",), f"PeerAuthentication{where}", since="Istio 1.6")
