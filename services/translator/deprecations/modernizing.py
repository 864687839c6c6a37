"""Deprecated and removed forms, said as Istio says them today.

Only what means exactly the same is rewritten; of the rest the successor is told. What is deprecated
was read in the protos of istio.io/api (1.20 to 1.31) and in what istiod makes of the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.chassis.kube.objects import KubeObject
from services.translator.deprecations.annotations import rewrite_annotations
from services.translator.deprecations.policies import rewrite_reference, rewrite_tokens
from services.translator.deprecations.retirements import rewrite_retired
from services.translator.deprecations.rewriting import Rewriting
from services.translator.deprecations.routes import rewrite_virtual_service
from services.translator.deprecations.traffic import (
    rewrite_destination_rule,
    rewrite_gateway,
    rewrite_sidecar,
)
from services.translator.istio.objects import group_kind, inner, text
from services.translator.istio.versions import Minor, minor_of, minor_text
from services.translator.reports import Finding

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"
EXTENSIONS = "extensions.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Versions of a kind that are said as another one, from an Istio minor on."""

    former: tuple[str, ...]
    current: str
    since: Minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Modernized:
    """An object in today's forms. `obj` is a copy, never the object that was given."""

    obj: KubeObject
    findings: tuple[Finding, ...]


def _promotions() -> dict[tuple[str, str], Promotion]:
    networking = Promotion(former=("v1alpha3", "v1beta1"), current="v1", since=(1, 22))
    route = Promotion(former=("v1alpha2", "v1beta1"), current="v1", since=(1, 20))
    table = {
        (NETWORKING, kind): networking
        for kind in (
            "DestinationRule",
            "Gateway",
            "ServiceEntry",
            "Sidecar",
            "VirtualService",
            "WorkloadEntry",
            "WorkloadGroup",
        )
    }
    table |= {
        (SECURITY, kind): Promotion(former=("v1beta1",), current="v1", since=since)
        for kind, since in (
            ("AuthorizationPolicy", (1, 20)),
            ("RequestAuthentication", (1, 20)),
            ("PeerAuthentication", (1, 22)),
        )
    }
    table |= {(GATEWAY_API, kind): route for kind in ("Gateway", "GatewayClass", "HTTPRoute")}
    return table | {
        (TELEMETRY, "Telemetry"): Promotion(former=("v1alpha1",), current="v1", since=(1, 22)),
        (GATEWAY_API, "GRPCRoute"): Promotion(former=("v1alpha2",), current="v1", since=(1, 22)),
        (GATEWAY_API, "BackendTLSPolicy"): Promotion(
            former=("v1alpha3",), current="v1", since=(1, 28)
        ),
        (GATEWAY_API, "TLSRoute"): Promotion(
            former=("v1alpha2", "v1alpha3"), current="v1", since=(1, 30)
        ),
        (GATEWAY_API, "TCPRoute"): Promotion(former=("v1alpha2",), current="v1", since=(1, 31)),
        # v1 exists since Gateway API 1.5, but v1beta1 is what every cluster serves and stores.
        (GATEWAY_API, "ReferenceGrant"): Promotion(
            former=("v1alpha2",), current="v1beta1", since=(1, 20)
        ),
    }


PROMOTIONS: Mapping[tuple[str, str], Promotion] = MappingProxyType(_promotions())
"""Group and kind to its promotion. `since` is the first Istio that reads the current version: for
the Gateway API's kinds that of the Gateway API release which it was built with."""

_RULES: Mapping[tuple[str, str], tuple[Callable[[Rewriting], None], ...]] = MappingProxyType(
    {
        (NETWORKING, "VirtualService"): (rewrite_virtual_service,),
        (NETWORKING, "DestinationRule"): (rewrite_destination_rule,),
        (NETWORKING, "Gateway"): (rewrite_gateway,),
        (NETWORKING, "Sidecar"): (rewrite_sidecar,),
        (SECURITY, "AuthorizationPolicy"): (rewrite_reference,),
        (SECURITY, "RequestAuthentication"): (rewrite_reference, rewrite_tokens),
        (TELEMETRY, "Telemetry"): (rewrite_reference,),
        (EXTENSIONS, "WasmPlugin"): (rewrite_reference,),
    }
)


def modernized(
    obj: KubeObject, *, target: str | None = None, root_namespace: str = "istio-system"
) -> Modernized:
    """`obj` in the forms of Istio `target` (the newest without one), and what was told about it.

    Repeating it changes nothing more. What cannot be rewritten exactly stays as it is and is told;
    a kind that is gone is an error unless a successor says exactly the same. Objects that are
    neither Istio's nor the Gateway API's nor workloads come back as they are. Raises
    `OptionsMalformed` when `target` is no version.
    """
    rewriting = Rewriting(
        obj, target=minor_of(target) if target else None, root_namespace=root_namespace
    )
    if not rewrite_retired(rewriting):
        for rule in _RULES.get(group_kind(obj), ()):
            rule(rewriting)
        rewrite_annotations(rewriting)
    # After the fields, because a form may be what keeps an object from its kind's current version.
    _rewrite_version(rewriting)
    return Modernized(obj=rewriting.obj, findings=tuple(rewriting.report.findings))


def _rewrite_version(rewriting: Rewriting) -> None:
    obj = rewriting.obj
    group, kind = group_kind(obj)
    promotion = PROMOTIONS.get((group, kind))
    version = text(obj.get("apiVersion")).rpartition("/")[2]
    if promotion is None or version not in promotion.former:
        return
    if not rewriting.reaches(promotion.since):
        return
    if kind == "TLSRoute" and not inner(obj, "spec").get("hostnames"):
        rewriting.kept(
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
