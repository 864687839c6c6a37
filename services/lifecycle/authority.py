"""Who may ask lifecycle for what: judged before a credential is opened or a cluster is touched.

NATS lets each service publish under its own name only, so the subject tells who sends. What a
service may ask for in a person's name stands in the grant that the gateway signed for him. Topology
acts in nobody's name: it may only have restored what lifecycle itself has recorded.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.bus import subjects
from services.chassis.bus.intents import heals, is_healing, key_of, unpacked
from services.chassis.bus.records import Bucket
from services.chassis.errors import (
    GrantMissing,
    GrantRefused,
    InvalidMessage,
    ManifestMalformed,
)
from services.chassis.granting import Checker
from services.chassis.kube.manifests import parse_documents, parse_manifest
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import (
    Command,
    Grant,
    SignedGrant,
    Step,
    StepKind,
    Verb,
    is_configuration,
)
from services.chassis.messages.following import followed_operation
from services.chassis.messages.grants import digest_of
from services.chassis.policy import OPERATOR
from services.lifecycle.manifests.following import Followings
from services.lifecycle.manifests.restoring import restores
from services.lifecycle.requested import Part, parts

GATE = "performance-gate"
_MESH_COMPONENT = "IstioMesh"
_ADDON = re.compile(r"([a-z]+)-addon\Z")
_MESH_OPTIONS = frozenset({"profile", "revision", "tags", "readinessTimeoutSeconds"})
_IN_A_THREAD_FROM = 64 * 1024
"""Characters; reading more would hold up other commands."""


def asker(grant: SignedGrant | None) -> str:
    """Who asked, by a grant that was checked before; what carries none is the operator's."""
    return grant.claimed().identity if grant is not None else OPERATOR.name


@dataclass(frozen=True, slots=True)
class Authority:
    """Judges commands and questions of one worker."""

    checker: Checker
    applied: Bucket
    """The bucket `intents`."""
    followings: Followings | None = None
    """None in a process that keeps no sources."""

    async def judge(self, command: Command, sender: str) -> None:
        """Raises `GrantMissing` or `GrantRefused` for what the sender may not ask for, and
        `InvalidMessage` for what no honest sender asks."""
        match sender:
            case "":
                self._judge_own(command)
            case "translator":
                await self._judge_plan(command)
            case "perf":
                await self._judge_change(command)
            case "topology":
                await self._judge_repair(command)
            case _:
                raise InvalidMessage(f"{sender[:64]} hands on nothing to lifecycle")

    def may_open(
        self, credential: str, *, cluster: str, operation: str, grant: SignedGrant | None
    ) -> None:
        """Raises when a question may not be answered through a credential that it names."""
        if credential in ("", subjects.registered_credential(cluster)):
            return
        if grant is None:
            raise GrantMissing(f"the question names {credential[:128]} and carries no grant for it")
        granted = self.checker.checked(grant)
        _same(granted, operation=operation, cluster=cluster, credential=credential)

    # --- the gateway and the operator -----------------------------------------------------------

    def _judge_own(self, command: Command) -> None:
        """Without a grant it is the operator's: beside the gateway only he may publish there."""
        if command.grant is None:
            return
        granted = self.checker.checked(command.grant)
        _same(
            granted,
            operation=command.operation,
            cluster=command.cluster,
            credential=command.credential,
            kind=command.kind,
            verb=command.verb,
            namespace=command.namespace,
            version=command.version,
            digest=digest_of(command.body),
        )
        if command.plan is not None:
            raise GrantRefused("the gateway has signed no plan")

    # --- the translator -------------------------------------------------------------------------

    async def _judge_plan(self, command: Command) -> None:
        """A translated operation: mesh kinds freely, all else only as it was asked for. A source
        that is translated again is judged by its record."""
        if self.followings is not None and followed_operation(command.operation):
            await self.followings.judge(command)
            return
        granted = self._granted(command)
        _same(
            granted,
            operation=command.operation,
            cluster=command.cluster,
            credential=command.credential,
            kind=command.kind,
            verb=command.verb,
            namespace=command.namespace,
        )
        if command.plan is None:
            raise GrantRefused("the translator has handed on no plan")
        steps = command.plan.steps
        for obj in (obj for step in steps for obj in step.obsolete):
            if not is_configuration(obj):
                raise GrantRefused(f"the plan removes {_named(obj)}, which is no mesh's")
        others = [step for step in steps if not _is_configuring(step)]
        # Ends are not looked at: whoever ends a following lets a cluster stay as it is.
        sources = [one.source for one in command.plan.follow]
        if not others and not sources:
            return
        asked = await _asked(command, granted)
        if sources:
            await asyncio.to_thread(_judge_sources, sources, asked, steps)
        if others:
            await self._judge_steps(others, asked, granted)

    async def _judge_steps(
        self, steps: Sequence[Step], asked: Sequence[Part], granted: Grant
    ) -> None:
        deletes = granted.verb == Verb.DELETE
        for step in steps:
            if step.is_deletion is not deletes:
                raise GrantRefused(f"step {step.title[:128]} does not {granted.verb}, as was asked")
        await asyncio.to_thread(_judge_all, steps, asked, granted)

    # --- perf -----------------------------------------------------------------------------------

    async def _judge_change(self, command: Command) -> None:
        """A gate's change or its rollback: objects of the mesh that the gate's body names."""
        granted = self._granted(command)
        _same(
            granted,
            cluster=command.cluster,
            credential=command.credential,
            kind=GATE,
            verb=Verb.APPLY,
            namespace=command.namespace,
        )
        if not command.operation.startswith(f"{granted.operation}-"):
            raise GrantRefused(f"operation {command.operation[:128]} is none of the granted gate's")
        asked = await _asked(command, granted)
        for obj in _manifest(command):
            if not is_configuration(obj):
                raise GrantRefused(f"a gate changes no {_named(obj)}")
            if not any(_names(part, obj, granted.namespace) for part in asked):
                raise GrantRefused(f"the gate that was asked for does not name {_named(obj)}")

    # --- topology -------------------------------------------------------------------------------

    async def _judge_repair(self, command: Command) -> None:
        """A repair: what lifecycle itself has recorded as applied, and nothing else.

        What was applied anew or deleted since is left alone when the repair is carried out.
        """
        if not is_healing(command.operation):
            raise InvalidMessage("topology asks for repairs only")
        if command.verb is not Verb.APPLY or command.credential or command.grant is not None:
            raise GrantRefused("a repair only applies, in nobody's name and as registered")
        for obj in _manifest(command):
            ref = Ref.of(obj)
            group, kind = ref.group_kind
            entry = await self.applied.get(
                key_of(
                    command.cluster, kind=f"{group}/{kind}", namespace=ref.namespace, name=ref.name
                )
            )
            if entry is None:
                continue
            try:
                record = unpacked(entry.value)
            except InvalidMessage:
                continue  # of another version of ours: nothing is restored by it
            if heals(command.operation, record) and not restores(record, obj):
                raise GrantRefused(f"{_named(obj)} was never applied like that")

    def _granted(self, command: Command) -> Grant:
        if command.grant is None:
            raise GrantMissing(f"operation {command.operation[:128]} carries no grant")
        return self.checker.checked(command.grant)


def _judge_sources(sources: Sequence[str], asked: Sequence[Part], steps: Sequence[Step]) -> None:
    """What is to be followed is in the signed body, or in the plan itself: an intent's object."""
    named = {(ref.kind, ref.name) for ref in _refs(steps)}
    named.update(pair for part in asked for pair in part.named())
    for source in sources:
        if (source.partition(".")[0], source.rpartition("/")[2]) not in named:
            raise GrantRefused(f"nobody has sent {source[:160]}")


def _refs(steps: Sequence[Step]) -> list[Ref]:
    return [Ref.of(obj) for step in steps for obj in step.objects]


def _same(granted: Grant, **asked: str) -> None:
    """Raises `GrantRefused` for the first field that was granted otherwise."""
    for name, value in asked.items():
        if getattr(granted, name) != value:
            raise GrantRefused(
                f"the grant of operation {granted.operation[:128]} is for another "
                f"{'body' if name == 'digest' else name}"
            )


async def _asked(command: Command, granted: Grant) -> list[Part]:
    """What the signed body names."""
    if digest_of(command.asked) != granted.digest:
        raise GrantRefused(
            f"the body of operation {granted.operation[:128]} is another than signed"
        )
    if len(command.asked) > _IN_A_THREAD_FROM:
        return await asyncio.to_thread(parts, command.asked)
    return parts(command.asked)


def _manifest(command: Command) -> list[KubeObject]:
    if command.kind != "manifest" or command.plan is not None:
        raise GrantRefused(f"{command.kind[:64]} is nothing that a service hands on by itself")
    try:
        return parse_manifest(command.body)
    except ManifestMalformed as error:
        raise GrantRefused(f"the manifest cannot be read: {error.summary}") from None


def _names(part: Part, obj: KubeObject, namespace: str) -> bool:
    """Whether a part names just this object; without a namespace it means the request's."""
    ref = Ref.of(obj)
    if not part.names(ref.kind, ref.name):
        return False
    return ref.namespace in ("", part.namespace or namespace)


def _is_configuring(step: Step) -> bool:
    return step.kind is StepKind.MANIFEST and all(is_configuration(obj) for obj in step.objects)


# --- steps that need the body --------------------------------------------------------------------


def _judge_all(steps: Sequence[Step], asked: Sequence[Part], granted: Grant) -> None:
    named: dict[str, list[Part]] = {}
    for part in asked:
        for kind in part.kinds:
            named.setdefault(kind, []).append(part)
    for step in steps:
        match step.kind:
            case StepKind.MANIFEST:
                _judge_objects(step, named, granted)
            case StepKind.MESH:
                _judge_mesh(step, named.get(_MESH_COMPONENT, []))
            case StepKind.APPLICATION:
                _judge_addon(step, named)
            case StepKind.INJECTION:
                _judge_injection(step, asked, granted)


def _judge_objects(step: Step, named: dict[str, list[Part]], granted: Grant) -> None:
    for obj in step.objects:
        if is_configuration(obj):
            continue
        ref = Ref.of(obj)
        candidates = [p for p in named.get(ref.kind, []) if p.names(ref.kind, ref.name)]
        bare = {
            "apiVersion": obj.get("apiVersion"),
            "kind": obj.get("kind"),
            "metadata": {"name": ref.name, "namespace": ref.namespace},
        }
        wanted: Any = bare if step.is_deletion else obj
        if not any(part.holds(wanted, namespace=granted.namespace) for part in candidates):
            raise GrantRefused(
                f"{_named(obj)} is not what operation {granted.operation[:128]} asked for"
            )


def _judge_mesh(step: Step, meshes: Sequence[Part]) -> None:
    options = _options(step, _MESH_OPTIONS) - {"default"}
    if step.version:
        options.add(step.version)
    for part in meshes:
        words = part.words()
        if options <= words | {word.removeprefix("v") for word in words}:
            return
    raise GrantRefused(f"nobody has asked for {step.title[:128]}")


def _judge_injection(step: Step, asked: Sequence[Part], granted: Grant) -> None:
    # Of what stands in no other mapping: the whole body, and the texts in it.
    words = {word for part in asked if not part.key for word in part.words()}
    wanted = {step.namespace, *_options(step, frozenset({"revision"}))}
    if not wanted <= words | {granted.namespace}:
        raise GrantRefused(f"nobody has asked for {step.title[:128]}")


def _judge_addon(step: Step, named: dict[str, list[Part]]) -> None:
    addon = _ADDON.match(step.name)
    if addon is None or f"{addon[1].capitalize()}IstioAddon" not in named:
        raise GrantRefused(f"nobody has asked for {step.name[:64]}")


def _options(step: Step, allowed: frozenset[str]) -> set[str]:
    """The values of a step's options; raises for any that a design cannot set."""
    if not step.body.strip():
        return set()
    try:
        documents = list(parse_documents(step.body))
    except ManifestMalformed:
        documents = []
    match documents:
        case [{"kind": "LifecycleOptions", "spec": dict(spec)}] if spec.keys() <= allowed:
            return Part({"options": spec}).words()
    raise GrantRefused(f"step {step.title[:128]} brings options that no design has")


def _named(obj: KubeObject) -> str:
    return str(Ref.of(obj))[:160]
