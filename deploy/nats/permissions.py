"""Rights on the bus as data: each NATS user with the least rights that its work needs.

A user is named for its service and proves itself with an NKey. What no entry allows is refused by
the server: a gateway that was taken over cannot read the stored kubeconfigs, a worker cannot take
another one's commands, and nobody hears the answers in another one's inbox. A new service is one
more entry in `USERS`.

Requests to JetStream are messages to `$JS.API.<request>.<stream>…`, so each kind of access to each
stream is a right of its own. Nobody but `admin` may create a consumer, for its creator chooses the
subject that it delivers to, its heartbeats too. What else NATS would send to a subject of the
asker's choice stays in the asker's account (`accounts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from services.chassis.bus import streams, subjects
from services.chassis.policy import Identity, Policy, Sight

ACCOUNT = "MESHBUS"
"""Holds the streams; nobody is in it but who may do everything with them."""
SYSTEM_ACCOUNT = "SYS"
"""The server's own account: it tells about the server and sees no message of another one."""
SERVICES = ("gateway", "lifecycle", "translator", "perf", "topology")
_SHARED = {"admin": ACCOUNT, "system": SYSTEM_ACCOUNT}


@dataclass(frozen=True, slots=True)
class Right:
    """A subject that a user may publish or subscribe to, and the purpose."""

    subject: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One NATS user. Subjects that are not listed are refused."""

    name: str
    role: str
    publish: tuple[Right, ...]
    subscribe: tuple[Right, ...] = ()
    answers: bool = False
    """May publish one answer to each message that reaches it with a reply subject."""
    stands_for: str = ""
    """The service whose workers of a region these are (`regional`)."""

    @property
    def account(self) -> str:
        """The account that the user is alone in, or with the servers that stand for it
        (`accounts`)."""
        return _SHARED.get(self.name, self.stands_for or self.name)

    @property
    def inbox(self) -> Right:
        """The prefix that `chassis/bus/connection.py` gives to the inboxes of the service."""
        return Right(f"_INBOX_{self.name}.>", "its own inboxes, and nobody else's")


# --- what several users need ---------------------------------------------------------------------


def _verify() -> Right:
    return Right("$JS.API.STREAM.NAMES", "see at the start whether the init job has run")


def _audit(service: str) -> Right:
    return Right(f"audit.{service}", "who asked it for what; nothing that is written can go again")


def _hand_on(sender: str, purpose: str) -> tuple[Right, ...]:
    """Ask lifecycle under its own name: what it then gets is lifecycle's to judge
    (`lifecycle/authority.py`)."""
    return _in_regions(f"cmd.lifecycle.*.from.{sender}.*", purpose)


def _in_regions(subject: str, purpose: str) -> tuple[Right, ...]:
    """Queue commands for workers of no region, and of each one."""
    of_any = subject.replace("cmd.", "cmd.at.*.", 1)
    return Right(subject, purpose), Right(of_any, f"{purpose}, in a region")


def _ask_lifecycle(verb: str, purpose: str) -> tuple[Right, ...]:
    """Ask about a cluster, also where a region's workers are who reaches it."""
    subject = f"mesh.lifecycle.{verb}"
    return Right(subject, purpose), Right(f"{subject}.at.*", f"{purpose}, in a region")


def _part_of_operations(purpose: str) -> Right:
    """Records of operations on one cluster. What an operation id stands for is the gateway's."""
    return _store("ops", purpose, keys="*.*")


def _fetch(bucket: str, purpose: str, *, keys: str = ">") -> Right:
    """One key at a time, by direct read."""
    return Right(f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{keys}", purpose)


def _store(bucket: str, purpose: str, *, keys: str = ">") -> Right:
    """Create, update and delete: the last is a message too."""
    return Right(f"$KV.{bucket}.{keys}", purpose)


def _keys(bucket: str, purpose: str) -> Right:
    return Right(f"$JS.API.STREAM.INFO.KV_{bucket}", purpose)


def _read(stream: str, purpose: str) -> Right:
    """Read a whole stream in its order (`chassis/bus/reading.py`)."""
    return Right(f"$JS.API.DIRECT.GET.{stream}", purpose)


def _hear(subject: str) -> Right:
    """What a stream that is read tells of each new message."""
    return Right(streams.live(subject), "notice what is new in it")


def _objects(bucket: str, purpose: str) -> tuple[Right, ...]:
    """Objects of an object store: write, read by direct requests (`perf/adapters/objects.py`)."""
    return (
        Right(f"$O.{bucket}.>", f"{purpose}: write"),
        Right(f"$JS.API.DIRECT.GET.OBJ_{bucket}", f"{purpose}: the content"),
        Right(f"$JS.API.DIRECT.GET.OBJ_{bucket}.>", f"{purpose}: what there is"),
    )


def _consume(stream: str, consumer: str, purpose: str) -> tuple[Right, ...]:
    """Take messages from a durable consumer and end them."""
    return (
        Right(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", f"{purpose}: take"),
        Right(f"$JS.ACK.{stream}.{consumer}.>", f"{purpose}: heartbeat, hand back, end"),
    )


def _commands(service: str, region: str = "") -> tuple[Right, ...]:
    """Take the commands of a service, or of a region's workers of it: those and no others."""
    found: list[Right] = []
    for consumer in streams.worker_consumers(service, region):
        found += _consume("CMD", consumer, "its commands")
        if region:
            purpose = "see at the start whether the init job knows the region"
            found.append(Right(f"$JS.API.CONSUMER.INFO.CMD.{consumer}", purpose))
    return tuple(found)


def _served(service: str) -> tuple[Right, ...]:
    """Subscriptions of the service API (`chassis/bus/queries.py`)."""
    return (
        Right(f"mesh.{service}.*", "questions to this service"),
        Right(f"mesh.{service}.*.as.*", "questions that people ask under their own names"),
        Right(f"mesh.{service}.*.by.token", "questions of people who bring a token")
        if service == "gateway"
        else Right(f"mesh.{service}.*.for.gateway", "what the gateway asks on somebody's behalf"),
        *_found(service),
    )


def _found(service: str) -> tuple[Right, ...]:
    """What `nats micro` asks."""
    return (
        *(Right(f"$SRV.{verb}", "`nats micro`, to all services") for verb in _SERVICE_VERBS),
        Right(f"$SRV.*.mesh-{service}", "`nats micro`, to this service"),
        Right(f"$SRV.*.mesh-{service}.*", "`nats micro`, to this process"),
    )


_SERVICE_VERBS = ("PING", "INFO", "STATS")


_CTL_PERF = Right("ctl.perf.>", "start, report and stop together")


# --- the users -----------------------------------------------------------------------------------

ADMIN = User(
    name="admin",
    role="the init job, and people who mend something by hand",
    # Whoever may create streams can have every subject stored and delivered, so narrower rights
    # would only look safer. It has no right to listen to inboxes all the same.
    publish=(
        Right("$JS.API.>", "create and change streams and consumers, read and delete messages"),
        Right("$JS.ACK.>", "end messages in the place of a worker"),
        Right("$KV.>", "correct records"),
        Right("cmd.>", "send commands"),
        Right("evt.>", "tell events"),
        Right("dlq.>", "put a dead letter back"),
        Right("mesh.>", "ask services"),
        Right("$SRV.>", "find services"),
    ),
    subscribe=(
        Right("live.>", "follow events"),
        Right("$JS.EVENT.>", "follow advisories"),
    ),
)

GATEWAY = User(
    name="gateway",
    role="accepts operations and streams events; never reads a kubeconfig back",
    publish=(
        *_in_regions("cmd.*.*.mesh", "hand on operations that change the mesh"),
        *_in_regions("cmd.*.*.apply.*", "hand on operations that run side by side"),
        Right("$JS.API.STREAM.MSG.GET.CMD", "name the holder of a busy cluster"),
        Right("$JS.API.CONSUMER.INFO.CMD.*", "tell when no worker is connected; know the regions"),
        Right("evt.gateway.>", "tell refusals, waits and expiries"),
        Right("$JS.API.STREAM.INFO.EVT", "notice that the stream was made anew"),
        _read("EVT", "stream events to clients"),
        _store("ops", "what an operation id stands for"),
        _fetch("ops", "repeats of an operation id"),
        _read("KV_ops", "operations that other gateways accepted, or whose deadline passed"),
        _keys("ops", "which of them nobody has begun"),
        _store("credentials", "sealed kubeconfigs: write and delete", keys="operation.>"),
        Right("mesh.lifecycle.deregister", "forget a registered cluster"),
        *(
            Right(
                f"mesh.{question}.for.gateway", f"{purpose}, on behalf of whose token it has seen"
            )
            for question, purpose in (
                ("lifecycle.cancel", "end an operation"),
                ("lifecycle.retry", "put a dead letter back"),
                ("lifecycle.rolloutpause", "keep a rollout from its next step"),
                ("lifecycle.rolloutresume", "let it go on"),
                ("lifecycle.rolloutabort", "stop it"),
                ("lifecycle.rolloutback", "bring its clusters back"),
                ("perf.run", "start a performance run"),
                ("perf.cancel", "end one"),
                ("topology.heal", "put back what drifted"),
                ("translator.translate", "tell what a manifest would become"),
            )
        ),
        _fetch("clusters", "list registered clusters"),
        _keys("clusters", "list registered clusters"),
        _fetch("catalog", "operations that workers advertise"),
        _keys("catalog", "operations that workers advertise"),
        _store("delivery", "up to where clients have got the events"),
        _fetch("delivery", "go on where the last gateway stopped"),
        _fetch("definitions", "the kinds of an Istio version, for Meshery's registry"),
        _store("leases", "one replica at a time registers at Meshery", keys="gateway.meshery"),
        _fetch("leases", "whether another one does", keys="gateway.meshery"),
        _audit("gateway"),
        _verify(),
    ),
    subscribe=(
        *_served("gateway"),
        Right(streams.live("$KV.catalog.>"), "notice new operations at once"),
        # Also to wait for the end of a call that answers when the work is done.
        _hear("evt.*.*.*"),
    ),
    answers=True,
)

_LIFECYCLE = (
    Right("evt.lifecycle.>", "progress and results"),
    _part_of_operations("state of operations"),
    _fetch("ops", "state of operations, cancellation"),
    _store("leases", "hold a cluster, or a source that is followed", keys="mesh.>"),
    _fetch("leases", "who holds a cluster"),
    _store("rollouts", "where rollouts stand, and commands that wait for their turn"),
    _fetch("rollouts", "rollouts whose conductor died"),
    _store("roots", "roots of meshes of several clusters, their keys sealed to itself"),
    _fetch("roots", "the root of a mesh that another cluster joins"),
    Right("mesh.perf.run", "the performance gate of a rollout: its load tests"),
    Right("mesh.perf.cancel", "end one that nobody waits for any more"),
    Right("mesh.perf.status", "whether they have ended"),
    Right("mesh.perf.results", "whether the test's objective held"),
    Right("mesh.perf.compare", "whether they do worse than before"),
    _store("intents", "what was applied where"),
    _fetch("intents", "what was applied where"),
    _read("KV_intents", "what was applied of many objects, by one question"),
    _keys("intents", "which objects it has applied, under a namespace or of a kind"),
    _store("following", "sources that were applied, whose translation follows the cluster"),
    _fetch("following", "whether a following is of a source that was applied"),
    _store("definitions", "the definitions of Istio's kinds, for the translator"),
    _fetch("definitions", "whether they are there already"),
    _fetch("credentials", "sealed kubeconfigs"),
    _store("credentials", "forget the kubeconfig of an ended operation", keys="operation.>"),
    _store("credentials", "keep one that a cluster has accepted", keys="cluster.*"),
    _store("credentials", "the one to watch it with", keys="watch.*"),
    _store("clusters", "registered clusters"),
    _fetch("clusters", "with which credential a cluster is registered"),
    _keys("clusters", "how many clusters somebody has registered"),
    Right("mesh.translator.upgrade", "what an upgrade would break, before it begins"),
    _audit("lifecycle"),
    _verify(),
)
"""What it takes to carry a command out, whatever its region."""

LIFECYCLE = User(
    name="lifecycle",
    role="carries out the commands for clusters, and moves dead letters",
    publish=(
        *_commands("lifecycle"),
        *_consume("ADV", "dlq-mover", "advisories of commands that were given up"),
        Right("$JS.API.STREAM.MSG.GET.CMD", "read a command that was given up"),
        Right("$JS.API.STREAM.MSG.DELETE.CMD", "free its slot"),
        Right("dlq.*", "dead letters, of all services' commands"),
        Right("$JS.API.STREAM.MSG.GET.DLQ", "a dead letter that somebody wants put back"),
        *_in_regions(
            "cmd.lifecycle.>", "put it back, and queue commands that waited for their turn"
        ),
        _store("leases", "conduct a rollout", keys="rollout.*"),
        _keys("rollouts", "rollouts that nobody conducts"),
        Right("mesh.topology.metrics", "the gate of a rollout: errors and response times"),
        Right("mesh.topology.proxies", "the gate of a rollout: proxies in sync"),
        _keys("following", "the sources of a cluster that is forgotten"),
        _store("catalog", "advertise its operations", keys="lifecycle"),
        *_LIFECYCLE,
    ),
    subscribe=_served("lifecycle"),
    answers=True,
)

TRANSLATOR = User(
    name="translator",
    role="translates requests and hands them to lifecycle; never sees a kubeconfig",
    publish=(
        *_consume("CMD", "translator", "its commands"),
        *_hand_on("translator", "hand on what it translated"),
        *_ask_lifecycle("facts", "what a cluster has that a translation depends on"),
        *_ask_lifecycle("dryrun", "what a cluster would say to translated objects"),
        Right("mesh.lifecycle.forget", "the kubeconfig of an operation that ended here"),
        Right("mesh.topology.vet", "what the running pods say about a mesh"),
        _fetch("following", "the source that it is to translate again; sealed to it"),
        Right("dlq.translator", "commands that it cannot read"),
        Right("evt.translator.>", "reports and results"),
        _part_of_operations("state of operations that end here"),
        _fetch("ops", "state of operations"),
        _store("catalog", "advertise its operations", keys="translator"),
        _fetch("definitions", "the definitions that it holds objects against"),
        _keys("definitions", "of which versions of Istio there are some"),
        _audit("translator"),
        _verify(),
    ),
    subscribe=(
        *_served("translator"),
        Right(streams.live("$KV.definitions.>"), "notice those of another version at once"),
    ),
    answers=True,
)

_PERF = (
    *_hand_on("perf", "apply a change between two runs, and roll it back"),
    *_ask_lifecycle("facts", "the mesh's configuration, before and after"),
    Right("mesh.lifecycle.forget", "the kubeconfig of an ended operation"),
    Right("mesh.topology.metrics", "what the cluster's Prometheus says about a run"),
    Right("ctl.perf.>", "start together, report each second, stop together"),
    Right("dlq.perf", "commands that it cannot read"),
    Right("evt.perf.>", "progress and results"),
    _part_of_operations("state of operations"),
    _fetch("ops", "state of operations, also of the changes that it asked for"),
    _store("perf", "state of runs"),
    _fetch("perf", "state of runs"),
    _keys("perf", "list runs"),
    _store("baselines", "runs to compare with"),
    _fetch("baselines", "runs to compare with"),
    _keys("baselines", "list baselines"),
    *_objects("perf", "results"),
    _audit("perf"),
    _verify(),
)
"""What it takes to carry out a run, whatever its region."""

PERF = User(
    name="perf",
    role="runs load tests and compares them; never sees a kubeconfig",
    publish=(
        *_commands("perf"),
        Right("cmd.perf.*.*", "cut a run into parts"),
        *_in_regions("cmd.perf.*.apply.*", "queue a run that was asked for over the service API"),
        Right("$JS.API.CONSUMER.INFO.CMD.*", "know the regions that such a run may name"),
        _store("catalog", "advertise its operations", keys="perf"),
        *_PERF,
    ),
    subscribe=(*_served("perf"), _CTL_PERF),
    answers=True,
)


TOPOLOGY = User(
    name="topology",
    role="watches the registered clusters and tells what it sees; changes nothing itself",
    publish=(
        Right("evt.topology.>", "changes of the graph, findings and drift"),
        Right("$JS.API.DIRECT.GET.TOPO.evt.topology.>", "where the last owner stopped"),
        _read("TOPO", "follow clusters that other replicas own, and the past"),
        Right("compliance.*.*", "how compliance of its clusters goes"),
        _read("COMPLIANCE", "how it went"),
        _store("leases", "own a cluster's watches", keys="watch.>"),
        _fetch("leases", "who owns a cluster's watches"),
        _read("KV_leases", "which replicas there are, and what each of them owns"),
        _fetch("clusters", "registered clusters"),
        _keys("clusters", "registered clusters"),
        _fetch("credentials", "sealed kubeconfigs to watch by, and no other", keys="watch.*"),
        _fetch("intents", "what was applied, before a drift is told"),
        _read("KV_intents", "what was applied, and what is applied next"),
        *_hand_on("topology", "put back what drifted"),
        _read("KV_following", "what translations depend on; the sources are sealed to another"),
        Right(
            "cmd.translator.*.from.topology.*",
            "have a source translated again, as it was sent (`translator/following.py`)",
        ),
        Right("ctl.topology.*.*", "ask the replica that owns a cluster, also for the cluster"),
        Right("$JS.API.STREAM.INFO.EVT", "where the console's browsers begin to listen"),
        _read("EVT", "tell the console's browsers how operations go on"),
        Right("$JS.API.STREAM.LIST", "the console's view of the bus: what streams hold"),
        *(
            Right(f"$JS.API.CONSUMER.LIST.{stream}", "what waits for workers, for the console")
            for stream in ("CMD", "ADV")
        ),
        Right("$JS.API.CONSUMER.INFO.CMD.*", "know the regions, whose workers repair their own"),
        _read("DLQ", "dead letters, for the console: their bodies are sealed to others"),
        Right("mesh.gateway.operations", "the console's history of operations"),
        Right("mesh.gateway.events", "all events of one, for the console"),
        Right("mesh.gateway.clusters", "which clusters are registered, for the console"),
        *(
            Right(f"mesh.gateway.{verb}.by.token", f"{purpose}, with the token of whoever asks")
            for verb, purpose in (
                ("whoami", "who somebody at the console is"),
                ("apply", "carry his operation to the gateway"),
                ("ask", "carry what he asks of another service there"),
            )
        ),
        Right("mesh.lifecycle.rollout", "where rollouts stand, for the console"),
        Right("mesh.lifecycle.multicluster", "the same of meshes of several clusters"),
        Right("mesh.perf.status", "the console's runs, as they go on"),
        Right("mesh.perf.results", "what a run measured, for the console"),
        Right("mesh.perf.compare", "runs beside others, for the console"),
        Right("mesh.perf.baselines", "what runs are held against, for the console"),
        _audit("topology"),
        _verify(),
    ),
    subscribe=(
        *_served("topology"),
        Right("ctl.topology.*.*", "questions about the clusters that it owns"),
        Right(streams.live("$KV.clusters.>"), "notice new clusters at once"),
        *(_hear(f"$KV.{bucket}.>") for bucket in ("leases", "intents", "following")),
        _hear("evt.topology.>"),
        _hear("evt.*.*.*"),
    ),
    answers=True,
)


def _looks() -> Iterable[Right]:
    """The questions of the nats CLI about streams and consumers; no content."""
    yield Right("$JS.API.INFO", "`nats account info`, `nats server check jetstream`")
    yield Right("$JS.API.STREAM.NAMES", "`nats stream ls --names`")
    yield Right("$JS.API.STREAM.LIST", "`nats stream report`")
    for stream in _STREAMS:
        # Even the keys of the credentials are nobody's business.
        if stream != "KV_credentials":
            yield Right(
                f"$JS.API.STREAM.INFO.{stream}",
                f"`nats stream info`, `nats stream subjects {stream}`",
            )
    yield Right("$JS.API.CONSUMER.NAMES.*", "`nats consumer ls`")
    yield Right("$JS.API.CONSUMER.LIST.*", "`nats consumer report`")
    yield Right("$JS.API.CONSUMER.INFO.*.*", "`nats consumer info`")


def _reads() -> Iterable[Right]:
    """Streams of which the nats CLI may show single messages: none with credentials or manifests.

    To page through one takes a consumer, which is `admin`'s.
    """
    audits = map(streams.audit_stream, streams.AUDITED)
    for stream in ("EVT", "TOPO", "DLQ", *audits, "OBJ_perf"):
        yield Right(f"$JS.API.STREAM.MSG.GET.{stream}", f"`nats stream get {stream}`")
        yield Right(f"$JS.API.DIRECT.GET.{stream}", f"`nats stream get {stream}`")
        yield Right(f"$JS.API.DIRECT.GET.{stream}.>", f"`nats stream get {stream} --last-for`")
    for bucket in _READABLE_BUCKETS:
        yield _fetch(bucket, f"`nats kv get {bucket}`")


_STREAMS = [stream.name for stream in streams.streams(lease_ttl=timedelta(seconds=1))]
_READABLE_BUCKETS = ("ops", "catalog", "clusters", "leases", "perf", "baselines")

OPERATOR = User(
    name="operator",
    role="a person with the nats CLI (`--inbox-prefix _INBOX_operator`)",
    publish=(
        Right("cmd.>", "send a command by hand"),
        Right("mesh.>", "`nats req mesh.<service>.<verb>`"),
        Right("$SRV.>", "`nats micro ls`"),
        Right("_INBOX_operator.>", "`nats server check connection`, to itself"),
        Right("$SYS.REQ.USER.INFO", "`nats account info`, about itself"),
        *_looks(),
        *_reads(),
    ),
    subscribe=(
        Right("live.evt.>", "`nats sub 'live.evt.>'`"),
        Right("$JS.EVENT.ADVISORY.>", "`nats events`"),
    ),
)

SYSTEM = User(
    name="system",
    role="a person or a probe that asks the server about itself",
    publish=(
        Right("$SYS.REQ.SERVER.PING", "`nats server ls`"),
        Right("$SYS.REQ.SERVER.PING.*", "`nats server report`"),
        *(
            Right(f"$SYS.REQ.SERVER.*.{page}", "`nats server info`, `nats server check`")
            for page in ("VARZ", "HEALTHZ", "JSZ", "CONNZ", "STATSZ")
        ),
        Right("$SYS.REQ.ACCOUNT.PING.*", "`nats server report accounts`"),
    ),
    subscribe=(Right("$SYS.SERVER.>", "`nats server watch`"),),
)


def person(identity: Identity, policy: Policy) -> User:
    """The NATS user of somebody in the policy's `people`.

    He may ask under his own name only, and follow the events of clusters whose events the policy
    shows him all. Of his own operations alone he hears by StreamEvents and from
    `mesh.gateway.operations`: subjects do not tell whose an operation is.
    """
    token = subjects.token(identity.name)
    return User(
        name=f"person_{token}",
        role=f"{identity.name}, who asks under this name",
        publish=(Right(f"mesh.*.*.as.{token}", "`nats req mesh.<service>.<verb>.as.<name>`"),),
        subscribe=tuple(
            Right(f"live.evt.*.{cluster}.*", "events of a cluster")
            for cluster in _shown(identity, policy)
        ),
    )


def people(policy: Policy) -> tuple[User, ...]:
    """A user for each person of the policy."""
    return tuple(person(identity, policy) for identity in policy.identities())


def _shown(identity: Identity, policy: Policy) -> Iterable[str]:
    """Clusters whose events it may see all, as tokens of a subject; patterns are left out."""
    clusters = {
        cluster
        for rule in policy.rules_of(identity)
        if rule.events is Sight.ALL
        for cluster in rule.clusters
        if cluster == "*" or cluster == subjects.token(cluster)
    }
    return ["*"] if "*" in clusters else sorted(clusters)


def regional(service: str, region: str) -> User:
    """A region's workers of a service, and the region's server, which shows their key to the others
    (`python -m deploy.nats make --region`): what it takes to carry out the commands for clusters of
    that region. Dead letters, rollouts and what people ask are for workers of no region."""
    carries_out = {
        "lifecycle": (Right("dlq.lifecycle", "commands that it cannot read"), *_LIFECYCLE),
        "perf": (Right(f"cmd.at.{region}.perf.*.*", "cut a run into parts"), *_PERF),
    }
    name = subjects.consumer(service, region)
    return User(
        name=name,
        role=f"{service}'s workers in the region {region}, and the server that they are behind",
        stands_for=service,
        publish=(
            *_commands(service, region),
            *carries_out[service],
            # Only workers' own connections are let answer what they were asked; a server hands on.
            Right(f"_INBOX_{name}.>", "answers to what the region's workers ask each other"),
            Right("_R_.>", f"answers to what {service} was asked; their subjects are random"),
        ),
        subscribe=(
            Right(f"mesh.{service}.*.at.{region}", "questions about the region's clusters"),
            *_found(service),
            *((_CTL_PERF,) if service == "perf" else ()),
        ),
        answers=True,
    )


USERS = (ADMIN, GATEWAY, LIFECYCLE, TRANSLATOR, PERF, TOPOLOGY, OPERATOR, SYSTEM)
