"""Policies as intents: mutual TLS and access for a mesh, a namespace or a workload.

An intent has one object of a fixed name, so that a repeat changes nothing, and the modes of mutual
TLS exclude each other: setting one takes away those of the others that Meshbus made, because of
several PeerAuthentications for the same pods Istio takes the oldest.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.istio.objects import managed

KIND = "PolicyOptions"
_API_VERSION = "security.istio.io/v1"


class MutualTls(StrEnum):
    """Modes of a PeerAuthentication."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


class PolicyOptions(BaseModel):
    """Scope of a policy; the default is the request's namespace.

    apiVersion: meshbus.io/v1
    kind: PolicyOptions
    spec:
      scope: workload           # mesh, namespace or workload
      selector: {app: reviews}  # labels of the workload's pods
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: Literal["mesh", "namespace", "workload"] = "namespace"
    selector: dict[str, str] = Field(default_factory=dict, max_length=16)

    @model_validator(mode="after")
    def _selector_is_for_workloads(self) -> Self:
        if (self.scope == "workload") != bool(self.selector):
            raise ValueError("a selector belongs to the scope workload, and only to it")
        return self


def peer_authentication(
    mode: MutualTls, *, namespace: str, selector: dict[str, str] | None = None
) -> KubeObject:
    """Sets the mutual TLS mode for the pods of a namespace, or for some of them."""
    spec: dict[str, Any] = {"mtls": {"mode": mode.value}}
    if selector:
        spec["selector"] = {"matchLabels": selector}
    name = _named(mode.value.lower(), selector)
    return managed(Ref(_API_VERSION, "PeerAuthentication", namespace, name), spec)


def other_modes(
    mode: MutualTls, *, namespace: str, selector: dict[str, str] | None = None
) -> list[KubeObject]:
    """The objects that would contradict `mode`."""
    return [
        peer_authentication(other, namespace=namespace, selector=selector)
        for other in MutualTls
        if other is not mode
    ]


def deny_all(*, namespace: str, selector: dict[str, str] | None = None) -> KubeObject:
    """An AuthorizationPolicy without rules: only what other policies allow is allowed."""
    spec = {"selector": {"matchLabels": selector}} if selector else {}
    name = _named("deny-all", selector)
    return managed(Ref(_API_VERSION, "AuthorizationPolicy", namespace, name), spec)


def _named(name: str, selector: dict[str, str] | None) -> str:
    """One name for each selector: policies for two workloads stand side by side."""
    if not selector:
        return name
    text = orjson.dumps(selector, option=orjson.OPT_SORT_KEYS)
    return f"{name}-{hashlib.sha256(text).hexdigest()[:8]}"
