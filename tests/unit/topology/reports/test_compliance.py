"""The compliance report: how each workload stands, and its three forms."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from services.topology.analysis.findings import Finding, Level
from services.topology.cluster import kinds
from services.topology.cluster.objects import Configured, Key, Proxy, Standing, Sync
from services.topology.mesh.security import Mode
from services.topology.reports import compliance, reportpages
from services.topology.reports.compliance import Line, Proxies, Root
from services.topology.reports.posture import Access, How, Posture
from tests.unit.topology.analysis.kia.cases import (
    AMBIENT,
    CORE,
    SECURITY,
    SIDECARS,
    WITH_PROXY,
    deployment,
    mesh_config,
    one,
    pod,
    service,
    space,
    state_of,
)
from tests.unit.topology.reports.test_certificates import certificate, pem

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
MESHED = pod("a", "{app: a}", containers=WITH_PROXY)
CAPTURED = pod("a", "{app: a}", annotations="{ambient.istio.io/redirection: enabled}")
A = "selector: {matchLabels: {app: a}}"


def report_of(text: str, *findings: Finding) -> compliance.ClusterReport:
    return compliance.report(state_of(text)[0], findings=findings, now=NOW)


def posture_of(text: str, name: str = "a") -> Posture:
    (found,) = (p for line in report_of(text).lines if (p := line.posture).object.name == name)
    return found


def peers(name: str, spec: str, **metadata: str) -> str:
    return one(SECURITY, "PeerAuthentication", name, spec, **metadata)


def policy(name: str, spec: str, **metadata: str) -> str:
    return one(SECURITY, "AuthorizationPolicy", name, spec, **metadata)


def mode(name: str, **metadata: str) -> str:
    return peers(name.lower(), f"{{mtls: {{mode: {name}}}}}", **metadata)


OF_WORKLOAD = peers("a", f"{{{A}, mtls: {{mode: DISABLE}}}}")
UNSET = peers("a", f"{{{A}, mtls: {{mode: UNSET}}, portLevelMtls: {{8080: {{mode: DISABLE}}}}}}")


@pytest.mark.parametrize(
    ("text", "wanted", "source"),
    [
        ("", Mode.PERMISSIVE, None),
        (mode("STRICT", namespace="istio-system"), Mode.STRICT, "istio-system/strict"),
        (
            mode("STRICT", namespace="istio-system") + mode("PERMISSIVE"),
            Mode.PERMISSIVE,
            "default/permissive",
        ),
        (mode("STRICT") + OF_WORKLOAD, Mode.DISABLE, "default/a"),
        (mode("STRICT") + OF_WORKLOAD.replace("app: a", "app: b"), Mode.STRICT, "default/strict"),
        (mode("STRICT") + mode("UNSET"), Mode.STRICT, "default/strict"),
        (mode("STRICT") + UNSET, Mode.STRICT, "default/strict"),
        (OF_WORKLOAD.replace("default", "istio-system"), Mode.PERMISSIVE, None),
        (
            mode("STRICT", creationTimestamp="'2026-02-01T00:00:00Z'")
            + mode("DISABLE", creationTimestamp="'2026-01-01T00:00:00Z'"),
            Mode.DISABLE,
            "default/disable",
        ),
        (
            mesh_config("{rootNamespace: roots}") + mode("STRICT", namespace="roots"),
            Mode.STRICT,
            "roots/strict",
        ),
    ],
)
def test_the_narrowest_and_oldest_peer_authentication_holds(
    text: str, wanted: Mode, source: str | None
) -> None:
    found = posture_of(SIDECARS + MESHED + text).mtls
    key = found.source
    assert found.mode is wanted
    assert (f"{key.namespace}/{key.name}" if key else None) == source


def test_the_older_unset_policy_of_a_namespace_leaves_it_to_the_mesh() -> None:
    text = (
        mode("STRICT", creationTimestamp="'2026-02-01T00:00:00Z'")
        + mode("UNSET", creationTimestamp="'2026-01-01T00:00:00Z'")
        + mode("DISABLE", namespace="istio-system")
    )
    assert posture_of(SIDECARS + MESHED + text).mtls.mode is Mode.DISABLE


def test_of_two_policies_for_a_workload_the_older_holds() -> None:
    text = "".join(
        peers(name, f"{{{A}, mtls: {{mode: {name.upper()}}}}}", creationTimestamp=f"'{year}'")
        for name, year in (("strict", 2026), ("disable", 2025))
    )
    assert posture_of(SIDECARS + MESHED + text).mtls.mode is Mode.DISABLE


def test_a_selector_in_the_root_namespace_means_nothing_there_either() -> None:
    text = pod("a", "{app: a}", containers=WITH_PROXY, namespace="istio-system")
    root = OF_WORKLOAD.replace("default", "istio-system")
    assert posture_of(text + root).mtls.mode is Mode.PERMISSIVE


def test_ports_with_another_mode_are_told() -> None:
    found = posture_of(SIDECARS + MESHED + mode("STRICT") + UNSET).mtls
    assert found.ports == ((8080, Mode.DISABLE),)


GATEWAY_LABELS = "{app: a, gateway.networking.k8s.io/gateway-name: gw}"
INSTALLED_LABELS = "{app: a, operator.istio.io/component: IngressGateways}"
WAYPOINT_LABELS = "{app: a, gateway.istio.io/managed: istio.io-mesh-controller}"


@pytest.mark.parametrize(
    ("text", "how", "wanted"),
    [
        (SIDECARS + MESHED, How.SIDECAR, Mode.DISABLE),
        (SIDECARS + pod("a", "{app: a}"), How.NONE, Mode.NONE),
        (SIDECARS + deployment("a"), How.SIDECAR, Mode.DISABLE),
        (AMBIENT + deployment("a"), How.AMBIENT, Mode.PERMISSIVE),
        (AMBIENT + CAPTURED, How.AMBIENT, Mode.PERMISSIVE),
        (AMBIENT + pod("a", "{app: a}"), How.NONE, Mode.NONE),
        (deployment("a"), How.NONE, Mode.NONE),
        (pod("a", GATEWAY_LABELS, containers=WITH_PROXY), How.GATEWAY, Mode.LISTENER),
        (pod("a", INSTALLED_LABELS, containers=WITH_PROXY), How.GATEWAY, Mode.LISTENER),
        (pod("a", WAYPOINT_LABELS, containers=WITH_PROXY), How.WAYPOINT, Mode.STRICT),
        (pod("a", "{app: ztunnel}", containers=WITH_PROXY), How.NONE, Mode.NONE),
    ],
)
def test_pods_say_how_a_workload_is_in_the_mesh_and_labels_where_none_runs(
    text: str, how: How, wanted: Mode
) -> None:
    found = posture_of(text + mode("DISABLE"))
    assert (found.how, found.mtls.mode) == (how, wanted)


def test_a_workload_stands_for_its_pods() -> None:
    owner = "[{controller: true, apiVersion: apps/v1, kind: ReplicaSet, name: a-x}]"
    labels = "{app: a, pod-template-hash: x}"
    text = (
        SIDECARS
        + deployment("a")
        + pod("a-x-1", labels, containers=WITH_PROXY, ownerReferences=owner)
        + pod("a-x-2", labels, ownerReferences=owner)
    )
    report = report_of(text)
    (line,) = report.lines
    assert (line.posture.pods, line.posture.meshed_pods) == (2, 1)
    assert line.posture.proxy_version == "1.31.0"
    assert compliance.totals(report)["partlyInMesh"] == 1


def test_ambient_has_the_version_of_the_ztunnel() -> None:
    ztunnel = pod(
        "zt",
        "{app: ztunnel}",
        containers="[{name: istio-proxy, image: 'ztunnel:1.31.1@sha256:00'}]",
        namespace="istio-system",
    )
    assert posture_of(AMBIENT + CAPTURED + ztunnel).proxy_version == "1.31.1"


@pytest.mark.parametrize(
    ("text", "policies", "access"),
    [
        ("", [], Access.OPEN),
        (policy("deny", f"{{{A}, action: DENY}}"), ["DENY"], Access.OPEN),
        (policy("nothing", "{}"), ["ALLOW"], Access.DENIED),
        (policy("some", f"{{{A}, rules: [{{from: [{{}}]}}]}}"), ["ALLOW"], Access.DENIED),
        (policy("all", "{rules: [{}]}"), ["ALLOW"], Access.OPEN),
        (policy("other", "{selector: {matchLabels: {app: b}}}"), [], Access.OPEN),
        (policy("mesh", "{action: CUSTOM}", namespace="istio-system"), ["CUSTOM"], Access.OPEN),
        (policy("elsewhere", "{}", namespace="x"), [], Access.OPEN),
        (
            service("a") + policy("to", "{targetRefs: [{kind: Service, name: a}]}"),
            ["ALLOW"],
            Access.DENIED,
        ),
        (
            service("b") + policy("to", "{targetRefs: [{kind: Service, name: b}]}"),
            [],
            Access.OPEN,
        ),
    ],
)
def test_policies_that_mean_a_workload_decide_what_others_may_do(
    text: str, policies: list[str], access: Access
) -> None:
    found = posture_of(SIDECARS + MESHED + text)
    assert [action for action, _ in found.policies] == policies
    assert found.access is access


def test_policies_mean_nothing_outside_of_the_mesh() -> None:
    found = posture_of(space("default") + pod("a", "{app: a}") + policy("all", "{}"))
    assert (found.policies, found.access) == ((), Access.OPEN)


# --- certificates ---------------------------------------------------------------------------------


def webhook(name: str, *bundles: str) -> str:
    hooks = ", ".join(
        f"{{name: h{at}.istio.io, clientConfig: {{caBundle: '{bundle}'}}}}"
        for at, bundle in enumerate(bundles)
    )
    version = "apiVersion: admissionregistration.k8s.io/v1"
    return one(
        version, "MutatingWebhookConfiguration", name, f"\nwebhooks: [{hooks}]", namespace="''"
    )


def bundle(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_roots_come_from_webhooks_and_the_config_map() -> None:
    made = certificate(NOW, NOW + timedelta(days=10))
    text = pem(made)
    data = f"\ndata: {{root-cert.pem: {json.dumps(text)}}}"
    config = one(CORE, "ConfigMap", "istio-ca-root-cert", data, namespace="istio-system")
    roots = report_of(webhook("istio-sidecar-injector", bundle(text), bundle(text)) + config).roots
    assert [root.source.name for root in roots] == ["istio-ca-root-cert", "istio-sidecar-injector"][
        ::-1
    ]
    assert {root.certificate.not_after for root in roots if root.certificate} == {
        made.not_valid_after_utc
    }


def test_a_bundle_that_cannot_be_read_is_told_and_others_are_still_read() -> None:
    good = bundle(pem(certificate(NOW, NOW + timedelta(days=10))))
    roots = report_of(webhook("istiod", "bm90aGluZw==", "%%%", good)).roots
    assert [bool(root.error) for root in roots] == [True, False]
    assert "%%%" not in roots[0].error


# --- forms ----------------------------------------------------------------------------------------


def full_report() -> compliance.ClusterReport:
    text = (
        SIDECARS
        + MESHED
        + pod("b", "{app: b}")
        + mode("STRICT")
        + UNSET
        + policy("allow", f"{{{A}}}")
        + webhook("istiod", bundle(pem(certificate(NOW, NOW + timedelta(days=10)))))
    )
    key = Key("/Pod", "default", "a")
    finding = Finding(("KIA1301",), Level.WARNING, key, "", "x")
    return report_of(text, finding)


def test_a_report_comes_back_from_its_json() -> None:
    report = full_report()
    travelled = json.loads(json.dumps(compliance.to_json([report, report])))
    assert compliance.read(travelled) == [report, report]
    (cluster, _) = travelled["clusters"]
    assert cluster["totals"]["strict"] == 1
    assert cluster["totals"]["inMesh"] == 1
    assert cluster["totals"]["portExceptions"] == 1
    assert cluster["findings"] == {"error": 0, "warning": 1, "info": 0}
    assert cluster["workloads"][0]["findings"] == 1


def test_a_workload_stands_as_the_worst_of_its_proxies() -> None:
    found = state_of(SIDECARS + MESHED)[0]
    rejected = (Configured("CDS", Sync.SYNCED), Configured("LDS", Sync.REJECTED))
    key = Key(kinds.PROXY, "default", "a")
    end = "2026-11-25T12:00+00:00"
    old = Proxy(key=key, configured=rejected, expires=end, version="1.29.0")
    found.put(replace(old, istiod_version="1.31.0"))
    report = compliance.report(found, findings=(), now=NOW)

    [line] = report.lines
    assert line.proxies == Proxies(Standing.REJECTED, False, end)
    counted = compliance.totals(report)
    assert (counted["proxiesInSync"], counted["proxiesNotInSync"]) == (0, 1)
    assert counted["proxiesNotSupported"] == 1
    assert compliance.read(json.loads(json.dumps(compliance.to_json([report])))) == [report]
    [row] = csv.DictReader(io.StringIO(reportpages.to_csv([report]), newline=""))
    assert (row["proxies"], row["certificate until"]) == ("rejected", end)
    found.put(Proxy(key=key, configured=rejected[:1], expires=end))
    report = compliance.report(found, findings=(), now=NOW)
    assert compliance.totals(report)["proxiesInSync"] == 1


def test_a_report_of_an_older_owner_knows_nothing_of_proxies() -> None:
    told = json.loads(json.dumps(compliance.to_json([full_report()])))
    for line in told["clusters"][0]["workloads"]:
        del line["proxies"]
    assert {line.proxies for line in compliance.read(told)[0].lines} == {Proxies()}


def strange(name: str) -> compliance.ClusterReport:
    """A report with a name as no API server would take it."""
    (line, *_) = full_report().lines
    key = Key("/Pod", "default", name)
    fields = {field: getattr(line.posture, field) for field in line.posture.__slots__}
    posture = Posture(**{**fields, "object": key})
    root = Root(key, name, None, name)
    return compliance.ClusterReport(
        cluster="c1", name=name, made=NOW, lines=(Line(posture),), roots=(root,)
    )


def test_the_table_has_a_line_for_each_workload_of_each_cluster() -> None:
    text = reportpages.to_csv([full_report(), full_report()])
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 4
    assert rows[0]["name"] == "a"
    assert rows[0]["mTLS"] == "STRICT"
    assert rows[0]["mTLS of ports"] == "8080:DISABLE"
    assert rows[0]["policies"] == "ALLOW:default/allow"
    assert rows[1]["mesh"] == "none"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", 'a,"b"\r\nc'])
def test_cells_are_no_formulas_and_survive_a_reader(name: str) -> None:
    text = reportpages.to_csv([strange(name)])
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["name"] == (name if name.startswith("a") else f"'{name}")
    assert row["cluster"] == row["name"]


def test_the_page_escapes_names_and_asks_for_nothing() -> None:
    page = reportpages.to_html([strange("<script>alert('x')</script>")])
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") >= 4
    assert not re.search(r"(src|href)=", page)
    assert "prefers-color-scheme: dark" in page
    assert "default-src 'none'" in page


def test_a_page_for_a_strict_server_has_no_styles_inside() -> None:
    page = reportpages.to_html([full_report()], stylesheet="/static/report.css")
    assert "<style" not in page
    assert 'style="' not in page
    assert '<link rel="stylesheet" href="/static/report.css">' in page


def test_the_page_marks_what_expires_soon_and_what_has_expired() -> None:
    def page(days: float) -> str:
        made = certificate(NOW - timedelta(days=100), NOW + timedelta(days=days))
        return reportpages.to_html([report_of(webhook("istiod", bundle(pem(made))))])

    assert '<td class="warn">2026-12-04' in page(10)
    assert '<td class="good">2027-' in page(100)
    assert re.search(r'<td class="bad">2026-11-23[^<]*\(expired\)', page(-1))


def test_an_empty_cluster_and_no_cluster_at_all_make_a_page() -> None:
    assert "No webhook of Istio names one" in reportpages.to_html([report_of("")])
    assert "No cluster is watched" in reportpages.to_html([])


def test_a_workload_is_of_the_team_that_its_labels_or_its_namespace_name() -> None:
    text = (
        space("shop", "{team: web}")
        + pod("a", "{app: a}", namespace="shop")
        + pod("b", "{app: b, team: design}", namespace="shop")
        + pod("c", "{app: c}")
    )
    found = compliance.report(state_of(text)[0], findings=(), now=NOW, team_label="team")
    assert {line.posture.object.name: line.team for line in found.lines} == {
        "a": "web",
        "b": "design",
        "c": "",
    }
    (again,) = compliance.read(compliance.to_json([found]))
    assert again == found
    assert "design" in reportpages.to_csv([found])
    assert [line.team for line in report_of(text).lines] == ["", "", ""]
