"""Sample applications and add-ons: the list, the distribution, and our own manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import SampleMissing
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.messages import Category, SlotKind
from services.lifecycle.applications.deploying import Applications
from services.lifecycle.applications.samples import APPLICATIONS, SIZE_LIMIT_BYTES, Samples
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.inventory import Inventory, Mesh, mesh_of
from services.lifecycle.cluster.istio import is_in_mesh
from services.lifecycle.cluster.versions import choose_distribution
from services.lifecycle.manifests.objects import Identity, identity
from services.lifecycle.releases.fetching import Releases
from tests.unit.lifecycle.samples import foreign_plane, found, inventory, plane, tag, thing

AVAILABLE = ("1.31.0", "1.30.3", "1.30.1", "1.31.2-rc.1")
BUNDLED = [application.name for application in APPLICATIONS if not application.files]


def test_operations_are_those_of_the_older_adapter() -> None:
    nowhere = Path("/nonexistent")
    releases = Releases(here=list, folder=nowhere)
    operations = Applications(Samples(nowhere), releases).operations()
    shown = {
        o.advertised.name: (o.advertised.category, o.advertised.description) for o in operations
    }
    assert shown == {
        "bookinfo": (Category.SAMPLE_APPLICATION, "Istio Book Info Application"),
        "httpbin": (Category.SAMPLE_APPLICATION, "HTTPBin Application"),
        "imagehub": (Category.SAMPLE_APPLICATION, "Image Hub Application"),
        "emojivoto": (Category.SAMPLE_APPLICATION, "EmojiVoto Application"),
        "prometheus-addon": (Category.CONFIGURE, "Add-on: Prometheus"),
        "grafana-addon": (Category.CONFIGURE, "Add-on: Grafana"),
        "kiali-addon": (Category.CONFIGURE, "Add-on: Kiali"),
        "jaeger-addon": (Category.CONFIGURE, "Add-on: Jaeger"),
        "zipkin-addon": (Category.CONFIGURE, "Add-on: Zipkin"),
    }
    assert {o.advertised.slot for o in operations} == {SlotKind.APPLY}


# --- the mesh -------------------------------------------------------------------------------------


def helm_plane(version_labels: dict[str, str], *, revision: str = "") -> Inventory:
    named = {istio.REVISION: revision} if revision else {}
    labels = {"app": "istiod", **named, **version_labels}
    return inventory(
        foreign=(found(thing("Deployment", "istiod", labels, namespace="mesh")),),
    )


MESHES: dict[str, tuple[Inventory, Mesh]] = {
    "nothing": (inventory(), Mesh("", "istio-system")),
    "the only one": (inventory(plane("canary", "1.30.3")), Mesh("1.30.3", "istio-system")),
    "the unnamed one": (
        inventory(plane("canary", "1.31.0"), plane("default", "1.30.3")),
        Mesh("1.30.3", "istio-system"),
    ),
    "the one with the default tag": (
        inventory(plane("b", "1.31.0"), plane("a", "1.30.3"), tag("default", "a")),
        Mesh("1.30.3", "istio-system"),
    ),
    "the newest": (
        inventory(plane("a", "1.9.0"), plane("b", "1.30.3"), plane("c", "")),
        Mesh("1.30.3", "istio-system"),
    ),
    "a tag of a revision that is gone": (
        inventory(plane("a", "1.30.3"), tag("default", "b"), plane("b", "1.29.0")),
        Mesh("1.29.0", "istio-system"),
    ),
    "Helm's, by its label": (
        helm_plane({"app.kubernetes.io/version": "1.30.3"}),
        Mesh("1.30.3", "mesh"),
    ),
    "Helm's, by its chart": (
        helm_plane({"helm.sh/chart": "istiod-1.31.0-rc.1"}, revision="canary"),
        Mesh("1.31.0-rc.1", "mesh"),
    ),
    "another tool's, without a version": (
        inventory(foreign=(foreign_plane(None),)),
        Mesh("", "istio-system"),
    ),
    "ours before another tool's of the same name": (
        inventory(plane("default", "1.31.0"), foreign=(foreign_plane(None),)),
        Mesh("1.31.0", "istio-system"),
    ),
}


@pytest.mark.parametrize(("cluster", "mesh"), MESHES.values(), ids=MESHES)
def test_the_mesh_that_samples_have_to_fit(cluster: Inventory, mesh: Mesh) -> None:
    assert mesh_of(cluster) == mesh


def test_the_mesh_is_where_its_control_plane_is() -> None:
    labels = {
        istio.COMPONENT: istio.PILOT,
        istio.REVISION: "default",
        istio.VERSION: "1.31.0",
        # What all objects say; here they say something else than the plane's own place.
        istio.OWNER_NAMESPACE: "istio-system",
    }
    moved = found(thing("Deployment", "istiod", labels, namespace="mesh-two"))
    assert mesh_of(inventory(moved)) == Mesh("1.31.0", "mesh-two")
    leftover = found(thing("ClusterRole", "istiod", {**labels, istio.OWNER_NAMESPACE: "three"}))
    assert mesh_of(inventory(leftover)) == Mesh("1.31.0", "three")


# Installed version, the distribution, and what the warning says ("" for none).
DISTRIBUTIONS: dict[str, tuple[str, str, str]] = {
    "the same": ("1.30.3", "1.30.3", ""),
    "the same with a v": ("v1.30.3", "1.30.3", ""),
    "a nearer patch below": ("1.30.2", "1.30.3", "Istio 1.30.2 is installed"),
    "a patch above all": ("1.30.9", "1.30.3", "those of Istio 1.30.3"),
    "a pre-release of what is there": ("1.31.0-beta.1", "1.31.0", "Istio 1.31.0-beta.1"),
    "a patch between": ("1.31.1", "1.31.0", "those of Istio 1.31.0"),
    "nothing installed": ("", "1.31.2-rc.1", "no Istio"),
    "a development build": ("latest", "1.31.2-rc.1", "Istio 'latest'"),
}


@pytest.mark.parametrize(
    ("installed", "chosen", "warning"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS
)
def test_the_distribution_of_the_installed_version(
    installed: str, chosen: str, warning: str
) -> None:
    distribution, said = choose_distribution(installed, AVAILABLE)
    assert distribution == chosen
    assert warning in said
    assert bool(said) == bool(warning)


def test_another_minor_version_is_no_substitute() -> None:
    with pytest.raises(SampleMissing) as refused:
        choose_distribution("1.29.0", AVAILABLE)
    assert "Istio 1.29" in refused.value.summary
    assert "1.31.2-rc.1, 1.31.0, 1.30.3, 1.30.1" in refused.value.summary
    with pytest.raises(SampleMissing, match="no Istio distribution"):
        choose_distribution("", ())


@pytest.mark.parametrize(
    ("labels", "in_mesh"),
    [
        ({}, False),
        ({"istio-injection": "enabled"}, True),
        ({"istio-injection": "disabled", "istio.io/rev": "canary"}, False),
        ({"istio.io/rev": "canary"}, True),
        ({"istio.io/rev": ""}, False),
        ({"istio.io/dataplane-mode": "ambient"}, True),
        ({"istio.io/dataplane-mode": "none"}, False),
    ],
)
def test_namespaces_in_the_mesh(labels: dict[str, str], in_mesh: bool) -> None:
    assert is_in_mesh(labels) is in_mesh


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    folder = tmp_path / "1.31.0" / "samples"
    folder.mkdir(parents=True)
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n"
    (folder / "good.yaml").write_text(account)
    (folder / "bad.yaml").write_text("a: b: c")
    (folder / "huge.yaml").write_text(account + "#" * SIZE_LIMIT_BYTES)
    (tmp_path / "1.31.0" / "secret.yaml").write_text(account)
    (folder / "link.yaml").symlink_to(tmp_path / "1.31.0" / "secret.yaml")
    return Samples(tmp_path)


async def test_a_sample_is_the_callers_own(samples: Samples) -> None:
    first = await samples.distributed("1.31.0", "good.yaml")
    first[0]["metadata"]["name"] = "changed"
    second = await samples.distributed("1.31.0", "good.yaml")
    assert second[0]["metadata"]["name"] == "a"


@pytest.mark.parametrize(
    ("version", "path", "word"),
    [
        ("1.31.0", "none.yaml", "has no samples/none.yaml"),
        ("1.30.0", "good.yaml", "Istio 1.30.0"),
        ("1.31.0", "../secret.yaml", "has no"),
        ("1.31.0", "link.yaml", "has no"),
        ("1.31.0", "/etc/hosts", "has no"),
        ("1.31.0", ".", "has no"),
        ("../1.31.0", "good.yaml", "not a version"),
        ("1.31.0", "bad.yaml", "line 1"),
        ("1.31.0", "huge.yaml", "more than"),
    ],
)
async def test_what_is_not_a_sample_is_missing(
    samples: Samples, version: str, path: str, word: str
) -> None:
    with pytest.raises(SampleMissing, match=word):
        await samples.distributed(version, path)


# --- manifests of our own -------------------------------------------------------------------------


@pytest.fixture(params=BUNDLED)
async def bundled(request: pytest.FixtureRequest) -> list[KubeObject]:
    return await Samples(Path("/nonexistent")).bundled(request.param)


def of_kind(objects: list[KubeObject], kind: str) -> dict[str, KubeObject]:
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == kind}


def test_bundled_objects_go_to_any_namespace(bundled: list[KubeObject]) -> None:
    assert {obj["kind"] for obj in bundled} == {
        "ServiceAccount",
        "Service",
        "Deployment",
        "Gateway",
        "VirtualService",
    }
    assert not [obj for obj in bundled if "namespace" in obj["metadata"] or "status" in obj]


def test_bundled_workloads_ask_for_no_rights(bundled: list[KubeObject]) -> None:
    accounts = of_kind(bundled, "ServiceAccount")
    assert not [a for a in accounts.values() if a["automountServiceAccountToken"]]
    for deployment in of_kind(bundled, "Deployment").values():
        template = deployment["spec"]["template"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels_of(template)
        assert {"app", "version"} <= labels_of(template).keys()
        spec = template["spec"]
        assert spec["serviceAccountName"] in accounts
        assert spec["securityContext"]["runAsNonRoot"]
        # The user of Istio's proxy, whose traffic is not captured.
        assert spec["securityContext"]["runAsUser"] not in (0, 1337)
        for container in spec["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert ":" in container["image"].rpartition("/")[2]


def test_bundled_services_lead_to_their_pods(bundled: list[KubeObject]) -> None:
    deployments = of_kind(bundled, "Deployment").values()
    for service in of_kind(bundled, "Service").values():
        selector = service["spec"]["selector"].items()
        templates = [d["spec"]["template"] for d in deployments]
        chosen = [t for t in templates if selector <= labels_of(t).items()]
        assert len(chosen) == 1
        ports = [p for c in chosen[0]["spec"]["containers"] for p in c["ports"]]
        known = {p["name"] for p in ports} | {p["containerPort"] for p in ports}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= known


def test_bundled_routes_lead_from_the_ingress_gateway_to_services(
    bundled: list[KubeObject],
) -> None:
    gateways, services = of_kind(bundled, "Gateway"), of_kind(bundled, "Service")
    for gateway in gateways.values():
        assert gateway["spec"]["selector"] == {"istio": "ingressgateway"}
    for route in of_kind(bundled, "VirtualService").values():
        assert set(route["spec"]["gateways"]) == gateways.keys()
        for destination in destinations(route):
            ports = services[destination["host"]]["spec"]["ports"]
            assert destination["port"]["number"] in [port["port"] for port in ports]


def destinations(route: KubeObject) -> list[dict[str, Any]]:
    return [to["destination"] for rule in route["spec"]["http"] for to in rule["route"]]


async def test_bundled_applications_can_share_a_namespace() -> None:
    source = Samples(Path("/nonexistent"))
    seen: list[Identity] = []
    for name in BUNDLED:
        seen += [identity(Ref.of(obj)) for obj in await source.bundled(name)]
    assert len(seen) == len(set(seen))
