"""Clients of the shared cluster."""

from __future__ import annotations

from tests.testbed.kube_fixtures import (
    applier,
    client,
    name,
    namespace,
    proxied,
    proxy,
    readiness,
    resources,
)
