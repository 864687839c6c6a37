"""Options of a translation: a document beside the objects, as LifecycleOptions are.

apiVersion: meshbus.io/v1
kind: TranslationOptions
spec:
  form: istio                 # or gateway-api
  denyByDefault: namespace    # or workload, none
  trustDomain: cluster.local  # the mesh's own where it is not set
  clusterDomain: cluster.local
  istioVersion: 1.31.0        # definitions to validate against; the cluster's where not set
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.chassis.kube.objects import KubeObject
from services.chassis.operations.bodies import API_VERSION, read_options

KIND = "TranslationOptions"
_DOMAIN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"


class Options(BaseModel):
    """Checked options. Field names are the document's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["istio", "gateway-api"] = "istio"
    """A TrafficSplit becomes a VirtualService, or an HTTPRoute with a Service parent."""
    denyByDefault: Literal["namespace", "workload", "none"] = "namespace"  # noqa: N815
    """The scope in which access is denied unless a TrafficTarget allows it: the namespace of the
    destination, as SMI wants it, only the destination's workloads, or no more than Istio denies by
    itself: an ALLOW policy denies all other access to the workloads that it selects."""
    trustDomain: str | None = Field(default=None, pattern=_DOMAIN)  # noqa: N815
    clusterDomain: str = Field(default="cluster.local", pattern=_DOMAIN)  # noqa: N815
    istioVersion: str = ""  # noqa: N815


def is_options(obj: Any) -> bool:
    return isinstance(obj, dict) and (obj.get("apiVersion"), obj.get("kind")) == (API_VERSION, KIND)


def parse_options(document: KubeObject) -> Options:
    """The options in a TranslationOptions document; raises `OptionsMalformed`."""
    return read_options(document, KIND, Options)
