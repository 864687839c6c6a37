"""Judges objects as Istio's webhook does, all faults at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from services.chassis.kube.objects import KubeObject
from services.translator.istio.objects import group_kind, subject_of
from services.translator.istio.versions import minor_of
from services.translator.reports import Finding, Report, errors
from services.translator.validity import extensions, workloads
from services.translator.validity.access import policies
from services.translator.validity.parts import Judgement, Part
from services.translator.validity.traffic import (
    destinationrules,
    entries,
    filters,
    gateways,
    sidecars,
    virtualservices,
)

Check = Callable[[Part], None]

_NETWORKING = "networking.istio.io"
_SECURITY = "security.istio.io"
_EXTENSIONS = "extensions.istio.io"

CHECKS: Mapping[tuple[str, str], Check] = MappingProxyType(
    {
        (_NETWORKING, "VirtualService"): virtualservices.check_virtual_service,
        (_NETWORKING, "Gateway"): gateways.check_gateway,
        (_NETWORKING, "DestinationRule"): destinationrules.check_destination_rule,
        (_NETWORKING, "ServiceEntry"): entries.check_service_entry,
        (_NETWORKING, "WorkloadEntry"): entries.check_workload_entry,
        (_NETWORKING, "WorkloadGroup"): entries.check_workload_group,
        (_NETWORKING, "Sidecar"): sidecars.check_sidecar,
        (_NETWORKING, "EnvoyFilter"): filters.check_envoy_filter,
        (_NETWORKING, "ProxyConfig"): extensions.check_proxy_config,
        (_SECURITY, "AuthorizationPolicy"): policies.check_authorization,
        (_SECURITY, "PeerAuthentication"): policies.check_peers,
        (_SECURITY, "RequestAuthentication"): policies.check_requests,
        ("telemetry.istio.io", "Telemetry"): extensions.check_telemetry,
        (_EXTENSIONS, "WasmPlugin"): extensions.check_plugin,
        (_EXTENSIONS, "TrafficExtension"): extensions.check_traffic_extension,
        ("", "Service"): workloads.check_service,
    }
)
"""The check of each kind, by group and kind, whatever the version of its API."""


def judged(
    obj: KubeObject, *, target: str | None = None, known: Sequence[Finding] = ()
) -> list[Finding]:
    """What Istio of version `target` (None: the newest) would refuse or warn of in an object.

    Kinds that it does not look at have no findings; neither have values of wrong types, of which
    the definitions tell, nor places that errors among the `known` findings are about. Raises
    `OptionsMalformed` when `target` is no version.
    """
    check = CHECKS.get(group_kind(obj))
    if check is None:
        return []
    report = Report(subject_of(obj))
    check(Part(obj, Judgement(report, minor_of(target) if target else None)))
    told = {finding.path for finding in errors(known)}
    return [finding for finding in report.findings if finding.path not in told]
