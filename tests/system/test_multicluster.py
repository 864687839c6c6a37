"""The operation `istio-multicluster` over simulated clusters: what it writes, and refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from cryptography import x509

from services.lifecycle.multicluster.trust import make_root
from tests.testbed import building
from tests.testbed.bodies import PURGE, operator, options
from tests.testbed.buses import stored_text
from tests.testbed.fleets import MeshlessWebhooks, fleet
from tests.testbed.meshery import Meshery
from tests.testbed.multiclusters import MESH, multicluster, secrets_of, texts_of
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

_WITHIN_S = 300.0
_REMOTE = "istio-remote-secret-"
_OURS = ("app.kubernetes.io/managed-by", "meshbus.io/")
_SAME = (("2", "2000m"), ("1Gi", "1024Mi"), ("2Gi", "2048Mi"))
"""Amounts as the server writes them, and as Istio's charts do."""
_MINIMAL = options(profile="minimal")


@dataclass(slots=True)
class Place:
    stack: Stack
    clusters: list[MeshlessWebhooks]
    meshery: Meshery

    def named(self, *networks: str) -> list[dict[str, Any]]:
        """The clusters as a body names them; they are all on loopback, which has to be said."""
        return [
            {
                "name": cluster.name,
                "server": cluster.server_url,
                **({"network": network} if network else {}),
            }
            for cluster, network in zip(self.clusters, networks or ("", ""), strict=True)
        ]

    async def run(self, body: str, **options: Any) -> list[Any]:
        """The last events, in the order of the clusters."""
        operation = await self.meshery.apply(
            "istio-multicluster", version=ISTIO_VERSION, body=body, **options
        )
        ends = await self.meshery.finals(operation, count=len(self.clusters), within_s=_WITHIN_S)
        return sorted((end for end in ends), key=lambda end: end.event.summary + end.event.details)

    async def ask(self, verb: str, **asked: Any) -> dict[str, Any]:
        question = json.dumps(asked)
        text = await asyncio.to_thread(
            self.stack.nats_cli, "req", "--raw", f"mesh.lifecycle.{verb}", question
        )
        answer: dict[str, Any] = json.loads(text)
        return answer

    async def cleared(self, *named: dict[str, Any], **spec: Any) -> None:
        """Lets all leave, and removes what Istio left."""
        body = multicluster(*(named or self.named("east", "west")), **spec)
        purge = options(profile="minimal", purge=True)
        ends = await self.run(f"{body}\n---\n{purge}", delete=True)
        assert not any(end.failed for end in ends), [end.event for end in ends]
        removed = await self.meshery.apply("istio", delete=True, body=PURGE)
        for end in await self.meshery.finals(removed, count=len(self.clusters)):
            assert not end.failed, end.event

    async def joined(self, *networks: str, **spec: Any) -> list[Any]:
        ends = await self.run(f"{multicluster(*self.named(*networks), **spec)}\n---\n{_MINIMAL}")
        assert not any(end.failed for end in ends), [end.event for end in ends]
        return ends


@pytest.fixture(scope="module")
async def place(built: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("meshes")
    services = ("lifecycle", "translator", "gateway")
    with (
        fleet(folder / "clusters", 2) as clusters,
        Stack(folder / "stack", services=services, settings={"MESHBUS_ACK_WAIT": "4s"}) as stack,
    ):
        texts = [cluster.kubeconfig_text for cluster in clusters]
        async with Meshery(stack.gateway_address, texts).connected() as meshery:
            yield Place(stack, clusters, meshery)


async def test_what_does_not_fit_is_refused_before_the_first_write(place: Place) -> None:
    before = [snapshot(cluster) for cluster in place.clusters]
    unseen = [{"name": cluster.name} for cluster in place.clusters]
    for body, code in (
        (multicluster(*unseen), "MB-4022"),
        (multicluster(*place.named(), model="external"), "MB-5004"),
        (multicluster(*place.named(), model="primary-remote"), "MB-5004"),
        (multicluster(*place.named()[:1], {"name": "another"}), "MB-5004"),
        (multicluster(*place.named(), trust={"root": "existing"}), "MB-4021"),
    ):
        ends = await place.run(f"{body}\n---\n{_MINIMAL}")
        assert all(end.failed for end in ends), [end.event for end in ends]
        assert any(code in str(end.event) for end in ends), [end.event for end in ends]
    after = [snapshot(cluster) for cluster in place.clusters]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


async def test_two_clusters_on_two_networks_become_one_mesh(place: Place) -> None:
    ends = await place.joined("east", "west")
    assert {word for end in ends for word in ("east", "west") if word in end.event.details} == {
        "east",
        "west",
    }
    held = [secrets_of(cluster) for cluster in place.clusters]
    files = [texts_of(secrets["cacerts"]) for secrets in held]
    assert files[0]["root-cert.pem"] == files[1]["root-cert.pem"]
    assert files[0]["ca-key.pem"] != files[1]["ca-key.pem"]
    for own in files:
        [root] = x509.load_pem_x509_certificates(own["root-cert.pem"].encode())
        [intermediate] = x509.load_pem_x509_certificates(own["ca-cert.pem"].encode())
        intermediate.verify_directly_issued_by(root)
        assert own["cert-chain.pem"] == own["ca-cert.pem"] + own["root-cert.pem"]
    for cluster, other, secrets in zip(place.clusters, place.clusters[::-1], held, strict=True):
        made = await asyncio.to_thread(_istioctls, other)
        assert _bare(secrets[f"{_REMOTE}{other.name}"]) == _bare(made)
        space = cluster.api.request("GET", "/api/v1/namespaces/istio-system")
        network = {"fleet-1": "east", "fleet-2": "west"}[cluster.name]
        assert space["metadata"]["labels"]["topology.istio.io/network"] == network
        await asyncio.to_thread(_as_the_script_has_it, cluster, network)


def _istioctls(cluster: MeshlessWebhooks) -> dict[str, Any]:
    """What istioctl makes for reading a cluster."""
    text = _run(
        cluster, "create-remote-secret", f"--name={cluster.name}", f"--server={cluster.server_url}"
    )
    found: dict[str, Any] = next(d for d in yaml.safe_load_all(text) if d)
    return found


def _run(cluster: MeshlessWebhooks, *arguments: str, given: str = "") -> str:
    program = str(building.binary("istioctl"))
    command = [program, f"--kubeconfig={cluster.kubeconfig}", *arguments]
    return subprocess.run(command, input=given, text=True, check=True, capture_output=True).stdout


def _bare(secret: dict[str, Any]) -> dict[str, Any]:
    """A remote secret as what it says: istioctl writes text where the server keeps base64."""
    texts = {**texts_of(secret), **(secret.get("stringData") or {})}
    metadata = secret["metadata"]
    labels = {k: v for k, v in metadata["labels"].items() if not k.startswith(_OURS)}
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "annotations": metadata["annotations"],
        "labels": labels,
        "configs": {name: _config(text) for name, text in texts.items()},
    }


def _config(text: str) -> dict[str, Any]:
    """A kubeconfig without what is empty."""
    return {k: v for k, v in yaml.safe_load(text).items() if v}


def _as_the_script_has_it(cluster: MeshlessWebhooks, network: str, *, exposes: bool = True) -> None:
    """Holds the gateway between networks against what Istio's own script and sample make."""
    samples = building.program_folder("istioctl") / "samples" / "multicluster"
    script = ["bash", str(samples / "gen-eastwest-gateway.sh"), "--network", network]
    operator = subprocess.run(script, text=True, check=True, capture_output=True).stdout
    text = _run(cluster, "manifest", "generate", "--filename=-", given=operator)
    exposed = yaml.safe_load((samples / "expose-services.yaml").read_text("utf-8"))
    exposed["metadata"]["namespace"] = "istio-system"
    wanted = [document for document in yaml.safe_load_all(text) if document]
    assert {one["kind"] for one in wanted} >= {"Deployment", "Service", "ServiceAccount"}
    _has_all(cluster, [*wanted, *([exposed] if exposes else [])])


def _has_all(
    cluster: MeshlessWebhooks,
    wanted: Sequence[dict[str, Any]],
    *,
    namespace: str = "istio-system",
) -> None:
    """Whether the cluster has the objects as they are said to be."""
    for one in wanted:
        kind, name = one["kind"].lower(), one["metadata"]["name"]
        if kind in ("gateway", "virtualservice"):
            kind = f"{kind}s.networking.istio.io"
        live = json.loads(
            cluster.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json")
        )
        # What a chart was rendered by is told in a ConfigMap, with each default.
        parts = set() if name == "values" else one.keys() - {"apiVersion", "metadata", "status"}
        for part in parts:
            assert list(_lacks(live[part], one[part], part)) == [], (kind, name)


def _lacks(live: Any, wanted: Any, place: str) -> Iterator[str]:
    """Where the server has not what is wanted; it adds its defaults."""
    if place.endswith(".env") and isinstance(wanted, list):
        # Entries by name: an environment has no order.
        live, wanted = ({one["name"]: one for one in entries} for entries in (live, wanted))
    elif isinstance(wanted, str) and wanted.startswith("{"):
        live, wanted = json.loads(live), json.loads(wanted)
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            if value not in (None, {}, [], ""):
                yield from _lacks((live or {}).get(key), value, f"{place}.{key}")
    elif isinstance(wanted, list) and isinstance(live, list) and len(live) == len(wanted):
        for number, (one, other) in enumerate(zip(live, wanted, strict=True)):
            yield from _lacks(one, other, f"{place}.{number}")
    elif live != wanted and (live, wanted) not in _SAME:
        yield f"{place}: {live} and not {wanted}"


async def test_sent_again_it_changes_nothing(place: Place) -> None:
    await place.joined("east", "west")
    before = [snapshot(cluster) for cluster in place.clusters]
    await place.joined("east", "west")
    after = [snapshot(cluster) for cluster in place.clusters]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


async def test_where_a_mesh_stands_is_told(place: Place) -> None:
    await place.joined("east", "west")

    async def latest_one() -> dict[str, Any]:
        latest: dict[str, Any] = (await place.ask("multicluster"))["meshes"][0]
        return latest

    async def is_done() -> bool:
        return bool((await latest_one())["state"] == "done")

    await eventually(is_done, what="the record to know of the end")
    latest = await latest_one()
    assert latest["title"] == f"mesh {MESH}"
    told = await place.ask("multicluster", operation=latest["rollout"])
    found = {one["name"]: one["found"] for one in told["clusters"]}
    assert {name: one["network"] for name, one in found.items()} == {
        "fleet-1": "east",
        "fleet-2": "west",
    }
    assert len({one["root"] for one in found.values()}) == 1
    ids = [one["rollout"] for one in (await place.ask("rollout"))["rollouts"]]
    assert latest["rollout"] not in ids
    refused = await place.ask("rolloutback", rollout=latest["rollout"], cluster="fleet-1")
    assert refused["code"] == "MB-4019"


async def test_rotation_replaces_tokens_and_intermediates_under_one_root(place: Place) -> None:
    await place.joined("east", "west")
    before = [secrets_of(cluster) for cluster in place.clusters]
    await place.joined("east", "west", action="rotate")
    after = [secrets_of(cluster) for cluster in place.clusters]
    for was, now in zip(before, after, strict=True):
        old, new = texts_of(was["cacerts"]), texts_of(now["cacerts"])
        assert old["root-cert.pem"] == new["root-cert.pem"]
        assert old["ca-cert.pem"] != new["ca-cert.pem"]
        tokens = [{n for n in held if "istio-remote-secret-token" in n} for held in (was, now)]
        assert [len(names) for names in tokens] == [1, 1]
        assert not tokens[0] & tokens[1]
    for cluster, other in ((0, 1), (1, 0)):
        name = place.clusters[other].name
        config = texts_of(after[cluster][f"{_REMOTE}{name}"])[name]
        token = yaml.safe_load(config)["users"][0]["user"]["token"]
        assert token in {texts_of(secret).get("token") for secret in after[other].values()}


async def test_who_knows_another_mesh_is_refused(place: Place) -> None:
    await place.joined("east", "west")
    before = [snapshot(cluster) for cluster in place.clusters]
    names = place.named("east", "west")
    for body, code in (
        (multicluster(*names, meshID="another"), "MB-4020"),
        (multicluster(*place.named("west", "east")), "MB-4020"),
        (multicluster(*names, trustDomain="example.com"), "MB-4020"),
        (multicluster(*names, trust=_given()), "MB-4021"),
    ):
        ends = await place.run(f"{body}\n---\n{_MINIMAL}")
        assert all(end.failed for end in ends), [end.event for end in ends]
        assert any(code in str(end.event) for end in ends), [end.event for end in ends]
    after = [snapshot(cluster) for cluster in place.clusters]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


async def test_no_key_of_a_mesh_appears_anywhere_in_clear(place: Place) -> None:
    await place.joined("east", "west")
    given = _given()
    ends = await place.run(f"{multicluster(*place.named('east', 'west'), trust=given)}")
    assert all(end.failed for end in ends)
    sought = [line for line in given["key"].splitlines() if "-----" not in line]
    for cluster in place.clusters:
        for secret in secrets_of(cluster).values():
            texts = texts_of(secret)
            key = texts.get("ca-key.pem", "")
            sought += [line for line in key.splitlines() if "-----" not in line]
            sought += [texts["token"]] if "token" in texts else []
    assert len(sought) > 8
    places = {
        "logs": place.stack.log_text(),
        "events": "\n".join(str(received.event) for received in place.meshery.events),
        "NATS' store": stored_text(place.stack.nats.store),
    }
    assert all(places.values()), "a place that is empty proves nothing"
    hidden = [base64.b64encode(text.encode()).decode()[:60] for text in sought]
    leaks = [(where, s[:8]) for where, text in places.items() for s in sought + hidden if s in text]
    assert leaks == []


async def _dies(place: Place, operation: str, words: str) -> None:
    """The worker is killed at an event with these words, and another one begins."""
    await place.meshery.told(operation, words, within_s=_WITHIN_S)
    process = place.stack.processes["lifecycle"]
    process.kill()
    await asyncio.to_thread(process.start)


async def test_it_goes_on_when_its_workers_die(place: Place) -> None:
    await place.joined("east", "west", action="leave")
    body = f"{multicluster(*place.named('east', 'west'))}\n---\n{_MINIMAL}"
    operation = await place.meshery.apply("istio-multicluster", version=ISTIO_VERSION, body=body)
    for words in ("its intermediate authority", "its control plane", "other clusters' secrets"):
        await _dies(place, operation, words)
    ends = await place.meshery.finals(operation, count=2, within_s=_WITHIN_S)
    assert not any(end.failed for end in ends), [end.event for end in ends]
    for cluster, other in zip(place.clusters, place.clusters[::-1], strict=True):
        names = secrets_of(cluster).keys()
        assert {"cacerts", f"{_REMOTE}{other.name}"} <= names
        assert len([name for name in names if "istio-remote-secret-token" in name]) == 1


async def test_what_leaves_leaves_nothing_of_the_mesh_but_its_authority(place: Place) -> None:
    await place.joined("east", "west")
    await place.joined("east", "west", action="leave", leaving=[place.clusters[1].name])
    held = [secrets_of(cluster).keys() for cluster in place.clusters]
    assert not [name for name in held[1] if "remote-secret" in name]
    assert [name for name in held[0] if "remote-secret" in name] == [
        "istio-reader-service-account-istio-remote-secret-token"
    ]
    services = [
        cluster.kubectl("get", "services", "--namespace=istio-system") for cluster in place.clusters
    ]
    assert ["istio-eastwestgateway" in text for text in services] == [True, False]
    await place.cleared()
    for cluster in place.clusters:
        spaces = cluster.api.request("GET", "/api/v1/namespaces")["items"]
        living = [one for one in spaces if "deletionTimestamp" not in one["metadata"]]
        assert "istio-system" not in {one["metadata"]["name"] for one in living}


async def test_a_remote_cluster_has_what_the_recipe_says(place: Place) -> None:
    one, two = place.clusters
    await place.cleared()
    before = [snapshot(cluster) for cluster in place.clusters]
    named = place.named("east", "west")
    named[0]["discovery"] = "192.0.2.10"
    named[1]["role"] = "remote"
    body = f"{multicluster(*named, model='primary-remote')}\n---\n{_MINIMAL}"
    for _ in range(2):  # sent again it finds all there
        ends = await place.run(body)
        assert not any(end.failed for end in ends), [end.event for end in ends]
    recipe = {
        "profile": "remote",
        "values": {
            "istiodRemote": {"injectionPath": "/inject/cluster/fleet-2/net/west"},
            "global": {"remotePilotAddress": "192.0.2.10"},
        },
    }
    document = {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": recipe}
    given = json.dumps(document)
    text = await asyncio.to_thread(_run, two, "manifest", "generate", "--filename=-", given=given)
    await asyncio.to_thread(_has_all, two, [one for one in yaml.safe_load_all(text) if one])
    # What the primary exposes holds for the gateway of the remote one, too.
    await asyncio.to_thread(_as_the_script_has_it, two, "west", exposes=False)
    await asyncio.to_thread(_as_the_script_has_it, one, "east")
    sample = building.program_folder("istioctl") / "samples/multicluster/expose-istiod.yaml"
    exposed = list(yaml.safe_load_all(sample.read_text("utf-8")))
    for document in exposed:
        document["metadata"]["namespace"] = "istio-system"
    await asyncio.to_thread(_has_all, one, exposed)
    space = two.api.request("GET", "/api/v1/namespaces/istio-system")["metadata"]
    assert space["annotations"]["topology.istio.io/controlPlaneClusters"] == one.name
    held = [secrets_of(cluster).keys() for cluster in place.clusters]
    assert f"{_REMOTE}{two.name}" in held[0]
    assert not [name for name in held[1] if name.startswith(_REMOTE) or name == "cacerts"]
    deployments = "/apis/apps/v1/namespaces/istio-system/deployments"
    [gateway] = two.api.request("GET", deployments)["items"]
    assert gateway["metadata"]["name"] == "istio-eastwestgateway"
    environment = one.kubectl(
        "get", "deployment", "istiod", "--namespace=istio-system", "--output=yaml"
    )
    assert "EXTERNAL_ISTIOD" in environment

    # Workloads that are still in the mesh keep it whole on both sides.
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "meshed", "labels": {"security.istio.io/tlsMode": "istio"}},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    }
    two.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    whole = [snapshot(cluster) for cluster in place.clusters]
    ends = await place.run(
        f"{multicluster(*named, model='primary-remote', action='leave', leaving=[two.name])}"
        f"\n---\n{_MINIMAL}"
    )
    assert [end.failed for end in ends] == [True, True]
    assert any("pods have its sidecars" in end.event.details for end in ends)
    again = [snapshot(cluster) for cluster in place.clusters]
    assert [differences(b, a) for b, a in zip(whole, again, strict=True)] == [[], []]
    two.kubectl("delete", "pod", "meshed", "--force", "--grace-period=0")
    await place.cleared(*named, model="primary-remote")

    def left() -> list[str]:
        pairs = zip(before, place.clusters, strict=True)
        return [line for was, cluster in pairs for line in differences(was, snapshot(cluster))]

    await eventually(lambda: not left(), what="nothing of the mesh to be left", within_s=60.0)


_OUTSIDE = "external-istiod"
_AT = "192.0.2.20"


async def test_an_external_control_plane_is_as_the_recipe_says(place: Place) -> None:
    host, served = place.clusters
    before = [snapshot(cluster) for cluster in place.clusters]
    named = place.named("", "west")
    named[1]["role"] = "remote"
    body = f"{multicluster(*named, model='external')}\n---\n{_MINIMAL}"
    addressed = asyncio.create_task(_balanced(host))
    ends = await place.run(body)
    await addressed
    assert not any(end.failed for end in ends), [end.event for end in ends]
    made = [snapshot(cluster) for cluster in place.clusters]
    for cluster, recipe in ((served, _of_the_served()), (host, _of_the_host(served.name))):
        given = json.dumps(
            {
                "apiVersion": "install.istio.io/v1alpha1",
                "kind": "IstioOperator",
                "metadata": {"namespace": _OUTSIDE},
                "spec": recipe,
            }
        )
        text = await asyncio.to_thread(
            _run, cluster, "manifest", "generate", "--filename=-", given=given
        )
        wanted = [one for one in yaml.safe_load_all(text) if one]
        assert {one["kind"] for one in wanted} >= {"ServiceAccount", "ConfigMap", "ClusterRole"}
        await asyncio.to_thread(_has_all, cluster, wanted, namespace=_OUTSIDE)
    account = ("--service-account=istiod", "--create-service-account=false")
    text = await asyncio.to_thread(
        _run,
        served,
        "create-remote-secret",
        "--type=config",
        f"--namespace={_OUTSIDE}",
        f"--name={served.name}",
        f"--server={served.server_url}",
        *account,
    )
    [theirs] = [one for one in yaml.safe_load_all(text) if one]
    held = secrets_of(host, _OUTSIDE)
    assert _bare(held["istio-kubeconfig"]) == _bare(theirs)
    assert "cacerts" in held
    assert secrets_of(served, _OUTSIDE).keys() == {"istiod-istio-remote-secret-token"}

    # A policy for the whole mesh has its place where the mesh's settings are.
    facts = await place.ask("facts", cluster=served.token)
    assert [(mesh["namespace"], mesh["version"]) for mesh in facts["meshes"]] == [
        (_OUTSIDE, ISTIO_VERSION)
    ]

    ends = await place.run(body)  # sent again it changes nothing
    assert not any(end.failed for end in ends), [end.event for end in ends]
    again = [snapshot(cluster) for cluster in place.clusters]
    assert [differences(b, a) for b, a in zip(made, again, strict=True)] == [[], []]

    purge = options(profile="minimal", purge=True)
    ends = await place.run(f"{multicluster(*named, model='external')}\n---\n{purge}", delete=True)
    assert not any(end.failed for end in ends), [end.event for end in ends]

    def left() -> list[str]:
        pairs = zip(before, place.clusters, strict=True)
        return [line for was, cluster in pairs for line in differences(was, snapshot(cluster))]

    await eventually(lambda: not left(), what="nothing of the mesh to be left", within_s=60.0)


@pytest.mark.full
async def test_an_external_control_plane_goes_on_when_its_workers_die(place: Place) -> None:
    """It comes up, and goes, whichever step the worker dies in; each cluster ends once."""
    host = place.clusters[0]
    before = [snapshot(cluster) for cluster in place.clusters]
    named = place.named("", "west")
    named[0]["discovery"] = _AT
    named[1]["role"] = "remote"
    joining = ("its intermediate authority", "the way to its control", "serves", "the external")
    leaving = ("what points to the external control plane goes", "it leaves")
    for is_deletion, steps in ((False, joining), (True, leaving)):
        mesh = options(profile="minimal", purge=is_deletion)
        operation = await place.meshery.apply(
            "istio-multicluster",
            version=ISTIO_VERSION,
            body=f"{multicluster(*named, model='external')}\n---\n{mesh}",
            delete=is_deletion,
        )
        for words in steps:
            await _dies(place, operation, words)
        ends = await place.meshery.finals(operation, count=2, within_s=_WITHIN_S)
        assert not any(end.failed for end in ends), [end.event for end in ends]
        told = [one.event for one in place.meshery.of(operation)]
        finals = [one.summary for one in told if "successfully" in one.summary]
        assert len(finals) == len(set(finals)) == 2, finals
        has_istiod = "istiod" in host.kubectl("get", "deployments", "--all-namespaces")
        assert has_istiod is not is_deletion

    def left() -> list[str]:
        pairs = zip(before, place.clusters, strict=True)
        return [line for was, cluster in pairs for line in differences(was, snapshot(cluster))]

    await eventually(lambda: not left(), what="nothing of the mesh to be left", within_s=60.0)


@pytest.mark.full
async def test_an_external_control_plane_gets_its_key_anew(place: Place) -> None:
    host, served = place.clusters
    named = place.named("", "west")
    named[0]["discovery"] = _AT
    named[1]["role"] = "remote"
    spec = {"model": "external", "trustDomain": "shop.example.com"}
    notes: list[str] = []
    tokens: list[str] = []
    for action in ("apply", "apply", "rotate"):
        ends = await place.run(f"{multicluster(*named, action=action, **spec)}\n---\n{_MINIMAL}")
        assert not any(end.failed for end in ends), [end.event for end in ends]
        path = f"/apis/apps/v1/namespaces/{_OUTSIDE}/deployments/istiod"
        pods = host.api.request("GET", path)["spec"]["template"]
        notes.append(pods["metadata"]["annotations"]["meshbus.io/authority"])
        config = texts_of(secrets_of(host, _OUTSIDE)["istio-kubeconfig"])["config"]
        tokens.append(yaml.safe_load(config)["users"][0]["user"]["token"])
        # What a rotation has replaced is withdrawn.
        [token] = secrets_of(served, _OUTSIDE).values()
        assert texts_of(token)["token"] == tokens[-1]
    assert notes[0] == notes[1] != notes[2]
    assert tokens[0] == tokens[1] != tokens[2]
    services = host.api.request("GET", f"/api/v1/namespaces/{_OUTSIDE}/services")["items"]
    assert {one["metadata"]["name"] for one in services} == {"istiod"}

    before = [snapshot(cluster) for cluster in place.clusters]
    another = operator(values={"global": {"istioNamespace": "another"}})
    ends = await place.run(f"{multicluster(*named, **spec)}\n---\n{another}")
    assert all(end.failed for end in ends), [end.event for end in ends]
    assert any("MB-4020" in str(end.event) for end in ends), [end.event for end in ends]
    after = [snapshot(cluster) for cluster in place.clusters]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]

    purge = options(profile="minimal", purge=True)
    ends = await place.run(f"{multicluster(*named, **spec)}\n---\n{purge}", delete=True)
    assert not any(end.failed for end in ends), [end.event for end in ends]


async def _balanced(cluster: MeshlessWebhooks) -> None:
    """Gives the control plane's Service an address, as a cloud's load balancer would."""
    path = f"/api/v1/namespaces/{_OUTSIDE}/services"

    def is_there() -> bool:
        found = cluster.api.request("GET", path)["items"]
        return "istiod-external" in {one["metadata"]["name"] for one in found}

    await eventually(is_there, what="the Service of the control plane", within_s=_WITHIN_S)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": _AT}]}}}
    await asyncio.to_thread(
        cluster.kubectl,
        *("patch", "service", "istiod-external", f"--namespace={_OUTSIDE}"),
        *("--subresource=status", "--type=merge", f"--patch={json.dumps(status)}"),
    )


def _of_the_served() -> dict[str, Any]:
    """The recipe's IstioOperator of the cluster that is served, for an address."""
    return {
        "profile": "remote",
        "values": {
            "defaultRevision": "default",
            "global": {
                "istioNamespace": _OUTSIDE,
                "configCluster": True,
                "remotePilotAddress": _AT,
            },
            "pilot": {"configMap": True},
            "istiodRemote": {"injectionPath": "/inject/cluster/fleet-2/net/west"},
        },
    }


def _of_the_host(served: str) -> dict[str, Any]:
    """That of the cluster that runs istiod."""
    volumes = {
        "config-volume": ("istio", "/etc/istio/config"),
        "inject-volume": ("istio-sidecar-injector", "/var/lib/istio/inject"),
    }
    pod = "spec.template.spec"
    patches: list[dict[str, Any]] = []
    for name, (source, path) in volumes.items():
        volume = {"name": name, "configMap": {"name": source}}
        mount = {"name": name, "mountPath": path}
        patches.append({"path": f"{pod}.volumes[100]", "value": volume})
        patches.append({"path": f"{pod}.containers[0].volumeMounts[100]", "value": mount})
    environment = {
        "INJECTION_WEBHOOK_CONFIG_NAME": f"istio-sidecar-injector-{_OUTSIDE}",
        "VALIDATION_WEBHOOK_CONFIG_NAME": f"istio-validator-{_OUTSIDE}",
        "EXTERNAL_ISTIOD": "true",
        "LOCAL_CLUSTER_SECRET_WATCHER": "true",
        "CLUSTER_ID": served,
        "SHARED_MESH_CONFIG": "istio",
    }
    return {
        "profile": "empty",
        "meshConfig": {
            "rootNamespace": _OUTSIDE,
            "defaultConfig": {"discoveryAddress": f"{_AT}:15012"},
        },
        "components": {
            "pilot": {
                "enabled": True,
                "k8s": {
                    "overlays": [{"kind": "Deployment", "name": "istiod", "patches": patches}],
                    "env": [{"name": name, "value": value} for name, value in environment.items()],
                },
            }
        },
        "values": {
            "global": {
                "caAddress": f"{_AT}:15012",
                "istioNamespace": _OUTSIDE,
                "operatorManageWebhooks": True,
                "configValidation": False,
                "meshID": MESH,
                "multiCluster": {"clusterName": served},
                "network": "west",
            }
        },
    }


def _given() -> dict[str, str]:
    root = make_root("given")
    return {"root": "given", "certificate": root.certificate_pem, "key": root.key_pem}
