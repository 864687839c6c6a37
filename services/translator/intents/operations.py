"""The operations that stand for an intent: policies and traffic, without YAML from the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import (
    ClusterFacts,
    Command,
    Follow,
    FollowMode,
    MeshFact,
    Plan,
    Step,
    Verb,
)
from services.chassis.messages.following import mesh_fact
from services.chassis.operations.bodies import find_options
from services.chassis.reading.aside import read_aside
from services.translator.contexts import root_namespace
from services.translator.intents import policies, routing
from services.translator.intents.policies import MutualTls, PolicyOptions
from services.translator.intents.routing import RoutingOptions
from services.translator.istio.objects import managed
from services.translator.istio.versions import in_served_version
from services.translator.smi import origin_of
from services.translator.work import Run, Work

T = TypeVar("T", bound=BaseModel)

Routing = Callable[..., list[KubeObject]]
"""One of the intents of `routing`."""


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of the final event; a deletion's has to say `removed` for Meshery."""

    subject: str

    def summary(self, verb: Verb) -> str:
        done = "removed" if verb is Verb.DELETE else "deployed"
        return f"{self.subject} {done} successfully"

    def failing(self, command: Command) -> str:
        action = "removing" if command.verb is Verb.DELETE else "deploying"
        return f"{action} {self.subject.lower()}"


POLICY = Words("Policy")


def mutual_tls(mode: MutualTls) -> Run:
    """Sets a mode; the other modes of the same scope are replaced."""

    async def run(work: Work) -> Plan:
        options, namespace, facts = await _scoped(work)
        selector = options.selector
        obj = policies.peer_authentication(mode, namespace=namespace, selector=selector)
        others = policies.other_modes(mode, namespace=namespace, selector=selector)
        plan = _plan(work, facts, [obj], obsolete=others, words=POLICY)
        return _following(work, plan, facts, options)

    return run


async def deny_all(work: Work) -> Plan:
    """Denies every request that no other policy allows."""
    options, namespace, facts = await _scoped(work)
    obj = policies.deny_all(namespace=namespace, selector=options.selector)
    return _following(work, _plan(work, facts, [obj], words=POLICY), facts, options)


def route(intent: Routing, words: Words) -> Run:
    """One of the traffic intents."""

    async def run(work: Work) -> Plan:
        command = work.command
        options = await _options(command, routing.KIND, RoutingOptions)
        objects = intent(options, namespace=command.namespace)
        return _plan(work, await work.cluster.facts(), objects, words=words)

    return run


async def limit_image_hub(work: Work) -> Plan:
    """A rate limit for Image Hub's API, by an EnvoyFilter that needs no module from elsewhere.

    The older adapter's filter fetched a WebAssembly module from a paste site and was pinned to
    Istio 1.9; Envoy's own local rate limit does the same for every version.
    """
    obj = rate_limit(namespace=work.command.namespace)
    words = Words("Envoy filter")
    return _plan(work, await work.cluster.facts(), [obj], words=words)


def rate_limit(*, namespace: str) -> KubeObject:
    """Ten requests a minute for the pods of Image Hub's API."""
    fraction = {"numerator": 100, "denominator": "HUNDRED"}
    limit = {
        "@type": (
            "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
        ),
        "stat_prefix": "imagehub_rate_limit",
        "token_bucket": {"max_tokens": 10, "tokens_per_fill": 10, "fill_interval": "60s"},
        "filter_enabled": {"default_value": fraction},
        "filter_enforced": {"default_value": fraction},
    }
    http_filters = {
        "filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
    }
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "listener": http_filters},
        "patch": {
            "operation": "INSERT_FIRST",
            "value": {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
        },
    }
    spec = {
        # Without a priority Istio may apply a relative operation before what it refers to.
        "priority": 10,
        "workloadSelector": {"labels": {"app": "api", "version": "v1"}},
        "configPatches": [patch],
    }
    name = "imagehub-rate-limit"
    return managed(Ref("networking.istio.io/v1alpha3", "EnvoyFilter", namespace, name), spec)


async def _scoped(work: Work) -> tuple[PolicyOptions, str, ClusterFacts]:
    """The options of a policy, the namespace that it goes to, and the facts."""
    command = work.command
    options = await _options(command, policies.KIND, PolicyOptions)
    facts = await work.cluster.facts()
    if options.scope != "mesh":
        return options, command.namespace, facts
    return options, root_namespace(facts), facts


def _following(work: Work, plan: Plan, facts: ClusterFacts, options: PolicyOptions) -> Plan:
    """What holds for the whole mesh depends on where its root namespace is. A policy that stands in
    a namespace that is no root any more is for a person to move: it is only told."""
    if options.scope != "mesh":
        return plan
    mesh = facts.meshes[0] if facts.meshes else MeshFact(revision="default")
    used = mesh_fact(root_namespace=mesh.namespace, trust_domain=mesh.trust_domain)
    found = [
        Follow(source=origin_of(Ref.of(obj)), mode=FollowMode.REPORT, facts=[used])
        for obj in plan.steps[0].objects
    ]
    kept = work.follows.of(found, work.command, progress=work.progress)
    return plan.model_copy(update=dict(kept))


async def _options(command: Command, kind: str, model: type[T]) -> T:
    body = command.body
    found = await read_aside(lambda: find_options(body, kind, model), size=len(body))
    return found or model()


def _plan(
    work: Work,
    facts: ClusterFacts,
    objects: Sequence[KubeObject],
    *,
    words: Words,
    obsolete: Sequence[KubeObject] = (),
) -> Plan:
    verb = work.command.verb
    is_deletion = verb is Verb.DELETE
    step = Step(
        title=", ".join(str(Ref.of(obj)) for obj in objects),
        is_deletion=is_deletion,
        objects=[in_served_version(obj, facts.served) for obj in objects],
        # A deletion removes one mode and sets no other.
        obsolete=[] if is_deletion else [in_served_version(obj, facts.served) for obj in obsolete],
    )
    return Plan(steps=[step], summary=words.summary(verb), failing=words.failing(work.command))
