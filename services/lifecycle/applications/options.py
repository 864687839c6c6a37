"""Options of sample applications and add-ons, in the request's body.

apiVersion: meshbus.io/v1
kind: ApplicationOptions
spec: {gateway: true, readinessTimeoutSeconds: 120}

apiVersion: meshbus.io/v1
kind: AddonOptions
spec: {expose: false, readinessTimeoutSeconds: 120}
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from services.chassis.operations.bodies import find_options

_PATIENCE = timedelta(seconds=120)


class _ApplicationSpec(BaseModel):
    model_config = ConfigDict(extra="forbid")

    gateway: bool = True
    readinessTimeoutSeconds: int = Field(default=120, ge=1, le=3600)  # noqa: N815


class _AddonSpec(BaseModel):
    model_config = ConfigDict(extra="forbid")

    expose: bool = False
    readinessTimeoutSeconds: int = Field(default=120, ge=1, le=3600)  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a request wants of an application. `is_given` tells that its body said so."""

    gateway: bool = True
    """Of a sample application: whether the mesh's ingress gateway leads to it."""
    expose: bool = False
    """Of an add-on: whether its Service gets a load balancer."""
    readiness_timeout: timedelta = _PATIENCE
    is_given: bool = False


def application_options(body: str) -> Options:
    """Options of a sample application; raises `OptionsMalformed`."""
    spec = find_options(body, "ApplicationOptions", _ApplicationSpec)
    if spec is None:
        return Options()
    patience = timedelta(seconds=spec.readinessTimeoutSeconds)
    return Options(gateway=spec.gateway, readiness_timeout=patience, is_given=True)


def addon_options(body: str) -> Options:
    """Options of an add-on; raises `OptionsMalformed`."""
    spec = find_options(body, "AddonOptions", _AddonSpec)
    if spec is None:
        return Options()
    patience = timedelta(seconds=spec.readinessTimeoutSeconds)
    return Options(expose=spec.expose, readiness_timeout=patience, is_given=True)
