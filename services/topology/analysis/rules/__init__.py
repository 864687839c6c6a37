"""The rules by subject; each reads specs by `forms`, and the cluster by its lens alone."""

from __future__ import annotations

from services.topology.analysis.catalog import Rule
from services.topology.analysis.rules import (
    ambient,
    authorization,
    destinationrules,
    gatewayapi,
    gateways,
    injection,
    mtls,
    proxies,
    references,
    routes,
    selectors,
    services,
    virtualservices,
    webhooks,
    workloads,
)

RULES: tuple[Rule, ...] = (
    *references.RULES,
    *selectors.RULES,
    *virtualservices.RULES,
    *routes.RULES,
    *destinationrules.RULES,
    *gateways.RULES,
    *gatewayapi.RULES,
    *services.RULES,
    *authorization.RULES,
    *mtls.RULES,
    *injection.RULES,
    *workloads.RULES,
    *ambient.RULES,
    *proxies.RULES,
    *webhooks.RULES,
)
