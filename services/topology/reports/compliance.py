"""The compliance report: each workload's mutual TLS, authorization and proxies, and when roots
expire.

The owner of a cluster makes it from the objects that it keeps, and it travels as JSON; any replica
reads it back (`read`) and makes tables and pages of several clusters (`reportpages`). Certificates
in Secrets are not looked at: the roots that the webhooks trust are public.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.cluster import kinds
from services.topology.cluster.forms import part, parts, text
from services.topology.cluster.objects import Config, Key, Proxy, Runs, Standing, worst
from services.topology.cluster.state import State
from services.topology.mesh.images import is_supported
from services.topology.mesh.meshes import mesh_of
from services.topology.mesh.security import Mode, Mtls
from services.topology.reports.certificates import (
    Certificate,
    MalformedCertificate,
    of_bundle,
    of_pem,
)
from services.topology.reports.posture import Access, How, Posture, postures


@dataclass(frozen=True, slots=True)
class Root:
    """A root certificate and one place that trusts it; `error` is set where none can be read."""

    source: Key
    part: str
    """Which webhook of the configuration; "" for a ConfigMap."""
    certificate: Certificate | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of a workload under their control plane."""

    standing: Standing = Standing.UNKNOWN
    """The worst of them."""
    is_supported: bool = True
    """Whether their versions go with their control plane's."""
    expires: str = ""
    """When the first of their certificates ends, RFC 3339; "" when that is not known."""


@dataclass(frozen=True, slots=True)
class Line:
    """A workload, and how many findings are about it."""

    posture: Posture
    findings: int = 0
    proxies: Proxies = field(default_factory=Proxies)
    team: str = ""
    """Whose it is, by a label of it or of its namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport:
    cluster: str
    name: str
    made: datetime
    lines: tuple[Line, ...] = ()
    roots: tuple[Root, ...] = ()
    findings: Mapping[str, int] = field(default_factory=dict)
    """By level, of the whole cluster."""


NOT_IN_SYNC = (Standing.LOST, Standing.REJECTED, Standing.STALE)


def totals(report: ClusterReport) -> dict[str, int]:
    """The figures that people ask for first."""
    found = [line.posture for line in report.lines]
    meshed = [posture for posture in found if posture.how is not How.NONE]
    modes = Counter(posture.mtls.mode for posture in meshed)
    standings = Counter(line.proxies.standing for line in report.lines)
    return {
        "workloads": len(found),
        "inMesh": len(meshed),
        **{how.value: sum(p.how is how for p in meshed) for how in How if how is not How.NONE},
        "partlyInMesh": sum(0 < p.meshed_pods < p.pods for p in meshed),
        "strict": modes[Mode.STRICT],
        "permissive": modes[Mode.PERMISSIVE],
        "disabled": modes[Mode.DISABLE],
        "portExceptions": sum(bool(p.mtls.ports) for p in meshed),
        "withPolicy": sum(bool(p.policies) for p in meshed),
        "deniedByDefault": sum(p.access is Access.DENIED for p in meshed),
        "proxiesInSync": standings[Standing.SYNCED],
        "proxiesNotInSync": sum(standings[standing] for standing in NOT_IN_SYNC),
        "proxiesNotSupported": sum(not line.proxies.is_supported for line in report.lines),
    }


# --- how it is made -------------------------------------------------------------------------------

_ROOT_CERTIFICATES = "istio-ca-root-cert"
_ROOT_CERTIFICATE = "root-cert.pem"


def report(
    state: State,
    *,
    findings: Iterable[Finding],
    now: datetime | None = None,
    team_label: str = "",
) -> ClusterReport:
    """One cluster as it is; `team_label` says whose a workload is."""
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
        lines=tuple(
            Line(p, about[p.object], _proxies(state, p.object), _team(state, p, team_label))
            for p in postures(state, root=root)
        ),
        roots=tuple(_roots(state, root)),
        findings={level.value: levels[level.value] for level in Level},
    )


def _proxies(state: State, workload: Key) -> Proxies:
    pods = [workload] if workload.kind == kinds.POD else [p.key for p in state.pods_of(workload)]
    found: list[Proxy] = [
        proxy
        for pod in pods
        if (proxy := state.get(kinds.PROXY, pod.namespace, pod.name)) is not None
    ]
    return Proxies(
        worst(proxy.standing for proxy in found),
        all(is_supported(proxy.version, proxy.istiod_version) for proxy in found),
        min((proxy.expires for proxy in found if proxy.expires), default=""),
    )


def _team(state: State, posture: Posture, label: str) -> str:
    """By the pods' labels, then the workload's own, then its namespace's."""
    if not label:
        return ""
    key = posture.object
    found: Runs | None = state.get(key.kind, key.namespace, key.name)
    space = state.get(kinds.NAMESPACE, "", key.namespace)
    told = [found.pod_labels, found.labels] if found is not None else []
    told += [space.labels] if space is not None else []
    return next((team for labels in told if (team := labels.get(label))), "")


def _roots(state: State, root: str) -> Iterator[Root]:
    for config in sorted(state.all(kinds.WEBHOOK), key=lambda config: config.key):
        yield from _of_webhooks(config)
    space = state.get(kinds.CONFIG_MAP, root, _ROOT_CERTIFICATES)
    if space is not None:
        yield from _read(space.key, "", of_pem(str(space.spec.get(_ROOT_CERTIFICATE) or "")))


def _of_webhooks(config: Config) -> Iterator[Root]:
    """One configuration has a bundle per webhook, mostly the same one."""
    told: set[str] = set()
    for _, webhook in parts(config.spec, "webhooks"):
        bundle, name = text(part(webhook, "clientConfig"), "caBundle"), text(webhook, "name")
        # istiod patches its own webhooks, which are recognised by their names.
        if bundle and bundle not in told and "istio" in f"{config.name} {name}":
            told.add(bundle)
            yield from _read(config.key, name, of_bundle(bundle))


def _read(source: Key, part: str, certificates: Iterator[Certificate]) -> Iterator[Root]:
    try:
        for certificate in certificates:
            yield Root(source, part, certificate)
    except MalformedCertificate as error:
        yield Root(source, part, None, str(error))


# --- how it travels -------------------------------------------------------------------------------


def to_json(reports: Sequence[ClusterReport]) -> dict[str, Any]:
    return {"clusters": [_json(report) for report in reports]}


def read(data: Mapping[str, Any]) -> list[ClusterReport]:
    """The reports back from what `to_json` made."""
    return [_report_of(cluster) for cluster in data["clusters"]]


def _json(report: ClusterReport) -> dict[str, Any]:
    return {
        "cluster": report.cluster,
        "name": report.name,
        "made": report.made.isoformat(),
        "totals": totals(report),
        "findings": dict(report.findings),
        "workloads": [_line_json(line) for line in report.lines],
        "roots": [_root_json(root) for root in report.roots],
    }


def _key_json(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}


def _line_json(line: Line) -> dict[str, Any]:
    posture = line.posture
    source = posture.mtls.source
    return {
        **_key_json(posture.object),
        "mesh": posture.how.value,
        "pods": posture.pods,
        "meshedPods": posture.meshed_pods,
        "mtls": {
            "mode": posture.mtls.mode.value,
            "source": _key_json(source) if source is not None else None,
            "ports": {str(port): mode.value for port, mode in posture.mtls.ports},
        },
        "access": posture.access.value,
        "policies": [{"action": a, **_key_json(key)} for a, key in posture.policies],
        "proxyVersion": posture.proxy_version,
        "proxies": {
            "standing": line.proxies.standing.value,
            "supported": line.proxies.is_supported,
            "certificateExpires": line.proxies.expires,
        },
        "findings": line.findings,
        "team": line.team,
    }


def _root_json(root: Root) -> dict[str, Any]:
    found = root.certificate
    return {
        "source": _key_json(root.source),
        "part": root.part,
        "error": root.error,
        "subject": found.subject if found else None,
        "notBefore": found.not_before.isoformat() if found else None,
        "notAfter": found.not_after.isoformat() if found else None,
        "sha256": found.sha256 if found else None,
    }


def _key_of(data: Mapping[str, Any]) -> Key:
    return Key(data["kind"], data["namespace"], data["name"])


def _report_of(data: Mapping[str, Any]) -> ClusterReport:
    return ClusterReport(
        cluster=data["cluster"],
        name=data["name"],
        made=datetime.fromisoformat(data["made"]),
        lines=tuple(_line_of(line) for line in data["workloads"]),
        roots=tuple(_root_of(root) for root in data["roots"]),
        findings=dict(data["findings"]),
    )


def _line_of(data: Mapping[str, Any]) -> Line:
    mtls = data["mtls"]
    posture = Posture(
        object=_key_of(data),
        how=How(data["mesh"]),
        pods=data["pods"],
        meshed_pods=data["meshedPods"],
        mtls=Mtls(
            Mode(mtls["mode"]),
            _key_of(mtls["source"]) if mtls["source"] else None,
            tuple((int(port), Mode(mode)) for port, mode in mtls["ports"].items()),
        ),
        policies=tuple((policy["action"], _key_of(policy)) for policy in data["policies"]),
        access=Access(data["access"]),
        proxy_version=data["proxyVersion"],
    )
    told = data.get("proxies", {})
    proxies = Proxies(
        Standing(told.get("standing", Standing.UNKNOWN)),
        told.get("supported", True),
        told.get("certificateExpires", ""),
    )
    return Line(posture, data["findings"], proxies, data.get("team", ""))


def _root_of(data: Mapping[str, Any]) -> Root:
    certificate = None
    if data["notAfter"]:
        certificate = Certificate(
            data["subject"],
            datetime.fromisoformat(data["notBefore"]),
            datetime.fromisoformat(data["notAfter"]),
            data["sha256"],
        )
    return Root(_key_of(data["source"]), data["part"], certificate, data["error"])
