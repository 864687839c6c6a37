"""The body of `istio-multicluster`, what does not fit into one mesh, and its certificates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.chassis.errors import (
    ClusterOutOfSight,
    ClustersDiffer,
    OptionsMalformed,
    RootsDiffer,
)
from services.chassis.messages import ErrorReport, Verb
from services.lifecycle.mesh.crossing import overlay
from services.lifecycle.multicluster.options import (
    EXTERNAL,
    MultiClusterRequest,
    parse_multicluster,
)
from services.lifecycle.multicluster.prechecks import compare, refuse, wanted_version
from services.lifecycle.multicluster.remotes import (
    Token,
    data_of,
    is_of_account,
    remote_secret,
    token_in,
    token_secret,
)
from services.lifecycle.multicluster.trust import (
    Root,
    fingerprint,
    make_intermediate,
    make_root,
    read_root,
    standing,
)
from services.lifecycle.rollouts.deciding import Seen, decide
from services.lifecycle.rollouts.options import RolloutOptions, parse_rollout
from services.lifecycle.rollouts.records import (
    Fate,
    PartRecord,
    RolloutPart,
    RolloutRecord,
    RolloutStep,
    Stage,
)

_TWO = [{"name": "one", "network": "n1"}, {"name": "two", "network": "n2"}]
_REMOTE = {"name": "two", "network": "n2", "role": "remote"}
_HOST = {"name": "one"}
_SEEN = {"server": "https://10.0.0.1:6443"}


def body(*others: Mapping[str, Any], **spec: Any) -> str:
    whole = {"meshID": "shop", "clusters": _TWO, **spec}
    document = {"apiVersion": "meshbus.io/v1", "kind": "MultiClusterOptions", "spec": whole}
    return "\n---\n".join(json.dumps(one) for one in (document, *others))


def lifecycle(**spec: object) -> dict[str, Any]:
    return {"apiVersion": "meshbus.io/v1", "kind": "LifecycleOptions", "spec": spec}


def operator(**spec: object) -> dict[str, Any]:
    return {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": spec}


def request(*others: Mapping[str, Any], **spec: Any) -> MultiClusterRequest:
    return parse_multicluster(body(*others, **spec))


# --- the body -------------------------------------------------------------------------------------


def test_each_cluster_gets_what_the_mesh_is_known_by() -> None:
    asked = request(operator(values={"global": {"logAsJson": True}}), lifecycle(profile="minimal"))
    assert asked.overlay("two") == {
        "values": {
            "global": {
                "logAsJson": True,
                "meshID": "shop",
                "network": "n2",
                "multiCluster": {"clusterName": "two"},
            }
        },
        "meshConfig": {"trustDomain": "cluster.local"},
    }
    assert asked.mesh.overlay == {"values": {"global": {"logAsJson": True}}}
    assert [asked.crossing(name) for name in ("one", "two")] == ["n1", "n2"]


def test_one_network_needs_no_gateway() -> None:
    assert request(clusters=[{"name": "one"}, {"name": "two"}]).crossing("one") == ""
    same = [{"name": "one", "network": "n"}, {"name": "two", "network": "n"}]
    assert request(clusters=same).crossing("one") == ""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"meshID": ""}, "meshID"),
        ({"clusters": []}, "clusters"),
        ({"clusters": _TWO[:1]}, "two at least"),
        ({"clusters": [_TWO[0], {**_TWO[0], "clusterName": "x"}]}, "the name one"),
        ({"clusters": [_TWO[0], {**_TWO[1], "clusterName": "one"}]}, "the clusterName one"),
        ({"clusters": [_TWO[0], {"name": "two"}]}, "either all clusters have a network"),
        ({"clusters": [_TWO[0], {"name": "A B", "network": "n"}]}, "give that cluster"),
        ({"clusters": [_TWO[0], {**_TWO[1], "server": "http://a"}]}, "server"),
        ({"clusters": [_TWO[0], _REMOTE]}, "`model: primary-remote`"),
        ({"model": "primary-remote"}, "`model: primary-remote`"),
        ({"model": "primary-remote", "clusters": [_REMOTE]}, "which primary"),
        ({"model": "primary-remote", "clusters": [*_TWO, {**_REMOTE, "name": "r"}]}, "primary"),
        (
            {"model": "primary-remote", "clusters": [_TWO[0], {**_REMOTE, "primary": "two"}]},
            "none of the primaries",
        ),
        (
            {
                "model": "primary-remote",
                "clusters": [{"name": "one"}, {"name": "two", "role": "remote"}],
            },
            "no network",
        ),
        (
            {
                "model": "primary-remote",
                "clusters": [_TWO[0], _REMOTE],
                "action": "leave",
                "leaving": ["one"],
            },
            "without a control plane",
        ),
        ({"model": "external"}, "one primary"),
        ({"model": "external", "clusters": [_HOST, {"name": "two", "role": "remote"}]}, "network"),
        ({"model": "external", "clusters": [_TWO[0], _REMOTE]}, "has no network"),
        (
            {"model": "external", "clusters": [_HOST, _TWO[0] | {"name": "three"}, _REMOTE]},
            "one primary",
        ),
        (
            {
                "model": "external",
                "clusters": [_HOST, _REMOTE],
                "action": "leave",
                "leaving": ["two"],
            },
            "leave together",
        ),
        ({"model": "other"}, "spec.model"),
        ({"trust": {"root": "given"}}, "a certificate and a key"),
        ({"trust": {"root": "made", "key": "x"}}, "for `root: given` alone"),
        ({"trust": {"root": "given", "certificate": "x", "key": "y"}}, "certificate is not PEM"),
        ({"action": "rotate", "trust": {"root": "existing"}}, "no key here"),
        ({"action": "leave", "leaving": ["three"]}, "not among the clusters"),
        ({"leaving": ["one"]}, "`action: leave` alone"),
        ({"rotates": []}, "rotates"),
        ({"version": "1.31.0\n"}, ""),
    ],
)
def test_what_is_wrong_with_a_body_is_told(spec: dict[str, Any], words: str) -> None:
    if not words:
        assert request(**spec).version == "1.31.0"
        return
    with pytest.raises(OptionsMalformed) as refused:
        request(**spec)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([lifecycle(tags=["prod"])], "tags"),
        ([operator(values={"global": {"meshID": "another"}})], "global.meshID"),
        ([operator(values={"global": "text"})], "global"),
    ],
)
def test_what_stands_beside_it_must_fit(others: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(OptionsMalformed) as refused:
        request(*others).overlay("one")
    assert words in str(refused.value)


def test_a_body_without_options_and_versions_that_differ_are_refused() -> None:
    with pytest.raises(OptionsMalformed):
        parse_multicluster("")
    with pytest.raises(OptionsMalformed):
        parse_multicluster(body(version="1.30.3"), version="1.31.0")
    # What Meshery's page sends where it knows none.
    assert parse_multicluster(body(version="1.30.3"), version="v1.0.0").version == "1.30.3"


def test_a_deletion_lets_all_leave() -> None:
    asked = parse_multicluster(body(), verb=Verb.DELETE)
    assert [one.name for one in asked.leavers] == ["one", "two"]
    some = request(action="leave", leaving=["two"])
    assert [one.name for one in some.leavers] == ["two"]
    assert request().leavers == []


def test_the_request_names_the_clusters_of_the_body() -> None:
    def record(*names: str) -> RolloutRecord:
        parts = {f"t{i}": RolloutPart(cluster=f"t{i}", name=n) for i, n in enumerate(names)}
        return RolloutRecord(rollout="r", parts=parts)

    made = request().record(record("two", "one"))
    assert (made.what, made.kind) == ("mesh", "istio-multicluster")
    assert request(action="leave").record(record("two", "one")).what == "mesh-leave"
    for names in (("one",), ("one", "two", "three"), ("one", "one"), ("one", "")):
        with pytest.raises(OptionsMalformed):
            request().record(record(*names))
    with pytest.raises(OptionsMalformed):
        parse_rollout(
            json.dumps(
                {"apiVersion": "meshbus.io/v1", "kind": "RolloutOptions", "spec": {"what": "mesh"}}
            )
        )


def test_a_remote_cluster_has_the_control_plane_of_its_primary() -> None:
    asked = request(model="primary-remote", clusters=[_TWO[0], _REMOTE])
    assert asked.options.primary_of(asked.cluster("two")).name == "one"
    assert [asked.serves(name) for name in ("one", "two")] == [True, False]
    assert [one.name for one in asked.readers("two")] == ["one"]
    assert asked.readers("one") == []
    assert [one.name for one in asked.read_by("one")] == ["two"]
    assert asked.read_by("two") == []
    assert asked.overlay("one")["values"]["global"]["externalIstiod"] is True
    assert asked.remote_overlay("two", address="10.0.0.5")["values"] == {
        "istiodRemote": {"injectionPath": "/inject/cluster/two/net/n2"},
        "global": {"remotePilotAddress": "10.0.0.5"},
    }
    same = request(model="primary-remote", clusters=[_TWO[0], {**_REMOTE, "network": "n1"}])
    # The primary's control plane is reached through its gateway on one network as well.
    assert [same.crossing(name) for name in ("one", "two")] == ["n1", ""]
    with pytest.raises(OptionsMalformed):
        parse_multicluster(
            body(lifecycle(revision="x"), model="primary-remote", clusters=[_TWO[0], _REMOTE])
        )


def test_an_external_control_plane_speaks_as_the_cluster_that_it_serves() -> None:
    asked = request(model="external", clusters=[_HOST, _REMOTE])
    assert [asked.crossing(name) for name in ("one", "two")] == ["", ""]
    assert [one.name for one in asked.readers("two")] == ["one"]
    assert (asked.mesh.namespace, asked.mesh.namespace_given) == (EXTERNAL, True)
    made = asked.external_overlay("one", address="2001:db8::1", namespace=EXTERNAL)
    known = made["values"]["global"]
    assert (known["multiCluster"]["clusterName"], known["network"]) == ("two", "n2")
    assert known["caAddress"] == made["meshConfig"]["defaultConfig"]["discoveryAddress"]
    assert known["caAddress"] == "[2001:db8::1]:15012"
    # Without it proxies would not believe an istiod that they reach by its address.
    assert made["values"]["pilot"]["env"]["ISTIOD_CUSTOM_HOST"] == "2001:db8::1"
    served = asked.remote_overlay("two", address="10.0.0.5")["values"]
    assert (served["global"]["configCluster"], served["pilot"]) == (True, {"configMap": True})
    elsewhere = request(
        operator(values={"global": {"istioNamespace": "istio-system"}}),
        model="external",
        clusters=[_HOST, _REMOTE],
    )
    assert elsewhere.mesh.namespace == "istio-system"
    with pytest.raises(OptionsMalformed):
        request(lifecycle(revision="x"), model="external", clusters=[_HOST, _REMOTE])


# --- what fits ------------------------------------------------------------------------------------


def refused(asked: MultiClusterRequest, *, root: str = "r", **found: dict[str, str]) -> list[str]:
    whole = {name: {**_SEEN, **found.get(name, {})} for name in ("one", "two")}
    refusals, _ = compare(asked, whole, root=root)
    return [one.code for one in refusals]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({}, None),
        ({"meshID": "shop", "network": "n1", "clusterName": "one", "root": "r"}, None),
        ({"clusterName": "Kubernetes"}, None),
        ({"meshID": "another"}, ClustersDiffer.code),
        ({"network": "another"}, ClustersDiffer.code),
        ({"clusterName": "another"}, ClustersDiffer.code),
        ({"trustDomain": "example.com"}, ClustersDiffer.code),
        ({"root": "another"}, RootsDiffer.code),
        ({"selfSigned": "yes", "pods": "0"}, None),
        ({"selfSigned": "yes", "pods": "3"}, ClustersDiffer.code),
        ({"server": "https://127.0.0.1:6443"}, ClusterOutOfSight.code),
        ({"server": "https://localhost:6443"}, ClusterOutOfSight.code),
        ({"server": "https://[::1]:6443"}, ClusterOutOfSight.code),
        ({"server": "https://0.0.0.0:6443"}, ClusterOutOfSight.code),
        ({"server": "https://k8s.example.com"}, None),
    ],
)
def test_what_does_not_fit_has_a_code(found: dict[str, str], code: str | None) -> None:
    assert refused(request(), one=found) == ([code] if code else [])


def test_a_remote_cluster_has_no_control_plane_and_needs_no_authority() -> None:
    asked = request(model="primary-remote", clusters=[_TWO[0], _REMOTE])
    unnamed = {"revision": "default"}
    assert refused(asked, one=unnamed, two=unnamed) == []
    two = {**unnamed, "istiod": "yes"}
    assert refused(asked, one=unnamed, two=two) == [ClustersDiffer.code]
    assert refused(asked, one={"revision": "1-31-0"}, two=unnamed) == [ClustersDiffer.code]
    existing = request(
        model="primary-remote", clusters=[_TWO[0], _REMOTE], trust={"root": "existing"}
    )
    assert refused(existing, one={**unnamed, "root": "a"}, two=unnamed) == []


def test_an_external_control_plane_has_its_cluster_for_itself() -> None:
    asked = request(model="external", clusters=[_HOST, _REMOTE])
    known = {"clusterName": "two", "network": "n2", "revision": "default"}

    def codes(name: str = "one", **found: str) -> list[str]:
        whole = {"one": known, "two": known, name: {**known, **found}}
        return refused(asked, one=whole["one"], two=whole["two"])

    assert codes() == codes(root="r") == []
    # Nobody reads the API server of the cluster that runs it.
    assert codes(server="https://127.0.0.1:6443") == []
    assert codes("two", server="https://127.0.0.1:6443") == [ClusterOutOfSight.code]
    for name in ("one", "two"):
        assert codes(name, elsewhere="istio-system") == [ClustersDiffer.code]
    assert codes(clusterName="one") == [ClustersDiffer.code]
    assert codes("two", istiod="yes") == [ClustersDiffer.code]
    # Its own authority lies in the cluster that it serves.
    assert codes("two", selfSigned="yes", pods="3") == [ClustersDiffer.code]
    _, warnings = compare(asked, {n: {**_SEEN, "pods": "2"} for n in ("one", "two")}, root="")
    assert [text for text in warnings if "cluster one" in text] == []
    assert [text for text in warnings if "cluster two" in text]


def test_versions_are_a_minor_apart_at_most() -> None:
    one, two = {"version": "1.29.5"}, {"version": "1.31.0"}
    assert refused(request(), one=one, two=two) == [ClustersDiffer.code]
    assert refused(request(), one={"version": "1.30.3"}, two=two) == []
    assert refused(request(version="1.31.0"), one=one, two=two) == []
    assert wanted_version(request(), {"one": {}, "two": two}, "one") == "1.31.0"


def test_existing_roots_are_one() -> None:
    asked = request(trust={"root": "existing"})
    assert refused(asked, one={"root": "a"}, two={"root": "a"}) == []
    assert refused(asked, one={"root": "a"}, two={"root": "b"}) == [RootsDiffer.code]
    assert refused(asked, one={"root": "a"}) == [RootsDiffer.code]


def test_force_changes_what_a_mesh_is_known_by_and_never_a_root() -> None:
    asked = request(lifecycle(force=True))
    assert refused(asked, one={"meshID": "another"}) == []
    assert refused(asked, one={"root": "another"}) == [RootsDiffer.code]


def test_workloads_that_run_know_nothing_new() -> None:
    def warned(**one: str) -> list[str]:
        return compare(request(), {"one": {**_SEEN, **one}, "two": _SEEN}, root="")[1]

    assert warned() == warned(pods="0") == []
    known = {"meshID": "shop", "network": "n1", "clusterName": "one"}
    assert warned(pods="3", **known) == []
    [text] = warned(pods="3", clusterName="Kubernetes")
    assert "mesh id, network, name" in text
    assert "restarted" in text


def test_an_address_that_is_named_is_believed() -> None:
    clusters = [{**one, "server": "https://127.0.0.1:1"} for one in _TWO]
    local = {"server": "https://127.0.0.1:1"}
    assert refused(request(clusters=clusters), one=local, two=local) == []


def test_all_that_does_not_fit_is_told_at_once() -> None:
    refuse([])
    with pytest.raises(RootsDiffer) as raised:
        refuse([RootsDiffer("a root"), ClustersDiffer("a network")])
    assert "MB-4021: a root; MB-4020: a network" in raised.value.summary


# --- certificates ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root() -> Root:
    return make_root("shop")


def test_an_intermediate_signs_under_the_root_and_has_a_key_of_its_own(root: Root) -> None:
    files = [make_intermediate(root, cluster=c, namespace="istio-system") for c in ("a", "b")]
    assert files[0]["ca-key.pem"] != files[1]["ca-key.pem"]
    held = standing(files[0])
    assert held is not None
    assert held.root == root.fingerprint == fingerprint(files[0]["root-cert.pem"])
    assert held.is_fresh
    own = x509.load_pem_x509_certificate(files[0]["ca-cert.pem"].encode())
    assert own.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    key = serialization.load_pem_private_key(files[0]["ca-key.pem"].encode(), None)
    assert key.public_key() == own.public_key()


def test_what_is_no_intermediate_of_the_root_is_made_anew(root: Root) -> None:
    files = make_intermediate(root, cluster="a", namespace="istio-system")
    other = make_root("other")
    mixed = standing({**files, "root-cert.pem": other.certificate_pem})
    assert mixed is not None
    assert not mixed.is_fresh
    keyless = standing({**files, "ca-key.pem": ""})
    assert keyless is not None
    assert not keyless.is_fresh
    assert standing({}) is None
    assert standing({**files, "ca-cert.pem": "text"}) is None


def test_a_given_root_is_read_and_shows_no_key(root: Root) -> None:
    read = read_root(root.certificate_pem, root.key_pem)
    assert read.fingerprint == root.fingerprint
    assert "PRIVATE" not in repr(read)
    asked = request(
        trust={"root": "given", "certificate": root.certificate_pem, "key": root.key_pem}
    )
    assert asked.root == read
    assert "PRIVATE" not in repr(asked)


def test_a_root_of_another_kind_of_key_signs_too() -> None:
    certificate, key = _certificate(rsa.generate_private_key(65537, 2048))
    files = make_intermediate(read_root(certificate, key), cluster="a", namespace="istio-system")
    held = standing(files)
    assert held is not None
    assert held.is_fresh


def test_what_cannot_sign_is_refused_without_its_key_in_the_words(root: Root) -> None:
    other = make_root("other")
    intermediate = make_intermediate(root, cluster="a", namespace="n")
    leaf = _certificate(ec.generate_private_key(ec.SECP256R1()), is_authority=False)
    short = _certificate(ec.generate_private_key(ec.SECP256R1()), lasts=timedelta(days=30))
    encrypted = serialization.load_pem_private_key(root.key_pem.encode(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a password"),
    )
    for certificate, key, words in (
        ("text", root.key_pem, "not PEM"),
        (root.certificate_pem, "text", "not PEM"),
        (root.certificate_pem * 2, root.key_pem, "more than the root"),
        (root.certificate_pem, other.key_pem, "not that of the certificate"),
        (root.certificate_pem, encrypted.decode(), "encrypted"),
        (intermediate["ca-cert.pem"], intermediate["ca-key.pem"], "no root"),
        (*leaf, "no authority's"),
        (*short, "ends before"),
    ):
        with pytest.raises(OptionsMalformed) as raised:
            read_root(certificate, key)
        assert words in str(raised.value)
        assert not any(line in str(raised.value) for line in key.splitlines() if len(line) > 8)


def _certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = True,
    lasts: timedelta = timedelta(days=3650),
) -> tuple[str, str]:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a root")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + lasts)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), text.decode()


# --- secrets and the gateway ----------------------------------------------------------------------


def test_a_remote_secret_holds_a_kubeconfig_with_the_token() -> None:
    secret = remote_secret(
        "two",
        namespace="istio-system",
        server="https://10.0.0.2:6443",
        tls_server_name="",
        token=Token("a-token", "a ca"),
    )
    config = yaml.safe_load(data_of(secret)["two"])
    assert config["users"] == [{"name": "two", "user": {"token": "a-token"}}]
    assert config["clusters"][0]["cluster"].keys() == {"certificate-authority-data", "server"}
    assert secret["metadata"]["labels"]["istio/multiCluster"] == "true"
    assert "a-token" not in repr(Token("a-token", "a ca"))


def test_the_secret_of_an_external_control_plane_is_named_as_istiod_looks_for_it() -> None:
    secret = remote_secret(
        "two",
        namespace=EXTERNAL,
        server="https://10.0.0.1:6443",
        tls_server_name="",
        token=Token("t", "ca"),
        is_config=True,
    )
    assert (secret["metadata"]["name"], list(secret["data"])) == ("istio-kubeconfig", ["config"])
    assert is_of_account(token_secret(EXTERNAL, name="x", account="istiod"), "istiod")
    assert not is_of_account(token_secret(EXTERNAL, name="x", account="istiod"))


def test_a_token_is_there_when_kubernetes_has_written_it() -> None:
    secret = token_secret("istio-system", name="t")
    assert is_of_account(secret)
    assert token_in(secret) is None
    assert token_in({**secret, "data": {"token": "YQ==", "ca.crt": "Yg=="}}) == Token("a", "b")
    assert token_in({**secret, "data": {"token": "!", "ca.crt": "Yg=="}}) is None


def test_the_gateway_keeps_the_settings_of_its_mesh() -> None:
    spec = overlay("n1", {"hub": "here", "values": {"global": {"meshID": "shop"}}})
    assert spec["values"]["global"] == {"meshID": "shop", "network": "n1"}
    assert spec["hub"] == "here"
    assert overlay("n1", {})["values"]["global"] == {"network": "n1"}


# --- the machine ----------------------------------------------------------------------------------


def test_a_mesh_takes_its_steps_together_and_goes_nowhere_back() -> None:
    now = datetime(2026, 11, 29, tzinfo=timezone.utc)
    parts = {n: RolloutPart(cluster=n, name=n) for n in ("one", "two")}
    record = request().record(RolloutRecord(rollout="r", parts=parts))
    options = RolloutOptions.model_validate(record.options)
    answers = {n: PartRecord(rollout="r", cluster=n, expires=now) for n in parts}
    given: list[RolloutStep | None] = []
    while record.stage is not Stage.LINK:
        record = decide(record, options, Seen(now=now, parts=answers))
        assert {part.step for part in record.parts.values()} == {record.parts["one"].step}
        given.append(record.parts["one"].step)
        answers = {
            n: answers[n].model_copy(update={"number": part.number})
            for n, part in record.parts.items()
        }
    assert given == [RolloutStep(name) for name in _FORWARD]
    report = ErrorReport.of(ClustersDiffer("a failure"))
    number = record.parts["two"].number
    failed = {**answers, "two": answers["two"].model_copy(update=_failed(number, report))}
    for _ in range(4):
        record = decide(record, options, Seen(now=now, parts=failed))
    fates = {n: part.fate for n, part in record.parts.items()}
    assert fates == {"one": Fate.LEFT, "two": Fate.FAILED}
    assert all(part.step is RolloutStep.END for part in record.parts.values())


_FORWARD = ("precheck", "compare", "trust", "plane", "remote", "account", "link")


def _failed(number: int, report: ErrorReport) -> dict[str, Any]:
    return {"number": number, "is_done": False, "error": report, "is_retryable": False}
