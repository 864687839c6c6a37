"""Translates a source again that was applied before, since something it depended on has changed.

The request of then is run once more, for the one source alone; what comes of it goes to lifecycle
as any plan does. Only objects that were made out of the source are in it: all else of the request
is as its owner sent it, and stays so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from services.chassis.errors import InvalidMessage, UnknownOperation
from services.chassis.kube.objects import annotations_of
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    Command,
    Follow,
    Followed,
    FollowMode,
    FollowRequest,
    Plan,
    SlotKind,
    Step,
    StepKind,
    Verb,
    is_configuration,
)
from services.chassis.messages.following import (
    FOLLOW,
    KIND,
    TRANSLATED_FROM,
    changed,
    followed_operation,
    followed_revision,
)
from services.chassis.operations.completion import Result
from services.chassis.reading.jsons import read_json
from services.translator.work import Operation, Outcome, Work

_MOST_REASONS = 8

ADVERTISED = AdvertisedOperation(
    # Topology asks for it; people send the source again.
    name=KIND,
    description="A source translated again",
    category=Category.CONFIGURE,
    slot=SlotKind.APPLY,
    is_listed=False,
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A source as lifecycle keeps it."""

    record: Followed
    revision: int
    sent: Command
    """The command that brought it, with its body."""


Find = Callable[[str, str], Awaitable[Kept | None]]
"""The source of this cluster, by its name; None when nobody follows it any more."""


async def authorize(command: Command, sender: str) -> None:
    """Lets topology ask for nothing but a source's new translation, and nobody else for that.

    Raises `UnknownOperation`, or `InvalidMessage` for what no honest service sends.
    """
    if not sender:
        if command.kind == KIND:
            raise UnknownOperation("only topology asks for a source to be followed")
        return
    if sender != "topology" or command.kind != KIND or not followed_operation(command.operation):
        raise InvalidMessage(f"{sender[:64]} hands on nothing of the kind to translator")
    if command.verb is not Verb.APPLY or command.plan is not None or command.credential:
        raise InvalidMessage("a source is translated again as it was sent, and as registered")


def following(operations: Mapping[str, Operation], find: Find) -> Operation:
    """The operation `follow`, over those that brought the sources."""

    async def run(work: Work) -> Outcome:
        asked = _asked(work.command)
        kept = await find(work.command.cluster, asked.source)
        if kept is None or not _is_meant(kept, work.command):
            return Result(f"{asked.source} needs no following: it was sent anew or deleted since")
        brought = operations.get(kept.sent.kind)
        if brought is None:
            raise UnknownOperation(
                f"translator offers no operation {kept.sent.kind[:64]!r} any more"
            )
        command = kept.sent.model_copy(
            update={
                "operation": work.command.operation,
                "cluster": work.command.cluster,
                "credential": "",
                "deadline": work.command.deadline,
            }
        )
        # The words of the request's own translation are told as those of this operation.
        again = dataclasses.replace(work, command=command, only=asked.source)
        plan = await brought.run(again)
        if not isinstance(plan, Plan):
            raise UnknownOperation(f"{asked.source} brings no plan any more")
        return _planned(work, kept.record, plan, asked)

    return Operation(ADVERTISED, run, lambda command: _doing(_asked(command)))


def _is_meant(kept: Kept, command: Command) -> bool:
    return kept.revision == followed_revision(command.operation)


def _planned(work: Work, record: Followed, plan: Plan, asked: FollowRequest) -> Plan:
    """The part of a new translation that is the source's, or none of it where it is only told."""
    follow = next((one for one in plan.follow if one.source == record.source), None)
    now = follow.facts if follow is not None else record.facts
    reasons = changed(record.facts, now)
    why = _listed(reasons) if reasons else "nothing that it depends on has changed"
    steps = [own for step in plan.steps if (own := _own(step)) is not None]
    is_applied = record.mode is FollowMode.APPLY and bool(steps)
    work.progress.note(f"Followed: {why}", f"Operation {record.operation} sent {record.source}")
    return Plan(
        steps=steps if is_applied else [],
        summary=f"{record.source} {_done(record, steps)}: {why}",
        details="" if is_applied else "Nothing was changed.",
        failing=_doing(asked),
        follow=[Follow(source=record.source, mode=record.mode, facts=now)],
    )


def _done(record: Followed, steps: Sequence[Step]) -> str:
    if record.mode is not FollowMode.APPLY:
        return f"would be translated anew ({FOLLOW}: {record.mode}); apply it again"
    return "was translated again and deployed successfully" if steps else "needs no object"


def _own(step: Step) -> Step | None:
    """What a step has that was made out of a source."""
    if step.kind is not StepKind.MANIFEST or step.is_deletion:
        return None
    made = [
        obj
        for obj in step.objects
        if is_configuration(obj) and annotations_of(obj).get(TRANSLATED_FROM)
    ]
    if not made and not step.obsolete:
        return None
    return step.model_copy(update={"objects": made})


def _doing(asked: FollowRequest) -> str:
    which = f"attempt {asked.attempt} of {asked.attempts}"
    if asked.attempt >= asked.attempts:
        which += "; it is given up until something changes, or the source is applied again"
    return f"translating {asked.source} again ({which})"


def _listed(reasons: Sequence[str]) -> str:
    more = len(reasons) - _MOST_REASONS
    return ", ".join([*reasons[:_MOST_REASONS], *([f"and {more} more"] if more > 0 else [])])


def _asked(command: Command) -> FollowRequest:
    try:
        return FollowRequest.model_validate(read_json(command.body))
    except (ValueError, ValidationError):
        raise InvalidMessage("the body is no request to follow a source") from None
