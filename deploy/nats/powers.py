"""What each user's key can make happen, beyond what its rights on NATS say at first sight.

A right to publish is worth what the receiver makes of the message. This is the table of both, for
whoever asks what a stolen key is worth; `tests/real/test_powers.py` tries out every cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.chassis.bus import subjects
from services.chassis.bus.streams import REGIONAL

REGION = "east"
USERS = (
    *("gateway", "lifecycle", "translator", "perf", "topology", "operator"),
    *(subjects.consumer(service, REGION) for service in REGIONAL),
)
"""The columns; the last are the keys of a region's workers. `admin` may do everything, and `system`
nothing of this."""


class Outcome(StrEnum):
    """What becomes of an attempt."""

    HAPPENS = "yes"
    NATS = "NATS refuses"
    LIFECYCLE = "lifecycle refuses"
    GATEWAY = "the gateway refuses"


@dataclass(frozen=True, slots=True)
class Power:
    """One thing that somebody with a key may try."""

    name: str
    what: str
    outcomes: Mapping[str, Outcome]
    """By user."""


def _power(
    name: str, what: str, *, happens: str = "", lifecycle: str = "", gateway: str = ""
) -> Power:
    """For users that are named in none of the three, NATS refuses."""
    outcomes = dict.fromkeys(USERS, Outcome.NATS)
    outcomes |= dict.fromkeys(gateway.split(), Outcome.GATEWAY)
    outcomes |= dict.fromkeys(lifecycle.split(), Outcome.LIFECYCLE)
    outcomes |= dict.fromkeys(happens.split(), Outcome.HAPPENS)
    return Power(name, what, outcomes)


POWERS = (
    _power(
        "rights by a command",
        "a `manifest` with a ClusterRoleBinding, unsigned, on `cmd.lifecycle.<cluster>.apply.<op>`",
        happens="operator gateway lifecycle",
    ),
    _power(
        "rights by a command of the mesh",
        "the same on `cmd.lifecycle.<cluster>.mesh`",
        happens="operator gateway lifecycle",
    ),
    *(
        _power(
            f"rights under the name of {sender}",
            f"the same on `cmd.lifecycle.<cluster>.from.{sender}.<op>`",
            lifecycle=f"{sender} operator lifecycle{' perf_at_east' if sender == 'perf' else ''}",
        )
        for sender in ("translator", "perf", "topology")
    ),
    _power(
        "a command for others",
        "takes what waits for lifecycle's workers of no region, sealed as it is",
        happens="lifecycle",
    ),
    _power(
        "rights in a granted plan",
        "a plan with a ClusterRoleBinding, with the grant of a `custom` whose body does not name "
        "it, under the translator's name",
        lifecycle="translator operator lifecycle",
    ),
    _power(
        "a granted plan",
        "a plan with just what the signed body has, with its grant, under the translator's name",
        happens="translator operator lifecycle",
    ),
    _power(
        "a grant for another cluster",
        "a plan and its grant, for another registered cluster",
        lifecycle="translator operator lifecycle",
    ),
    _power(
        "a grant for another operation",
        "a plan and its grant, under another operation's id",
        lifecycle="translator operator lifecycle",
    ),
    _power(
        "a grant for another body",
        "a ClusterRoleBinding that the body names, with the grant of another body",
        lifecycle="translator operator lifecycle",
    ),
    _power(
        "rights in a gate",
        "a gate's change with a ClusterRoleBinding, with the gate's grant, under perf's name",
        lifecycle="perf operator lifecycle perf_at_east",
    ),
    _power(
        "a repair of something else",
        "a repair whose content was never applied, under topology's name",
        lifecycle="topology operator lifecycle",
    ),
    _power(
        "rights in a following",
        "a plan with a ClusterRoleBinding that says to come of a followed source, with the "
        "source's grant, under the translator's name",
        lifecycle="translator operator lifecycle",
    ),
    _power(
        "somebody's traffic in a following",
        "a VirtualService that says to come of a followed source, for a Service that the source "
        "does not name",
        lifecycle="translator operator lifecycle",
    ),
    _power(
        "a new translation",
        "`cmd.translator.<cluster>.from.topology.<op>`: a source that its owner sent is translated "
        "again, by facts that lifecycle reads",
        happens="topology operator",
    ),
    _power(
        "a foreign credential",
        "`mesh.lifecycle.facts` through the credential of somebody's operation, without its grant",
        lifecycle="translator perf operator perf_at_east",
    ),
    _power(
        "a cluster's metrics",
        "`mesh.topology.metrics`: any series that the Prometheus of a watched cluster has",
        happens="lifecycle perf operator perf_at_east",
    ),
    _power(
        "a load test",
        "`mesh.perf.run`: load on any target that perf allows",
        happens="lifecycle operator lifecycle_at_east",
    ),
    _power(
        "an operation of nobody's",
        "`mesh.gateway.apply.by.token`, as the console asks, without somebody's living token",
        gateway="topology operator",
    ),
    _power(
        "an operation of the operator's",
        "`mesh.gateway.apply`, which is the operator's",
        happens="operator",
    ),
    _power(
        "a question in somebody's name",
        "`mesh.lifecycle.cancel.for.gateway`, in the name of anybody",
        happens="gateway operator",
    ),
    _power(
        "the way back of a rollout in somebody's name",
        "`mesh.lifecycle.rolloutback.for.gateway`, in the name of anybody; so are "
        "`rolloutpause`, `rolloutresume` and `rolloutabort`",
        happens="gateway operator",
    ),
    _power(
        "what an operation id stands for",
        "a forged record `ops/<op>`",
        happens="gateway",
    ),
    _power(
        "the end of an operation",
        "a forged record `ops/<op>.<cluster>`: a lie about an end, no change of a cluster",
        happens="gateway lifecycle translator perf lifecycle_at_east perf_at_east",
    ),
    _power(
        "an operation's credential",
        "another value of `credentials/operation.<op>.<cluster>`",
        happens="gateway lifecycle lifecycle_at_east",
    ),
    _power(
        "a registered credential",
        "another value of `credentials/cluster.<cluster>`",
        happens="lifecycle lifecycle_at_east",
    ),
    _power(
        "what is followed",
        "a record in `following`, which lets the translator bring a source's translation again",
        happens="lifecycle lifecycle_at_east",
    ),
    _power(
        "where a rollout stands",
        "a record in `rollouts`, which gives a cluster's signed command another step of its own",
        happens="lifecycle lifecycle_at_east",
    ),
    _power(
        "a mesh's root",
        "a record in `roots`: a root of somebody's own, which signs for clusters that join a mesh "
        "from then on; those that are in it refuse another root",
        happens="lifecycle lifecycle_at_east",
    ),
    _power(
        "what counts as valid",
        "other definitions of Istio's kinds in `definitions`, by which the translator would find "
        "nothing wrong; the API server has its own",
        happens="lifecycle lifecycle_at_east",
    ),
    _power(
        "how compliance went",
        "a message in COMPLIANCE: a lie about how compliance of a cluster was, which changes "
        "nothing",
        happens="topology",
    ),
    _power(
        "what counts as applied",
        "a record in `intents`, by which topology could have anything restored",
        happens="lifecycle lifecycle_at_east",
    ),
)
