"""Lifecycle carries out for a service what the gateway has signed, and not a word more.

Plans are the translator's own, of every form of body that the gateway takes; what an attacker with
its key would make of them is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from nacl.exceptions import BadSignatureError

from services.chassis.bus.intents import AppliedObject
from services.chassis.bus.records import Bucket
from services.chassis.errors import GrantMissing, GrantRefused, InvalidMessage, MeshbusError
from services.chassis.granting import Checker, Signer, generate_signing_keys
from services.chassis.kube.manifests import dump_manifest
from services.chassis.messages import Command, Plan, SignedGrant, Step, StepKind, Verb
from services.lifecycle.authority import Authority
from services.lifecycle.manifests.restoring import restores
from services.translator.manifests import run_custom, run_design
from tests.unit.translator.designs import samples
from tests.unit.translator.worlds import World

PUBLIC, SEED = generate_signing_keys()
SIGNER = Signer.of(SEED)
AUTHORITY = Authority(Checker.of(PUBLIC), cast(Bucket, None))


def binding(name: str = "rights", to: str = "robot", role: str = "view") -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": to, "namespace": "shop"}],
    }


def deployment(name: str = "web", **pod: Any) -> dict[str, Any]:
    labels = {"app": name}
    spec = {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec | pod},
        },
    }


def namespace(name: str = "shop", **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def route(name: str = "reviews") -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": name}}]}]},
    }


def component(obj: dict[str, Any]) -> dict[str, Any]:
    """As a v1alpha2 design has it."""
    fields = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")}
    own = {"name": obj["metadata"]["name"], "type": obj["kind"], "settings": fields}
    return own | {"apiVersion": obj["apiVersion"], "labels": obj["metadata"].get("labels", {})}


def definition(obj: dict[str, Any]) -> dict[str, Any]:
    """As a v1beta1 design or a Provision call has it."""
    fields = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind")}
    return samples.definition(
        obj["metadata"]["name"], obj["kind"], obj["apiVersion"], configuration=fields
    )


def oam(obj: dict[str, Any]) -> str:
    """As ProcessOAM carries it, with the keys that Meshery's forms show."""
    fields = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")}
    if "roleRef" in fields:
        fields["role Ref"] = fields.pop("roleRef")
    notes = {
        "design.meshmodel.io.k8s.APIVersion": obj["apiVersion"],
        "design.meshmodel.io.k8s.Kind": obj["kind"],
    }
    written = json.loads(samples.oam(annotations=notes, type=obj["kind"], settings=fields))
    written["metadata"] |= {"name": obj["metadata"]["name"], "labels": None}
    return json.dumps(written)


ALL = (namespace(), binding(), deployment(), route())
MESH: dict[str, Any] = {
    "type": "IstioMesh",
    "settings": {"profile": "demo", "revision": "blue", "version": "1.31.0"},
    "traits": {"automaticSidecarInjection": {"namespaces": ["front", "back"]}},
}
BODIES: dict[str, str] = {
    "a manifest": dump_manifest(ALL),
    "a manifest in JSON": json.dumps(binding()),
    "a List": json.dumps({"apiVersion": "v1", "kind": "List", "items": list(ALL)}),
    "v1alpha2": json.dumps(samples.services(**{o["kind"].lower(): component(o) for o in ALL})),
    "v1beta1": json.dumps(samples.definitions(*map(definition, ALL))),
    "a mesh": json.dumps(samples.services(mesh=MESH)),
    "an add-on": json.dumps(samples.services(graphs={"type": "GrafanaIstioAddon"})),
}
CALLS: dict[str, str] = {
    "ProcessOAM": json.dumps({"components": [oam(o) for o in ALL], "config": ""}),
    "traits": json.dumps(
        {
            "components": [oam(route())],
            "config": samples.configuration(automaticSidecarInjection={"namespaces": ["front"]}),
        }
    ),
    "Provision": json.dumps({"declarations": [json.dumps(definition(o)) for o in ALL]}),
}


def granted(body: str = "", *, kind: str = "custom", **fields: Any) -> Command:
    """A command as the gateway sends it."""
    command = Command(
        operation="op",
        kind=kind,
        cluster="c1",
        namespace="shop",
        body=body,
        credential="operation.op.c1",
        **fields,
    )
    return SIGNER.signed(command)


def handed_on(command: Command, plan: Plan | None, **fields: Any) -> Command:
    """What the translator makes of it."""
    return command.model_copy(update={"plan": plan, "body": "", "asked": command.body, **fields})


def planned(*objects: dict[str, Any], **step: Any) -> Plan:
    return Plan(steps=[Step(title="a step", objects=list(objects), **step)], summary="done")


async def judged(command: Command, sender: str) -> str:
    """The code of the refusal; "" when the command is carried out."""
    try:
        await AUTHORITY.judge(command, sender)
    except MeshbusError as error:
        return error.code
    return ""


# --- what people ask for --------------------------------------------------------------------------


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_what_was_asked_for_is_carried_out(body: str, verb: Verb) -> None:
    plan = await World().plan(run_custom, body, verb=verb)
    await AUTHORITY.judge(handed_on(granted(body, verb=verb), plan), "translator")


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("body", CALLS.values(), ids=CALLS.keys())
async def test_a_design_of_a_call_is_carried_out(body: str, verb: Verb) -> None:
    plan = await World().plan(run_design, body, verb=verb)
    command = granted(body, kind="design", verb=verb)
    await AUTHORITY.judge(handed_on(command, plan), "translator")


async def test_the_operator_and_the_gateway_ask_themselves() -> None:
    await AUTHORITY.judge(granted("a body"), "")
    await AUTHORITY.judge(Command(operation="op", kind="manifest", body="x"), "")


# --- what a stolen key of the translator tries ----------------------------------------------------

BODY = dump_manifest([namespace(), binding(), deployment(), route()])
STOLEN: dict[str, Plan] = {
    "rights that nobody named": planned(binding("owned", role="cluster-admin")),
    "more of a named right": planned(binding(role="cluster-admin")),
    "another bearer of a named right": planned(binding(to="attacker")),
    "a right removed": planned(binding(), is_deletion=True),
    "a pod with the node's files": planned(deployment(hostPID=True)),
    "a pod of another account": planned(deployment(serviceAccountName="admin")),
    "a workload that nobody named": planned(deployment("miner")),
    "a namespace without its guard": planned(
        namespace(**{"pod-security.kubernetes.io/enforce": "privileged"})
    ),
    "a workload elsewhere": planned(
        deployment() | {"metadata": {"name": "web", "namespace": "kube-system"}}
    ),
    "somebody's right made obsolete": Plan(
        steps=[Step(title="a step", objects=[route()], obsolete=[binding()])], summary="done"
    ),
    "a mesh": planned(kind=StepKind.MESH),
    "a mesh of its own images": planned(
        kind=StepKind.MESH,
        body='{"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",'
        ' "spec": {"hub": "attacker"}}',
    ),
    "an add-on": planned(kind=StepKind.APPLICATION, name="grafana-addon"),
    "a label elsewhere": planned(kind=StepKind.INJECTION, namespace="kube-system"),
}


@pytest.mark.parametrize("plan", STOLEN.values(), ids=STOLEN.keys())
async def test_a_plan_holds_nothing_that_nobody_asked_for(plan: Plan) -> None:
    with pytest.raises(GrantRefused):
        await AUTHORITY.judge(handed_on(granted(BODY), plan), "translator")


REPLAYED: dict[str, dict[str, Any]] = {
    "another operation": {"operation": "other"},
    "another cluster": {"cluster": "c2"},
    "another credential": {"credential": "operation.other.c1"},
    "the registered credential": {"credential": ""},
    "another verb": {"verb": Verb.DELETE},
    "another namespace": {"namespace": "kube-system"},
    "another body": {"asked": dump_manifest([binding("owned")])},
}


@pytest.mark.parametrize("fields", REPLAYED.values(), ids=REPLAYED.keys())
async def test_a_grant_is_good_for_one_thing(fields: dict[str, Any]) -> None:
    command = handed_on(granted(BODY), planned(binding()))
    assert await judged(command, "translator") == ""
    assert await judged(command.model_copy(update=fields), "translator") == GrantRefused.code


async def test_a_grant_is_good_for_its_command_only() -> None:
    for fields in ({"body": "other"}, {"version": "1.2.3"}, {"kind": "istio"}, {"plan": planned()}):
        assert await judged(granted("a").model_copy(update=fields), "") == GrantRefused.code


async def test_an_old_grant_is_good_for_nothing() -> None:
    past = datetime.now(timezone.utc) - timedelta(minutes=11)
    command = handed_on(granted(BODY, deadline=past), planned(route()))
    assert await judged(command, "translator") == GrantRefused.code
    late = handed_on(granted(BODY, deadline=past, may_take_s=300), planned(route()))
    assert await judged(late, "translator") == ""


@pytest.mark.parametrize("sender", ["translator", "perf"])
async def test_nothing_is_handed_on_without_a_grant(sender: str) -> None:
    command = Command(operation="op", kind="manifest", body=dump_manifest([route()]))
    with pytest.raises(GrantMissing, match="no grant"):
        await AUTHORITY.judge(command, sender)


async def test_a_forged_signature_is_refused() -> None:
    _, other = generate_signing_keys()
    forged = Signer.of(other).signed(granted(BODY).model_copy(update={"grant": None}))
    with pytest.raises(GrantRefused, match="not signed"):
        await AUTHORITY.judge(handed_on(forged, planned(route())), "translator")
    changed = granted(BODY)
    assert changed.grant is not None
    text = changed.grant.text.replace('"c1"', '"c2"')
    changed = changed.model_copy(
        update={"cluster": "c2", "grant": changed.grant.model_copy(update={"text": text})}
    )
    assert await judged(changed, "") == GrantRefused.code


async def test_a_grant_for_some_namespaces_is_signed_as_nothing_else() -> None:
    """A lifecycle from before namespaces were signed knows one purpose, and takes it for forged."""
    bare = granted("a").model_copy(update={"grant": None})
    command = SIGNER.signed(bare, namespaces=("shop",))
    assert await judged(command, "") == ""
    assert command.grant is not None
    text, former = command.grant.text, b"meshbus grant 1\n"
    signature = base64.b64decode(command.grant.signature)
    for purpose, is_good in ((former, False), (b"meshbus grant 2\n", True)):
        try:
            SIGNER.key.verify_key.verify(purpose + text.encode(), signature)
        except BadSignatureError:
            assert not is_good
        else:
            assert is_good
    # Nor is a signature of the one purpose good for what is signed as the other.
    for changed, purpose in (
        (text, former),
        (text.replace('["shop"]', '["*"]'), b"meshbus grant 2\n"),
    ):
        resigned = base64.b64encode(SIGNER.key.sign(purpose + changed.encode()).signature)
        grant = SignedGrant(text=changed, signature=resigned.decode())
        assert await judged(command.model_copy(update={"grant": grant}), "") == GrantRefused.code


async def test_a_gateway_s_key_is_changed_without_a_gap() -> None:
    public, seed = generate_signing_keys()
    both = Authority(Checker.of(f"{public}, {PUBLIC}"), cast(Bucket, None))
    bare = granted("a").model_copy(update={"grant": None})
    for signer in (SIGNER, Signer.of(seed)):
        await both.judge(signer.signed(bare), "")


# --- perf and topology ----------------------------------------------------------------------------


def change(
    *objects: dict[str, Any],
    options: str | None = None,
    kind: str = "performance-gate",
    operation: str = "op-change",
) -> Command:
    """What perf sends between the runs of a gate."""
    text = dump_manifest([route()]) if options is None else options
    body = dump_manifest(
        [{"apiVersion": "meshbus.io/v1", "kind": "PerformanceOptions", "spec": {"change": text}}]
    )
    gate = granted(body, kind=kind)
    return gate.model_copy(
        update={
            "operation": operation,
            "kind": "manifest",
            "asked": body,
            "body": dump_manifest(objects),
        }
    )


async def test_a_gate_changes_what_it_names() -> None:
    former = route() | {"apiVersion": "networking.istio.io/v1beta1", "spec": {"hosts": ["a"]}}
    assert await judged(change(route()), "perf") == ""
    assert await judged(change(former, operation="op-rollback-1"), "perf") == ""
    in_json = change(route(), options=json.dumps(route()))
    assert await judged(in_json, "perf") == ""


GATES: dict[str, Callable[[], Command]] = {
    "rights": lambda: change(binding(), options=dump_manifest([binding()])),
    "a workload": lambda: change(deployment(), options=dump_manifest([deployment()])),
    "another object": lambda: change(route("ratings")),
    "another namespace": lambda: change(
        route() | {"metadata": {"name": "reviews", "namespace": "kube-system"}}
    ),
    "a test's grant": lambda: change(route(), kind="performance-test"),
    "another operation": lambda: change(route(), operation="other-change"),
    "the gate itself": lambda: change(route(), operation="op"),
    "a plan": lambda: change(route()).model_copy(update={"plan": planned(route())}),
    "the mesh": lambda: change(route()).model_copy(update={"kind": "istio"}),
}


@pytest.mark.parametrize("attack", GATES.values(), ids=GATES.keys())
async def test_a_gate_changes_nothing_else(attack: Callable[[], Command]) -> None:
    assert await judged(attack(), "perf") == GrantRefused.code


@pytest.mark.parametrize("sender", ["topology", "gateway", "stranger"])
async def test_others_hand_on_nothing(sender: str) -> None:
    with pytest.raises(InvalidMessage):
        await AUTHORITY.judge(granted("a"), sender)


def test_a_question_opens_no_credential_without_its_grant() -> None:
    command = granted("a")
    own: dict[str, str] = {"cluster": "c1", "operation": "op"}
    AUTHORITY.may_open("", grant=None, **own)
    AUTHORITY.may_open("cluster.c1", grant=None, **own)
    AUTHORITY.may_open(command.credential, grant=command.grant, **own)
    with pytest.raises(GrantMissing):
        AUTHORITY.may_open(command.credential, grant=None, **own)
    with pytest.raises(GrantRefused):
        AUTHORITY.may_open("operation.other.c1", grant=command.grant, **own)
    with pytest.raises(GrantMissing):
        AUTHORITY.may_open("cluster.c2", grant=None, **own)


# --- repairs --------------------------------------------------------------------------------------


def applied(obj: dict[str, Any], **fields: Any) -> AppliedObject:
    group = obj["apiVersion"].rpartition("/")[0]
    kind = f"{group}/{obj['kind']}"
    name = obj["metadata"]["name"]
    return AppliedObject(kind=kind, name=name, object=obj, operation="op", **fields)


def test_a_repair_says_what_was_applied() -> None:
    assert restores(applied(binding()), binding())
    scaled = deployment()
    del scaled["spec"]["replicas"]
    assert restores(applied(deployment()), scaled)
    labelled = namespace(team="a")
    assert restores(applied(labelled), namespace())
    assert restores(applied(route(), ignored=["spec.http"]), route() | {"spec": {"hosts": []}})


@pytest.mark.parametrize(
    "obj",
    [
        binding(role="cluster-admin"),
        binding(to="attacker"),
        binding("other"),
        binding() | {"subjects": []},
        {k: v for k, v in binding().items() if k != "subjects"},
        binding() | {"apiVersion": "rbac.authorization.k8s.io/v1beta1"},
        binding() | {"more": True},
    ],
)
def test_a_repair_says_nothing_else(obj: dict[str, Any]) -> None:
    assert not restores(applied(binding()), obj)
