"""Traffic intents: subsets, weights, faults, mirrors, retries, circuit breaking; for any service.

All intents for one host share a VirtualService and a DestinationRule of the host's name, because
Istio takes the older one of two VirtualServices for a host (IST0109). The defaults are those
of Bookinfo, whose services have the versions that these operations speak of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.istio.objects import managed

KIND = "RoutingOptions"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")]
Weight = Annotated[int, Field(ge=0, le=1_000_000)]
Percentage = Annotated[float, Field(gt=0, le=100)]

BOOKINFO_VERSIONS = {
    "productpage": ("v1",),
    "reviews": ("v1", "v2", "v3"),
    "ratings": ("v1", "v2"),
    "details": ("v1", "v2"),
}


class RoutingOptions(BaseModel):
    """Options of a traffic intent; the defaults are Bookinfo's own services.

    apiVersion: meshbus.io/v1
    kind: RoutingOptions
    spec:
      service: reviews
      weights: {v1: 75, v3: 25}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: Name | None = None
    versions: list[Name] | None = Field(default=None, min_length=1, max_length=32)
    """Values of the label `version` that become subsets."""
    weights: dict[Name, Weight] | None = Field(default=None, min_length=1, max_length=32)
    """Share of each version; at least one is above 0."""
    percentage: Percentage = 100.0
    """Share of the requests that a fault or a mirror takes."""
    delay: Duration = "7s"
    abortStatus: int = Field(default=500, ge=200, le=599)  # noqa: N815
    user: str = Field(default="", max_length=128)
    """Only requests with this `end-user` header get a fault; all where it is empty."""
    mirrorTo: Name | None = None  # noqa: N815
    """The last version where it is empty."""
    attempts: int = Field(default=3, ge=1, le=100)
    perTryTimeout: Duration = "2s"  # noqa: N815
    maxConnections: int = Field(default=1, ge=1)  # noqa: N815
    maxPendingRequests: int = Field(default=1, ge=1)  # noqa: N815
    consecutive5xxErrors: int = Field(default=1, ge=1)  # noqa: N815
    baseEjectionTime: Duration = "3m"  # noqa: N815

    @field_validator("weights")
    @classmethod
    def _has_a_receiver(cls, weights: dict[str, int] | None) -> dict[str, int] | None:
        if weights is not None and not any(weights.values()):
            raise ValueError("at least one weight has to be above 0")
        return weights


def subsets(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    """DestinationRules with a subset for each version."""
    services = [options.service] if options.service else list(BOOKINFO_VERSIONS)
    return [destination_rule(service, options, namespace=namespace) for service in services]


def to_version(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    """Routes all requests to one version: the first one of each service."""
    services = [options.service] if options.service else list(BOOKINFO_VERSIONS)
    objects = []
    for service in services:
        version = _versions(service, options)[0]
        objects += _routed(service, options, [_weighted(service, {version: 100})], namespace)
    return objects


def by_weight(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    """Shares requests between versions: by halves to the first and last without weights."""
    service = options.service or "reviews"
    versions = _versions(service, options)
    weights = options.weights or {versions[0]: 50, versions[-1]: 50}
    return _routed(service, options, [_weighted(service, weights)], namespace)


def delayed(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    fault = {"delay": {"fixedDelay": options.delay, "percentage": {"value": options.percentage}}}
    return _faulty(options, fault, namespace)


def aborted(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    percentage = {"value": options.percentage}
    fault = {"abort": {"httpStatus": options.abortStatus, "percentage": percentage}}
    return _faulty(options, fault, namespace)


def mirrored(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    """Routes requests to the first version, and copies of them to another one."""
    service = options.service or "reviews"
    versions = _versions(service, options)
    mirror = options.mirrorTo or versions[-1]
    route = _weighted(service, {versions[0]: 100})
    route["mirrors"] = [
        {
            "destination": {"host": service, "subset": mirror},
            "percentage": {"value": options.percentage},
        }
    ]
    return _routed(service, options, [route], namespace, also=[mirror])


def retried(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    service = options.service or "ratings"
    route = _weighted(service, {_versions(service, options)[0]: 100})
    route["retries"] = {
        "attempts": options.attempts,
        "perTryTimeout": options.perTryTimeout,
        "retryOn": "connect-failure,refused-stream,unavailable,5xx",
    }
    return _routed(service, options, [route], namespace)


def circuit_broken(options: RoutingOptions, *, namespace: str) -> list[KubeObject]:
    """Stops requests to a service that is overloaded or failing for a while."""
    service = options.service or "productpage"
    rule = destination_rule(service, options, namespace=namespace)
    rule["spec"]["trafficPolicy"] = {
        "connectionPool": {
            "tcp": {"maxConnections": options.maxConnections},
            "http": {
                "http1MaxPendingRequests": options.maxPendingRequests,
                "maxRequestsPerConnection": 1,
            },
        },
        "outlierDetection": {
            "consecutive5xxErrors": options.consecutive5xxErrors,
            "interval": "1s",
            "baseEjectionTime": options.baseEjectionTime,
            "maxEjectionPercent": 100,
        },
    }
    return [rule]


def destination_rule(
    service: str, options: RoutingOptions, *, namespace: str, also: Sequence[str] = ()
) -> KubeObject:
    versions = dict.fromkeys([*_versions(service, options), *(options.weights or {}), *also])
    found = [{"name": version, "labels": {"version": version}} for version in versions]
    return _object("DestinationRule", service, namespace, {"host": service, "subsets": found})


def _faulty(options: RoutingOptions, fault: dict[str, Any], namespace: str) -> list[KubeObject]:
    service = options.service or "ratings"
    plain = _weighted(service, {_versions(service, options)[0]: 100})
    faulty = {**plain, "fault": fault}
    if not options.user:
        return _routed(service, options, [faulty], namespace)
    faulty["match"] = [{"headers": {"end-user": {"exact": options.user}}}]
    return _routed(service, options, [faulty, plain], namespace)


def _weighted(service: str, weights: dict[str, int]) -> dict[str, Any]:
    # Istio sends a single destination everything, whatever its weight, so a zero is left out.
    shares = {version: weight for version, weight in weights.items() if weight}
    route: list[dict[str, Any]] = [
        {"destination": {"host": service, "subset": version}, "weight": weight}
        for version, weight in shares.items()
    ]
    if len(route) == 1:
        del route[0]["weight"]
    return {"route": route}


def _routed(
    service: str,
    options: RoutingOptions,
    http: list[dict[str, Any]],
    namespace: str,
    *,
    also: Sequence[str] = (),
) -> list[KubeObject]:
    return [
        destination_rule(service, options, namespace=namespace, also=also),
        _object("VirtualService", service, namespace, {"hosts": [service], "http": http}),
    ]


def _versions(service: str, options: RoutingOptions) -> Sequence[str]:
    return options.versions or BOOKINFO_VERSIONS.get(service, ("v1",))


def _object(kind: str, name: str, namespace: str, spec: dict[str, Any]) -> KubeObject:
    return managed(Ref("networking.istio.io/v1", kind, namespace, name), spec)
