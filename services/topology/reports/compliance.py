"""The compliance report: each workload's mutual TLS and authorization, and when roots expire.

It is made by the owner of a cluster, from the objects that it keeps, and travels as JSON; tables
and pages of several clusters are made wherever they are asked for (`read`). Certificates in
Secrets are not looked at: the roots that the webhooks trust are public.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from services.topology.analysis.findings import Finding, Level
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key
from services.topology.cluster.state import State
from services.topology.mesh.meshes import mesh_of
from services.topology.reports.certificates import (
    Certificate,
    MalformedCertificate,
    of_bundle,
    of_pem,
)
from services.topology.reports.clusterreports import (
    ClusterReport,
    Line,
    Root,
    read,
    to_json,
    totals,
)
from services.topology.reports.posture import postures
from services.topology.reports.reportpages import to_csv, to_html

__all__ = ["ClusterReport", "read", "report", "to_csv", "to_html", "to_json", "totals"]

_ROOT_CERTIFICATES = "istio-ca-root-cert"
_ROOT_CERTIFICATE = "root-cert.pem"


def report(
    state: State, *, findings: Iterable[Finding], now: datetime | None = None
) -> ClusterReport:
    """One cluster as it is."""
    about: Counter[Key] = Counter()
    levels: Counter[str] = Counter()
    for finding in findings:
        about[finding.object] += 1
        levels[finding.level.value] += 1
    root = mesh_of(state).root_namespace
    return ClusterReport(
        cluster=state.cluster,
        name=state.name,
        made=now or datetime.now(timezone.utc),
        lines=tuple(Line(p, about[p.object]) for p in postures(state, root=root)),
        roots=tuple(_roots(state, root)),
        findings={level.value: levels[level.value] for level in Level},
    )


def _roots(state: State, root: str) -> Iterator[Root]:
    for config in sorted(state.all(kinds.WEBHOOK), key=lambda config: config.key):
        yield from _of_webhooks(config)
    space = state.get(kinds.CONFIG_MAP, root, _ROOT_CERTIFICATES)
    if space is not None:
        yield from _read(space.key, "", of_pem(str(space.spec.get(_ROOT_CERTIFICATE) or "")))


def _of_webhooks(config: Config) -> Iterator[Root]:
    """One configuration has a bundle per webhook, mostly the same one."""
    told: set[str] = set()
    for webhook in config.spec.get("webhooks") or ():
        bundle = (webhook.get("clientConfig") or {}).get("caBundle")
        # istiod patches its own webhooks, which are recognised by their names.
        if bundle and bundle not in told and "istio" in f"{config.name} {webhook.get('name')}":
            told.add(bundle)
            yield from _read(config.key, str(webhook.get("name") or ""), of_bundle(bundle))


def _read(source: Key, part: str, certificates: Iterator[Certificate]) -> Iterator[Root]:
    try:
        for certificate in certificates:
            yield Root(source, part, certificate)
    except MalformedCertificate as error:
        yield Root(source, part, None, str(error))
