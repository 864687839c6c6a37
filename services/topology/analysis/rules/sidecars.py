"""Settings that proxies take from Sidecars and Telemetries."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.cluster import kinds
from services.topology.cluster.forms import part, parts
from services.topology.cluster.objects import Config
from services.topology.mesh.security import selector_of


def _default(lens: Lens, sidecar: Config) -> Iterator[Finding]:
    if selector_of(sidecar) and sidecar.namespace == lens.mesh().root_namespace:
        message = "The mesh's default Sidecar has a selector."
        yield tell("KIA1006", sidecar.key, message, "spec.workloadSelector")
    policy = sidecar.spec.get("outboundTrafficPolicy")
    if isinstance(policy, dict) and not policy.get("mode"):
        message = "The outboundTrafficPolicy does not say its mode."
        yield tell("KIA1007", sidecar.key, message, "spec.outboundTrafficPolicy")


def _providers(lens: Lens, telemetry: Config) -> Iterator[Finding]:
    if part(lens.mesh().config, "defaultProviders").get("accessLogging"):
        return
    for index, logging in parts(telemetry.spec, "accessLogging"):
        if not logging.get("disabled") and not logging.get("providers"):
            message = "Access logging names no provider, and the mesh has no default one."
            path = f"spec.accessLogging[{index}].providers"
            yield tell("IST0157", telemetry.key, message, path)


RULES = (
    Rule(finds=("KIA1006", "KIA1007"), kinds=(kinds.SIDECAR,), check=_default),
    Rule(finds=("IST0157",), kinds=(kinds.TELEMETRY,), check=_providers),
)
