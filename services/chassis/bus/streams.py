"""Streams, buckets and durable consumers as data, and their idempotent reconciliation.

One init job applies them (`python -m services.chassis.bus apply`); services only verify, so that
they need no right to create or change streams. What an earlier or a later version has put there is
changed in place, under waiting commands and running services; a stream for which NATS cannot do
that is refused and stays as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError

from services.chassis.bus import subjects
from services.chassis.errors import BusUnavailable, StreamRefused, StreamsMissing, shortened

_API_TIMEOUT_S = 5.0
_NOT_FOUND_CODES = {10059, 10014}

T = TypeVar("T")

WORKER_FILTERS = {
    "lifecycle": "cmd.lifecycle.>",
    "translator": "cmd.translator.>",
    # Runs and the shards that they are cut into: a worker must be free to take a shard while it
    # waits for the others of its run.
    "perf": "cmd.perf.*.apply.*",
    "perf-shards": "cmd.perf.*.*",
}
"""The command consumers, shared by the replicas of a service: what each one takes. A work queue
refuses filters that overlap."""

_OF_REGIONS = subjects.consumer("", "-").removesuffix("-")
"""What the name of a region's consumer has in it."""


def worker_consumers(service: str, region: str = "") -> list[str]:
    """The consumers that the workers of a service take their commands from."""
    found = (name for name in WORKER_FILTERS if name.partition("-")[0] == service)
    return [subjects.consumer(name, region) for name in found]


REGIONAL = ("lifecycle", "perf")
"""Services that may have workers in a region."""


@dataclass(frozen=True, slots=True)
class Region:
    """A region and the services that have workers there."""

    name: str
    services: tuple[str, ...] = REGIONAL

    @classmethod
    def read(cls, text: str) -> Region:
        """`name=service,service`, or the name alone for all services that may be there, as an
        argument of a command."""
        name, names, services = text.partition("=")
        chosen = tuple(services.split(",")) if names else REGIONAL
        if not subjects.is_region(name) or not set(chosen) <= set(REGIONAL):
            known = ",".join(REGIONAL)
            raise argparse.ArgumentTypeError(f"{text!r} is not like east=lifecycle, of {known}")
        return cls(name, chosen)


def _ns(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1_000_000_000)


@dataclass(frozen=True, slots=True)
class Stream:
    """A JetStream stream; `config` is the server's own JSON form (ADR-1)."""

    name: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable pull consumer."""

    stream: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)


CMD = Stream(
    "CMD",
    {
        "description": "Commands: one message per subject, so the subject is the cluster's lock",
        "subjects": ["cmd.>"],
        "retention": "workqueue",
        "storage": "file",
        "discard": "new",
        "discard_new_per_subject": True,
        "max_msgs_per_subject": 1,
        # Thousands of commands wait within it; without an end the disk would be what refuses.
        "max_bytes": 1 << 28,
        "duplicate_window": _ns(timedelta(minutes=10)),
        "allow_msg_ttl": True,
    },
)

OPERATING = ("gateway", "lifecycle", "translator", "perf")
"""Services that carry out operations, whose events clients stream."""

EVT = Stream(
    "EVT",
    {
        "description": "Progress and results of operations, kept for three days",
        "subjects": [f"evt.{service}.>" for service in OPERATING],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": _ns(timedelta(hours=72)),
        "max_bytes": 1 << 30,
        "duplicate_window": _ns(timedelta(minutes=10)),
        "allow_direct": True,
        "republish": {"src": "evt.>", "dest": "live.evt.>"},
    },
)

TOPO = Stream(
    "TOPO",
    {
        "description": "Changes of the meshes' graphs, findings and drift, kept for three days",
        "subjects": ["evt.topology.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": _ns(timedelta(hours=72)),
        "max_bytes": 1 << 30,
        "allow_direct": True,
        "compression": "s2",
        "republish": {"src": "evt.>", "dest": "live.evt.>"},
    },
)
"""A stream of its own: fifty changes a second would push operations' events out of EVT, and the
gateway would read them all for nothing."""

ADV = Stream(
    "ADV",
    {
        "description": "Advisories of commands that were given up",
        "subjects": [
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.CMD.>",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.CMD.>",
        ],
        "retention": "limits",
        "storage": "file",
        "max_age": _ns(timedelta(days=7)),
    },
)

DLQ = Stream(
    "DLQ",
    {
        "description": "Messages that no worker could carry out, with the reason in their headers",
        "subjects": ["dlq.>"],
        "retention": "limits",
        "storage": "file",
        "max_age": _ns(timedelta(days=30)),
        "max_bytes": 1 << 28,
        "allow_direct": True,
        "duplicate_window": _ns(timedelta(minutes=10)),
    },
)


AUDITED = (*OPERATING, "topology")
"""Services that write down who asked them for what."""


def audit_stream(service: str) -> str:
    """The name of the stream with a service's entries."""
    return "AUDIT" if service == "gateway" else f"AUDIT_{service}"


def _audit(service: str) -> Stream:
    """One for each service: who filled one that all share would push others' entries out of it."""
    return Stream(
        audit_stream(service),
        {
            "description": f"Who asked {service} for what, where, and what became of it; kept for "
            "ninety days",
            "subjects": [subjects.audit(service)],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": _ns(timedelta(days=90)),
            # Whom people ask is the gateway; a worker adds how each of its commands ended.
            "max_bytes": 1 << (30 if service == "gateway" else 26),
            "allow_direct": True,
            "duplicate_window": _ns(timedelta(minutes=10)),
            # What was written stays: no message can be deleted and no subject purged, by nobody.
            "deny_delete": True,
            "deny_purge": True,
        },
    )


COMPLIANCE = Stream(
    "COMPLIANCE",
    {
        "description": "How compliance of each cluster went, by namespace and team; ninety days",
        "subjects": ["compliance.*.*"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": _ns(timedelta(days=90)),
        # One every quarter of an hour for ninety days: a cluster that changes all the time pushes
        # out its own past, and none of another's.
        "max_msgs_per_subject": 90 * 24 * 4,
        "max_bytes": 1 << 30,
        "max_msg_size": 1 << 20,
        "allow_direct": True,
        "compression": "s2",
        "deny_delete": True,
        "deny_purge": True,
    },
)


def live(subject: str) -> str:
    """Where a stream tells what it has stored under `subject`; "" where it may not tell."""
    if subject.startswith("evt."):
        return f"live.{subject}"
    if subject.startswith("$KV."):
        return f"live.kv.{subject.removeprefix('$KV.')}"
    return ""


def _bucket(
    name: str,
    description: str,
    *,
    ttl: timedelta | None = None,
    most_bytes: int = -1,
    is_followed: bool = False,
    tells_values: bool = False,
) -> Stream:
    """A key-value bucket: a stream with the settings that ADR-8 gives it.

    Of one that `is_followed` the keys of new values are told under `live.kv.`, and the values only
    where it `tells_values`.
    """
    # NATS leaves out of its answer what is false, and it would look like a change each time.
    keys_only = {} if tells_values else {"headers_only": True}
    told = {"src": f"$KV.{name}.>", "dest": f"live.kv.{name}.>", **keys_only}
    return Stream(
        f"KV_{name}",
        {
            "description": description,
            "subjects": [f"$KV.{name}.>"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_bytes": most_bytes,
            "max_age": _ns(ttl) if ttl else 0,
            # By a header of its own message whoever may write one key could delete all others.
            "allow_rollup_hdrs": False,
            "deny_delete": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "duplicate_window": _ns(min(ttl or timedelta(minutes=2), timedelta(minutes=2))),
            **({"republish": told} if is_followed else {}),
        },
    )


def _object_store(name: str, description: str) -> Stream:
    """An object store: a stream with the settings that ADR-20 gives it."""
    return Stream(
        f"OBJ_{name}",
        {
            "description": description,
            "subjects": [f"$O.{name}.C.>", f"$O.{name}.M.>"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "max_bytes": 1 << 30,
            "compression": "s2",
        },
    )


PERF_TTL = timedelta(days=7)
"""How long the result of a performance run is kept that is no baseline."""


def streams(*, lease_ttl: timedelta) -> list[Stream]:
    """Everything that Meshbus keeps on the server."""
    return [
        CMD,
        EVT,
        TOPO,
        ADV,
        DLQ,
        *map(_audit, AUDITED),
        COMPLIANCE,
        _bucket("ops", "State of operations", ttl=timedelta(days=7)),
        _bucket("leases", "Who works on which cluster", ttl=lease_ttl, is_followed=True),
        _bucket("clusters", "Clusters that were registered", is_followed=True),
        _bucket("intents", "What was applied where", is_followed=True),
        _bucket(
            "following",
            "Sources whose translation follows the cluster, each sealed to the translator",
            most_bytes=1 << 28,
            is_followed=True,
        ),
        _bucket(
            "rollouts",
            "Where rollouts stand, and their commands, each sealed to lifecycle",
            ttl=timedelta(days=30),
            most_bytes=1 << 28,
        ),
        _bucket("roots", "Roots that meshes of several clusters trust, keys sealed to lifecycle"),
        _bucket(
            "catalog", "Operations that workers advertise", is_followed=True, tells_values=True
        ),
        _bucket(
            "definitions",
            "Definitions of Istio's kinds, of each release that lifecycle has",
            # A tenth of a megabyte for each version.
            most_bytes=1 << 26,
            is_followed=True,
        ),
        _bucket(
            "credentials",
            "Kubeconfigs, each sealed to the service that uses it",
            # Those of as many operations as the queue of commands holds, and of their clusters.
            most_bytes=1 << 28,
        ),
        _bucket("delivery", "Up to where clients have got the events"),
        _bucket("perf", "State of performance runs", ttl=PERF_TTL),
        _bucket("baselines", "Performance runs to compare with"),
        _object_store("perf", "Results of performance runs; baselines stay, others go"),
    ]


def consumers(*, ack_wait: timedelta, regions: Sequence[Region] = ()) -> list[Consumer]:
    """The durable consumers: of the worker services, shared by their replicas, and of those of
    them that have workers in a region, once more for it."""
    filters = dict(WORKER_FILTERS)
    for region in regions:
        for name in (name for service in region.services for name in worker_consumers(service)):
            taken = subjects.in_region(WORKER_FILTERS[name], region.name)
            filters[subjects.consumer(name, region.name)] = taken
    workers = [
        Consumer(
            "CMD",
            name,
            {
                "description": f"Commands for {name} workers",
                "filter_subject": taken,
                "ack_policy": "explicit",
                "ack_wait": _ns(ack_wait),
                "max_deliver": MAX_DELIVERIES,
                "max_ack_pending": 1000,
                "deliver_policy": "all",
            },
        )
        for name, taken in filters.items()
    ]
    mover = Consumer(
        "ADV",
        "dlq-mover",
        {
            "description": "Moves commands that were given up to DLQ",
            "ack_policy": "explicit",
            "ack_wait": _ns(timedelta(seconds=30)),
            "deliver_policy": "all",
        },
    )
    return [*workers, mover]


MAX_DELIVERIES = 5
"""How many workers may fail or die on one command before it goes to DLQ."""


async def call_api(client: Client, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    """One request to the JetStream API; the answer may hold an `error`."""
    try:
        reply = await client.request(f"$JS.API.{subject}", orjson.dumps(body), _API_TIMEOUT_S)
    except (NatsError, TimeoutError) as error:
        raise BusUnavailable(f"JetStream did not answer {subject}") from error
    answer: dict[str, Any] = orjson.loads(reply.data)
    return answer


async def reconcile(
    client: Client,
    *,
    ack_wait: timedelta,
    lease_ttl: timedelta,
    replicas: int = 1,
    regions: Sequence[Region] = (),
) -> list[str]:
    """Creates or updates streams and consumers that differ; returns their names.

    The consumers of any region that is not among `regions` are deleted: its clusters are then
    served by workers of no region.

    Raises `StreamRefused` for what NATS does not change; everything that it does is changed then.
    """
    touched: list[str] = []

    async def put_stream(stream: Stream) -> None:
        wanted = {"name": stream.name, "num_replicas": replicas, **stream.config}
        if await _put(client, stream.name, wanted):
            touched.append(stream.name)

    async def put_consumer(consumer: Consumer) -> None:
        if await _put_consumer(client, consumer):
            touched.append(f"{consumer.stream}/{consumer.name}")

    refused = await _put_all(streams(lease_ttl=lease_ttl), put_stream)
    if refused:
        raise next(iter(refused.values()))
    wanted = consumers(ack_wait=ack_wait, regions=regions)
    stuck = await _put_all(wanted, put_consumer)
    if stuck:
        # Consumers hold nothing: what waits or is in hand stays in the stream, for the new ones.
        await _remove_former(client, wanted, stuck=[wanted[index] for index in stuck])
        refused = await _put_all(wanted, put_consumer)
        if refused:
            raise next(iter(refused.values()))
    gone = await _remove_regions(client, {one.name for one in wanted})
    return [*dict.fromkeys(touched), *(f"CMD/{name}: deleted" for name in gone)]


async def _remove_regions(client: Client, wanted: Collection[str]) -> list[str]:
    """Deletes the command consumers of regions that are not among `wanted`; returns their names."""
    answer = await call_api(client, "CONSUMER.NAMES.CMD", {})
    former = [
        name
        for name in map(str, answer.get("consumers") or ())
        if _OF_REGIONS in name and name not in wanted
    ]
    for name in former:
        await call_api(client, f"CONSUMER.DELETE.CMD.{name}", {})
    return former


async def _put_all(
    wanted: Sequence[T], put: Callable[[T], Awaitable[None]]
) -> dict[int, StreamRefused]:
    """Puts each; returns why some are refused, by their index, when nothing more can be done.

    One may be in the way of another as long as it is what another version made of it: of subjects
    that move between streams, the one that gives up has to be changed first.
    """
    left = dict(enumerate(wanted))
    while True:
        refused: dict[int, StreamRefused] = {}
        for index, one in left.items():
            try:
                await put(one)
            except StreamRefused as error:
                refused[index] = error
        if len(refused) in (0, len(left)):
            return refused
        left = {index: left[index] for index in refused}


async def _put(client: Client, name: str, wanted: dict[str, Any]) -> bool:
    current = await call_api(client, f"STREAM.INFO.{name}", {})
    error = current.get("error")
    if error is not None:
        if error.get("err_code") not in _NOT_FOUND_CODES:
            _refuse_error(current, what=name)
        _refuse_error(await call_api(client, f"STREAM.CREATE.{name}", wanted), what=name)
        return True
    config = current["config"]
    if _covers(config, wanted):
        return False
    merged = {**config, **wanted}
    _refuse_error(await call_api(client, f"STREAM.UPDATE.{name}", merged), what=name)
    return True


async def _put_consumer(client: Client, consumer: Consumer) -> bool:
    what = f"{consumer.stream}.{consumer.name}"
    wanted = {"durable_name": consumer.name, "name": consumer.name, **consumer.config}
    current = await call_api(client, f"CONSUMER.INFO.{what}", {})
    if "config" in current and _covers(current["config"], wanted):
        return False
    body = {"stream_name": consumer.stream, "config": wanted}
    answer = await call_api(client, f"CONSUMER.DURABLE.CREATE.{what}", body)
    _refuse_error(answer, what=f"consumer {what}")
    return True


async def _remove_former(
    client: Client, wanted: Sequence[Consumer], *, stuck: Sequence[Consumer]
) -> None:
    """Deletes consumers of another version that keep `stuck` ones from being what they have to be:
    those of their names, and those that take the same messages and are not wanted any more."""
    for stream in sorted({consumer.stream for consumer in stuck}):
        kept = {one.name for one in wanted if one.stream == stream}
        answer = await call_api(client, f"CONSUMER.LIST.{stream}", {})
        for found in answer.get("consumers") or []:
            name, taken = str(found["name"]), _filters(found["config"])
            if any(
                name == one.name or (name not in kept and _overlap(taken, _filters(one.config)))
                for one in stuck
                if one.stream == stream
            ):
                await call_api(client, f"CONSUMER.DELETE.{stream}.{name}", {})


def _filters(config: dict[str, Any]) -> list[str]:
    return config.get("filter_subjects") or [config.get("filter_subject") or ">"]


def _overlap(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a subject could be among both."""
    return any(_meet(one.split("."), other.split(".")) for one in some for other in others)


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    if not one or not other:
        return not one and not other
    if ">" in (one[0], other[0]):
        return True
    return ("*" in (one[0], other[0]) or one[0] == other[0]) and _meet(one[1:], other[1:])


def _covers(config: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the server's config has all wanted settings; it omits zero and false."""
    return all((config.get(key) or None) == (value or None) for key, value in wanted.items())


def _refuse_error(answer: dict[str, Any], *, what: str) -> None:
    if "error" in answer:
        text = shortened(str(answer["error"].get("description", answer["error"])))
        raise StreamRefused(f"NATS refuses {what}: {text}", subject=what)


async def has_consumer(client: Client, name: str) -> bool:
    """Whether the server has a consumer of commands of this name."""
    answer = await call_api(client, f"CONSUMER.INFO.CMD.{name}", {})
    error = answer.get("error")
    if error is not None and error.get("err_code") not in _NOT_FOUND_CODES:
        raise BusUnavailable(shortened(str(error.get("description", error))))
    return error is None


async def verify(
    client: Client, *, lease_ttl: timedelta, service: str = "", region: str = ""
) -> None:
    """Raises `StreamsMissing` with the names of streams that the server does not have, or of the
    consumers of a region whose worker this is."""
    answer = await call_api(client, "STREAM.NAMES", {})
    present = set(answer.get("streams") or [])
    missing = [s.name for s in streams(lease_ttl=lease_ttl) if s.name not in present]
    if missing:
        raise StreamsMissing(f"not on the NATS server: {', '.join(missing)}")
    for name in worker_consumers(service, region) if region else ():
        if not await has_consumer(client, name):
            raise StreamsMissing(
                f"the NATS server knows no {service} workers of the region {region}",
                cause=f"there is no consumer {name}",
                remedy="run `python -m services.chassis.bus apply` with --region for each region "
                "(docs/how-to/regions.md)",
                subject=region,
            )
