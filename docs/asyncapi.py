"""AsyncAPI 3 of the bus: which messages there are, where they go, and who sends and takes them.

Nothing is told here twice. Addresses come from the functions that make subjects, messages from
their models, questions from the service API itself, and who sends and receives from the rights on
NATS. What only this module says is a line about each channel.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from deploy.nats.permissions import USERS, Right, User, regional
from services.chassis import errors
from services.chassis.bus import deadletters, envelopes, intents, streams, subjects
from services.chassis.bus.queries import Query
from services.chassis.messages import (
    AuditEntry,
    ClusterFacts,
    ClusterRecord,
    Command,
    DryRunQuestion,
    ErrorReport,
    Event,
    FactsQuestion,
    Followed,
    OperationRecord,
    RequestRecord,
    RightsQuestion,
    ServiceCatalog,
)
from services.chassis.messages.models import VERSION
from services.gateway.queries import PASSED_ON, Apply
from services.gateway.queries import Answers as GatewayAnswers
from services.lifecycle.multicluster.roots import RootRecord
from services.lifecycle.queries import Answers as LifecycleAnswers
from services.lifecycle.rollouts.records import (
    ClaimRecord,
    PartRecord,
    RolloutRecord,
    WishRecord,
)
from services.perf.adapters import subjects as perf_subjects
from services.perf.comparison.baselines import BaselineRecord
from services.perf.queries import Answers as PerfAnswers
from services.perf.runs.store import GateRecord, RunRecord
from services.perf.runs.wire import ReadyAnswer, ReadyQuestion, Report, RollAnswer, ShardCommand
from services.topology.feed import deltas
from services.topology.handlers import Handlers
from services.topology.handlers import queries as topology_queries
from services.topology.reports.history import ComplianceSums, ComplianceWorkloads
from services.translator.queries import Answers as TranslatorAnswers

SERVICES = {
    "gateway": "Meshery's adapter contract as operations, and their events as a stream",
    "lifecycle": "Istio and manifests on clusters",
    "translator": "SMI, designs and intents as plans, and their validation",
    "perf": "Load tests, their comparison, and gates",
    "topology": "The live graph, findings, drift and compliance",
}
LEFT_OUT = {
    "ADV": "advisories of the NATS server itself",
    "KV_leases": "who works on what; only for the processes among themselves",
    "KV_credentials": "sealed kubeconfigs",
    "KV_definitions": "definitions of kinds, packed, for the translator alone",
    "KV_delivery": "marks of the gateways",
    "OBJ_perf": "results in pieces; ask `mesh.perf.results`",
}
"""Streams and buckets without a channel here, and why."""

_QUESTIONS: Mapping[str, type[BaseModel]] = {
    "gateway.apply": Apply,
    "lifecycle.facts": FactsQuestion,
    "lifecycle.rights": RightsQuestion,
    "lifecycle.dryrun": DryRunQuestion,
}
_ANSWERS: Mapping[str, type[BaseModel]] = {
    "lifecycle.facts": ClusterFacts,
    "lifecycle.status": OperationRecord,
}
"""Models of questions and answers; the others are read field by field, as their usage says."""

_PARAMETERS = {
    "region": "A region of its cluster's labels that the bus knows.",
    "cluster": "Token of the cluster, as `mesh.gateway.clusters` lists them; `none` without one.",
    "operation": "Id of the operation where that is a safe token, else a hash of it.",
    "service": "The service that it is for, or comes from.",
    "sender": "The service that hands something on; NATS lets each use its own name only.",
    "rollout": "Id of the operation that rolls something out.",
    "root": "Hash of the mesh's id and of who asked for it.",
    "run": "Id of the performance run.",
    "shard": "Names one attempt at a shard.",
    "topic": "What changed.",
    "stage": "A change, or a part of a checkpoint.",
    "verb": "The question.",
    "name": "Name of the object, or of whoever asks.",
    "baseline": "Of its name, its service and the mesh's configuration.",
    "namespace": "Of the object; `_` for one in no namespace.",
    "kind": "Of the object, with its group.",
    "source": "Hash of the source's kind, namespace and name.",
}
_A_REGION = "region"
"""Stands for any of them."""
_MARK = "Z{}Z"
"""Stands for a parameter where a function makes the subject: a safe token goes through as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One address and the messages there."""

    name: str
    address: str
    """With its parameters in braces."""
    about: str
    messages: Sequence[str]
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of parameters that take some values only."""
    answers: Sequence[str] = ()
    """Messages that come back."""
    stream: str = ""
    """Where it is kept."""

    @property
    def pattern(self) -> str:
        return re.sub(r"\{\w+\}", "*", self.address)


def _made(subject: str) -> str:
    """The address that a function has made out of marks."""
    return re.sub(r"Z([a-z]+)Z", r"{\1}", subject)


def _mark(name: str) -> str:
    return _MARK.format(name)


def channels() -> list[Channel]:
    """All of them, commands first."""
    cluster, operation, run = _mark("cluster"), _mark("operation"), _mark("run")
    service = _mark("service")
    workers = ("lifecycle", "translator", "perf")
    found = [
        Channel(
            name="command-mesh",
            address=_made(subjects.mesh_command(service="lifecycle", cluster=cluster)),
            about="What changes the mesh itself: one message at a time. NATS refuses a second one "
            "while the first waits or runs.",
            messages=["Command"],
            stream="CMD",
        ),
        Channel(
            name="command",
            address=_made(
                subjects.apply_command(service=service, cluster=cluster, operation=operation)
            ),
            about="Everything else that is asked of a worker, side by side. What translator and "
            "perf make of it needs a grant.",
            messages=["Command"],
            values={"service": workers},
            stream="CMD",
        ),
        Channel(
            name="command-handed-on",
            address=_made(
                subjects.handed_on(
                    service="lifecycle",
                    cluster=cluster,
                    sender=_mark("sender"),
                    operation=operation,
                )
            ),
            about="A plan of the translator, a change of a gate, a repair of topology: lifecycle "
            "does no more than its grant, or its own record, covers.",
            messages=["Command"],
            values={"sender": ("translator", "perf", "topology")},
            stream="CMD",
        ),
        Channel(
            name="command-followed",
            address=_made(
                subjects.handed_on(
                    service="translator", cluster=cluster, sender="topology", operation=operation
                )
            ),
            about="Translate a source again, since what its translation depended on has changed. "
            "The body of the command is a `FollowRequest`.",
            messages=["Command"],
            stream="CMD",
        ),
        Channel(
            name="command-shard",
            address=_made(perf_subjects.shard_command(run=run, shard=_mark("shard"))),
            about="A shard of a performance run, for any free worker.",
            messages=["ShardCommand"],
            stream="CMD",
        ),
    ]
    found += [
        replace(
            channel,
            name=f"{channel.name}-in-region",
            address=channel.address.replace("cmd.", "cmd.at.{region}.", 1),
            about=f"The same as `{channel.address}`, for workers of a region.",
            values={
                **channel.values,
                **({"service": streams.REGIONAL} if channel.values.get("service") else {}),
            },
        )
        for channel in found
        if channel.name != "command-followed"
    ]
    event = _made(subjects.event(service=service, cluster=cluster, operation=operation))
    feed = deltas.subject("{cluster}", "{topic}", "{stage}")  # type: ignore[arg-type]
    told = {"topic": tuple(deltas.Topic), "stage": tuple(deltas.Stage)}
    found += [
        Channel(
            name="event",
            address=event,
            about="Progress and results of operations, in the order of each. The last event of an "
            "operation on a cluster has the phase `done`, `failed` or `cancelled`.",
            messages=["Event"],
            values={"service": streams.OPERATING},
            stream="EVT",
        ),
        Channel(
            name="event-live",
            address=f"live.{event}",
            about="The same, told by NATS as they are stored: for `nats sub`, without a consumer.",
            messages=["Event"],
            values={"service": streams.OPERATING},
        ),
        Channel(
            name="feed",
            address=feed,
            about="Changes of the live graph, findings and drift of a cluster: whole items by id, "
            "null for those that are gone. A checkpoint is all of them.",
            messages=["Delta"],
            values=told,
            stream="TOPO",
        ),
        Channel(
            name="feed-live",
            address=f"live.{feed}",
            about="The same, told by NATS as they are stored.",
            messages=["Delta"],
            values=told,
        ),
        *(
            Channel(
                name=f"audit-{name}",
                address=subjects.audit(name),
                about=f"Who asked {name} for what, where, and what became of it. Nothing can be "
                "deleted.",
                messages=["AuditEntry"],
                stream=streams.audit_stream(name),
            )
            for name in streams.AUDITED
        ),
        *(
            Channel(
                name=f"compliance-{of}",
                address=subjects.compliance("{cluster}", of),
                about=about,
                messages=[model.__name__],
                stream="COMPLIANCE",
            )
            for of, model, about in (
                (
                    "sums",
                    ComplianceSums,
                    "What compliance of a cluster came to: when it changed, and once a day.",
                ),
                ("workloads", ComplianceWorkloads, "How each of its workloads did then."),
            )
        ),
        Channel(
            name="dead-letter",
            address=_made(subjects.dead_letter(service)),
            about="Commands that no worker could carry out, sealed to the service that they were "
            "for; the reason is in the headers.",
            messages=["DeadLetter"],
            values={"service": (*workers, "topology")},
            stream="DLQ",
        ),
    ]
    found += _between_workers(run)
    found += _records(cluster, operation)
    about_clusters = object.__new__(LifecycleAnswers).about_clusters()
    for service, query in questions():
        found.append(
            Channel(
                name=f"ask-{service}-{query.verb}",
                address=f"mesh.{service}.{query.verb}",
                about=_about(query),
                messages=[_question(service, query)],
                answers=[_answer(service, query), "Refusal"],
            )
        )
    found.append(
        Channel(
            name="ask-in-region",
            address="mesh.lifecycle.{verb}.at.{region}",
            about="Questions for which a cluster is asked, to the workers of its region.",
            messages=[_question("lifecycle", query) for query in about_clusters],
            answers=[*(_answer("lifecycle", query) for query in about_clusters), "Refusal"],
            values={"verb": tuple(query.verb for query in about_clusters)},
        )
    )
    found.append(
        Channel(
            name="ask-as",
            address="mesh.{service}.{verb}.as.{name}",
            about="Every question above under the name of a person, whom the policy judges. NATS "
            "lets each publish under his own name only.",
            messages=sorted({_question(service, query) for service, query in questions()}),
            answers=["Refusal"],
            values={"service": tuple(SERVICES)},
        )
    )
    found.append(
        Channel(
            name="ask-by-token",
            address="mesh.gateway.{verb}.by.token",
            about="Every question to the gateway with the token of whoever asks, in the header "
            "`Authorization`. The gateway looks at the token, and the policy judges him.",
            messages=sorted(
                {
                    _question(service, query)
                    for service, query in questions()
                    if service == "gateway"
                }
            ),
            answers=["Refusal"],
        )
    )
    found.append(
        Channel(
            name="ask-for",
            address="mesh.{service}.{verb}.for.gateway",
            about="What the gateway asks on behalf of whoever brought it a token; the header "
            "`Meshbus-Identity` says who that is, and the policy judges him again.",
            messages=sorted(
                {
                    _question(service, query)
                    for service, query in questions()
                    if f"{service}.{query.verb}" in PASSED_ON
                }
            ),
            answers=["Refusal"],
            values={"service": tuple(one for one in SERVICES if one != "gateway")},
        )
    )
    return found


def _between_workers(run: str) -> list[Channel]:
    """Core messages between replicas; not stored."""
    named = (
        ("roll", perf_subjects.ROLL_CALL, "How many shards could you take?", "Empty"),
        ("ready", _made(perf_subjects.control("ready", run=run)), "When do I start?", ""),
        ("report", _made(perf_subjects.control("report", run=run)), "How far a shard is.", ""),
        ("stop", _made(perf_subjects.control("stop", run=run)), "End the shards now.", "Empty"),
        (
            "cancel",
            _made(perf_subjects.control("cancel", run=_mark("operation"))),
            "End an operation on the cluster whose token is the body.",
            "Empty",
        ),
    )
    messages = {"ready": "ReadyQuestion", "report": "Report"}
    answers = {"ready": ["ReadyAnswer"], "roll": ["RollAnswer"]}
    return [
        *(
            Channel(
                name=f"perf-{name}",
                address=address,
                about=about,
                messages=[message or messages[name]],
                answers=answers.get(name, ()),
            )
            for name, address, about, message in named
        ),
        Channel(
            name="topology-owner",
            address="ctl.topology.{cluster}.{verb}",
            about="A question that only the replica can answer that owns the cluster.",
            messages=["Question"],
            answers=["Answer", "Refusal"],
            values={"verb": ("path", "object", "vet", "compliance", "heal", "handover")},
        ),
    ]


def _records(cluster: str, operation: str) -> list[Channel]:
    """Buckets whose values have a model: a write is a message to `$KV.<bucket>.<key>`."""
    of_operation = _made(subjects.operation_key(operation))
    part = _made(subjects.operation_key(operation, cluster))
    applied = intents.prefix_of("{cluster}") + ".{namespace}.{kind}.{name}"
    rows = (
        ("ops", of_operation, "What an operation id stands for.", "RequestRecord"),
        ("ops", part, "State of an operation on a cluster.", "OperationRecord"),
        ("catalog", "{service}", "Operations that a service offers.", "ServiceCatalog"),
        ("clusters", "{cluster}", "A registered cluster; no credential.", "ClusterRecord"),
        ("intents", applied, "An object as it was applied.", "AppliedObject"),
        ("following", "{cluster}.{source}", "A source that follows its cluster.", "Followed"),
        ("rollouts", "rollout.{rollout}", "Where a rollout stands.", "RolloutRecord"),
        ("rollouts", "part.{rollout}.{cluster}", "Its part on a cluster.", "PartRecord"),
        ("rollouts", "wish.{rollout}", "What people want of it.", "WishRecord"),
        ("rollouts", "claim.{cluster}", "The rollout that has a cluster.", "ClaimRecord"),
        ("roots", "{root}", "A root of a mesh of several clusters.", "RootRecord"),
        ("perf", "run.{run}", "State of a performance run.", "RunRecord"),
        ("perf", "gate.{operation}", "State of a gate.", "GateRecord"),
        ("baselines", "{baseline}", "A baseline; its runs are objects.", "BaselineRecord"),
    )
    return [
        Channel(
            name=f"record-{bucket}-{message}",
            address=f"$KV.{bucket}.{key}",
            about=about,
            messages=[message],
            stream=f"KV_{bucket}",
        )
        for bucket, key, about, message in rows
    ]


# --- questions -----------------------------------------------------------------------------------


def questions() -> Iterator[tuple[str, Query]]:
    """Each service's questions. Nobody is asked, so the answerers are never filled."""
    for service, found in (
        ("gateway", object.__new__(GatewayAnswers).queries()),
        ("lifecycle", object.__new__(LifecycleAnswers).queries()),
        ("translator", object.__new__(TranslatorAnswers).queries()),
        ("perf", object.__new__(PerfAnswers).queries()),
        ("topology", topology_queries(object.__new__(Handlers))),
    ):
        for query in found:
            yield service, query


def _about(query: Query) -> str:
    words = " ".join(((query.answer_to or query.answer).__doc__ or "").split())
    return f"{words} Send `{query.usage}`."


def _question(service: str, query: Query) -> str:
    return f"{service.title()}{query.verb.title()}Question"


def _answer(service: str, query: Query) -> str:
    return f"{service.title()}{query.verb.title()}Answer"


_KEY = re.compile(r'"(\w+)": ')


def fields_of(usage: str) -> dict[str, Any]:
    """JSON Schema of each field that a usage names; raises `ValueError` for what it cannot read."""
    found: dict[str, Any] = {}
    parts = _KEY.split(usage)[1:]
    for name, rest in zip(parts[::2], parts[1::2], strict=True):
        value = re.sub(r"( or( \{)?|,|\}.*)\s*$", "", rest).strip()
        found[name] = _of_value(value)
    return found


def _of_value(value: str) -> dict[str, Any]:
    if "[" in value and not value.startswith("["):
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    if value.startswith("["):
        is_object = "OBJECT" in value
        return {"type": "array", "items": {"type": "object" if is_object else "string"}}
    if " | " in value:
        return {"type": "string", "enum": [one.strip('"') for one in value.split(" | ")]}
    if value in ("true", "false"):
        return {"type": "boolean", "default": value == "true"}
    if value == "OBJECT":
        return {"type": "object"}
    if value == "NUMBER" or re.fullmatch(r"\d+", value):
        return {"type": "integer"}
    if re.fullmatch(r"\d+\.\d+", value):
        return {"type": "number", "default": float(value)}
    if value.startswith('"'):
        return {"type": "string", "examples": [value.strip('"')]}
    if re.fullmatch(r"[A-Z][A-Z ]*", value):
        return {"type": "string"}
    raise ValueError(f"{value!r} stands for no kind of value")


# --- messages ------------------------------------------------------------------------------------


_MODELS: tuple[type[BaseModel], ...] = (
    Command,
    Event,
    AuditEntry,
    ErrorReport,
    ShardCommand,
    ReadyQuestion,
    ReadyAnswer,
    Report,
    RollAnswer,
    RequestRecord,
    OperationRecord,
    ServiceCatalog,
    ClusterRecord,
    intents.AppliedObject,
    Followed,
    RunRecord,
    GateRecord,
    BaselineRecord,
    RolloutRecord,
    PartRecord,
    WishRecord,
    ClaimRecord,
    RootRecord,
    ComplianceSums,
    ComplianceWorkloads,
    *_QUESTIONS.values(),
    ClusterFacts,
)
_SCHEMAS = "#/components/schemas/"


def schemas() -> dict[str, Any]:
    """JSON Schema of every model, and of what has none."""
    _, found = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(_MODELS)],
        ref_template=f"{_SCHEMAS}{{model}}",
    )
    named: dict[str, Any] = dict(found["$defs"])
    # The feed is written without pydantic, but its fields are typed all the same.
    delta = TypeAdapter(deltas.Delta).json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    named |= delta.pop("$defs")
    delta["properties"] = {
        "schema_version": {"const": 1, "type": "integer"},
        **delta["properties"],
    }
    delta["required"] = [*delta["properties"]]
    named["Delta"] = delta
    leaves = sorted(errors.leaves(errors.MeshbusError), key=lambda leaf: leaf.code)
    named["ErrorCode"] = {
        "type": "string",
        "description": "Codes of errors; docs/reference/errors.md has cause and remedy of each.",
        "enum": [leaf.code for leaf in leaves],
        "x-names": {leaf.code: leaf.__name__ for leaf in leaves},
    }
    return dict(sorted(named.items()))


def _messages() -> dict[str, Any]:
    """Every message by its name."""
    sent = {"$ref": "#/components/messageTraits/envelope"}
    found: dict[str, Any] = {
        model.__name__: {
            "summary": _first_sentence(model),
            "contentType": envelopes.JSON,
            "payload": {"$ref": f"{_SCHEMAS}{model.__name__}"},
        }
        for model in _MODELS
        if model not in _QUESTIONS.values() and model not in (ErrorReport, ClusterFacts)
    }
    for name in ("Command", "ShardCommand"):
        found[name] |= {"contentType": envelopes.MSGPACK, "traits": [sent]}
    for name in ("Event", "AuditEntry"):
        found[name] |= {"traits": [sent]}
    found["Command"]["examples"] = [
        {
            "name": "by-hand",
            "summary": "What a person sends as JSON; only `operation` and `kind` are required.",
            "payload": {"operation": "my-upgrade-1", "kind": "istio", "version": "1.31.0"},
        }
    ]
    found["Delta"] = {
        "summary": _first_sentence(deltas.Delta),
        "contentType": envelopes.JSON,
        "payload": {"$ref": f"{_SCHEMAS}Delta"},
        "traits": [sent],
    }
    found["DeadLetter"] = {
        "summary": "A command as it came, sealed.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "properties": {
                deadletters.REASON: {"type": "string", "description": "Code and reason."},
                deadletters.ORIGIN: {"type": "string", "description": "Subject and sequence."},
            },
        },
    }
    found["Empty"] = {"summary": "Its subject says all.", "contentType": "text/plain"}
    found["Question"] = {
        "summary": "A question of the service API, handed on.",
        "payload": {"type": "object"},
    }
    found["Answer"] = {"summary": "Its answer.", "payload": {}}
    found["Refusal"] = {
        "summary": "The error that a question ended with.",
        "contentType": envelopes.JSON,
        "headers": {
            "type": "object",
            "properties": {
                "Nats-Service-Error-Code": {"$ref": f"{_SCHEMAS}ErrorCode"},
                "Nats-Service-Error": {"type": "string", "description": "Summary and remedy."},
            },
        },
        "payload": {"$ref": f"{_SCHEMAS}ErrorReport"},
    }
    for service, query in questions():
        found[_question(service, query)] = {
            "summary": f"Question `{query.verb}` to {service}.",
            "contentType": envelopes.JSON,
            "payload": _payload(service, query),
        }
        answer = _ANSWERS.get(f"{service}.{query.verb}")
        found[_answer(service, query)] = {
            "summary": f"Answer of {service} to `{query.verb}`.",
            "contentType": envelopes.JSON,
            "payload": {"$ref": f"{_SCHEMAS}{answer.__name__}"} if answer else {},
        }
    return found


def _payload(service: str, query: Query) -> dict[str, Any]:
    model = _QUESTIONS.get(f"{service}.{query.verb}")
    if model is not None:
        return {"$ref": f"{_SCHEMAS}{model.__name__}"}
    asked: dict[str, Any] = {"type": "object", "properties": fields_of(query.usage)}
    if query.text_field:
        text = {"type": "string", "description": f"The text alone stands for `{query.text_field}`."}
        return {"anyOf": [asked, text]}
    return asked


def _first_sentence(of: type) -> str:
    words = " ".join((of.__doc__ or "").split())
    return words.partition(". ")[0].rstrip(".") + "."


_HEADERS = {
    envelopes.CONTENT_TYPE: {"type": "string", "enum": [envelopes.MSGPACK, envelopes.JSON]},
    envelopes.CONTENT_ENCODING: {
        "type": "string",
        "description": "What was done to the body, in this order: `deflate`, `sealed`.",
    },
    envelopes.SCHEMA: {"type": "string", "const": "1"},
    envelopes.SENDER_VERSION: {
        "type": "string",
        "description": "The sender's version of Meshbus: work that only a later version knows goes "
        "back to the queue for it.",
    },
    envelopes.MESSAGE_ID: {
        "type": "string",
        "description": "The same in each try of one message: NATS drops the copies. Services put "
        "a code behind it that only their own key makes.",
    },
    envelopes.OPERATION: {"type": "string"},
    envelopes.KIND: {"type": "string"},
    "traceparent": {"type": "string", "description": "W3C Trace Context."},
}


# --- who sends and who receives ------------------------------------------------------------------


def overlaps(one: str, other: str) -> bool:
    """Whether a subject can match both patterns."""
    left, right = one.split("."), other.split(".")
    for mine, theirs in zip(left, right, strict=False):
        if ">" in (mine, theirs):
            return True
        if mine != theirs and "*" not in (mine, theirs):
            return False
    return len(left) == len(right)


def _may(rights: Sequence[Right], pattern: str) -> bool:
    return any(overlaps(right.subject, pattern) for right in rights)


def senders(channel: Channel) -> list[str]:
    """NATS users that may publish there."""
    named = channel.values.get("sender") or channel.values.get("service") or ()
    is_own = "service" in channel.values and channel.name.startswith(("event", "audit"))
    return [
        user.name
        for user in USERS
        if any(_may(one.publish, channel.pattern) for one in _and_there(user))
        and not (is_own and user.name in SERVICES and user.name not in named)
    ]


def receivers(channel: Channel) -> list[str]:
    """NATS users that subscribe there, take from its work queue, or read its stream."""
    return [user.name for user in USERS if any(_receives(one, channel) for one in _and_there(user))]


def _and_there(user: User) -> list[User]:
    """The user, and its workers in a region."""
    return [user, *([regional(user.name, _A_REGION)] if user.name in streams.REGIONAL else [])]


def _receives(user: User, channel: Channel) -> bool:
    if _may(user.subscribe, channel.pattern):
        return True
    if not channel.stream:
        return False
    if channel.stream == "CMD":
        return user.name not in ("admin", "operator") and any(
            overlaps(str(consumer.config["filter_subject"]), channel.pattern)
            and _may(user.publish, f"$JS.ACK.CMD.{consumer.name}.x")
            for consumer in streams.consumers(
                ack_wait=timedelta(0), regions=[streams.Region(_A_REGION)]
            )
            if consumer.stream == "CMD"
        )
    reading = [
        f"$JS.API.CONSUMER.CREATE.{channel.stream}",
        f"$JS.API.CONSUMER.CREATE.{channel.stream}.x",
    ]
    if channel.stream.startswith("KV_"):
        reading.append(f"$JS.API.DIRECT.GET.{channel.stream}.{channel.pattern}")
    return any(_may(user.publish, subject) for subject in reading)


def _operations(found: Sequence[Channel]) -> dict[str, Any]:
    """One for each service and direction; people are named beside the channel."""
    operations: dict[str, Any] = {}
    for channel in found:
        place = {"$ref": f"#/channels/{channel.name}"}
        reply = {
            "channel": {"$ref": "#/channels/inbox"},
            "messages": [
                {"$ref": f"#/channels/inbox/messages/{answer}"} for answer in channel.answers
            ],
        }
        for action, users in (("send", senders(channel)), ("receive", receivers(channel))):
            for user in users:
                if user not in SERVICES:
                    continue
                operation: dict[str, Any] = {
                    "action": action,
                    "channel": place,
                    "tags": [{"name": user}],
                }
                if channel.answers:
                    operation["reply"] = reply
                if action == "receive" and channel.name.startswith("ask-"):
                    operation["bindings"] = {"nats": {"queue": user, "bindingVersion": "0.1.0"}}
                operations[f"{user}-{action}-{channel.name}"] = operation
    return operations


def _channels(found: Sequence[Channel]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for channel in found:
        one: dict[str, Any] = {"address": channel.address, "description": channel.about}
        names = re.findall(r"\{(\w+)\}", channel.address)
        if names:
            one["parameters"] = {name: _parameter(name, channel) for name in names}
        one["messages"] = _references(channel.messages)
        people = {
            "x-people-send": [user for user in senders(channel) if user not in SERVICES],
            "x-people-receive": [user for user in receivers(channel) if user not in SERVICES],
        }
        one |= {key: users for key, users in people.items() if users}
        if channel.stream:
            one["x-stream"] = channel.stream
        described[channel.name] = one
    answers = sorted({answer for channel in found for answer in channel.answers})
    described["inbox"] = {
        "address": None,
        "description": "The inbox that a question names as its reply subject; each NATS user has a "
        "prefix of its own, which nobody else may listen to.",
        "messages": _references(answers),
    }
    return described


def _parameter(name: str, channel: Channel) -> dict[str, Any]:
    one: dict[str, Any] = {"description": _PARAMETERS[name]}
    if name in channel.values:
        one["enum"] = [str(value) for value in channel.values[name]]
    return one


def _references(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def document() -> dict[str, Any]:
    """The whole contract."""
    found = channels()
    whole = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Meshbus on NATS",
            "version": VERSION,
            "description": "Commands, events, records and questions between the services of "
            "Meshbus, and for people with the nats CLI. Generated by `make docs`; do not edit. "
            "An operation stands here where the NATS user of the service has the right to it.",
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": name, "description": words} for name, words in SERVICES.items()],
        },
        "defaultContentType": envelopes.JSON,
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "NATS 2.11 or newer with JetStream.",
                "security": [{"$ref": "#/components/securitySchemes/nkey"}],
            }
        },
        "channels": _channels(found),
        "operations": _operations(found),
        "components": {
            "messages": _messages(),
            "schemas": schemas(),
            "messageTraits": {
                "envelope": {
                    "headers": {"type": "object", "properties": _HEADERS},
                    "correlationId": {"$ref": "#/components/correlationIds/operation"},
                }
            },
            "correlationIds": {
                "operation": {
                    "description": "The operation's id.",
                    "location": f"$message.header#/{envelopes.OPERATION}",
                }
            },
            "securitySchemes": {
                "nkey": {
                    "type": "asymmetricEncryption",
                    "description": "An NKey for each user, with the least rights.",
                }
            },
        },
    }
    copied: dict[str, Any] = json.loads(json.dumps(whole))
    return copied


def text() -> str:
    """`asyncapi.yaml`."""
    return yaml.safe_dump(document(), sort_keys=False, width=100, allow_unicode=True)


def rows() -> list[str]:
    """The channels as rows of a table for people."""
    return [
        f"| `{channel.address}` | {', '.join(senders(channel)) or 'NATS'} "
        f"| {', '.join(receivers(channel))} | {', '.join(channel.messages[:1])} "
        f"| {channel.about.replace(' | ', ' or ')} |"
        for channel in channels()
        if channel.name != "ask-as"
    ]


def uncovered() -> list[str]:
    """Streams and buckets without any channel, those that are left out for a reason aside."""
    kept = {channel.stream for channel in channels()}
    return [
        stream.name
        for stream in streams.streams(lease_ttl=timedelta(seconds=1))
        if stream.name not in kept and stream.name not in LEFT_OUT
    ]
