"""Decides what a rollout does next, from where it stands and what was seen; does none of it.

A wave goes through its stages together: all its clusters are prepared before any is judged, and all
are judged before any gives up its old revision. What fails, or is not wanted any more, stops the
rollout and brings the clusters of the open wave back; waves that are done stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.chassis.errors import (
    DeadlineExpired,
    DisruptionDenied,
    GateBroken,
    NotReadyInTime,
    OperationCancelled,
    RolloutStopped,
    StillDeleting,
)
from services.chassis.messages import ErrorReport, Severity
from services.chassis.operations.progress import masked
from services.chassis.telemetry.redaction import redacted_text
from services.lifecycle.rollouts.options import RolloutOptions, planned_waves
from services.lifecycle.rollouts.records import (
    EVERYWHERE,
    MESHES,
    MOST_JUDGED,
    Fate,
    Note,
    PartRecord,
    RolloutPart,
    RolloutRecord,
    RolloutStep,
    Stage,
    WishRecord,
)

_MOST_TOLD = 5
"""Clusters that one event names: each cluster of a wave gets it."""
MOST_TRIES = 3
"""Of one step on one cluster, where its error may pass by itself."""
_MAY_PASS_ON_THE_WAY_BACK = frozenset(
    error.code for error in (DisruptionDenied, NotReadyInTime, StillDeleting, OperationCancelled)
)
"""Beside errors that may pass by themselves. A worker of an earlier version ends a way back that
somebody cancels: to cancel is to go back, and that goes on."""
_ROOM = 100_000
"""Characters that the namespaces of all clusters take together in a record, their reasons, and the
texts of one decision's notes: a record has to fit into a message."""
_LEAST_TEXT = 120
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(minutes=5)
"""Between tries of a way back; each is twice the one before it."""
_ENDS_BEFORE = timedelta(hours=2)
"""What a rollout that takes too long leaves of its time for the way back, beside `backTimeout`."""

_COURSES: Mapping[str, tuple[Stage, ...]] = {
    "istio": (
        *(Stage.PRECHECK, Stage.CANARY, Stage.MOVE, Stage.GATE),
        *(Stage.SWITCH, Stage.SOAK, Stage.REMOVE),
    ),
    "manifest": (Stage.PRECHECK, Stage.APPLY, Stage.GATE, Stage.SOAK),
    "mesh": (
        *(Stage.PRECHECK, Stage.COMPARE, Stage.TRUST, Stage.PLANE, Stage.REMOTE),
        *(Stage.ACCOUNT, Stage.LINK, Stage.CROSS, Stage.CHECK, Stage.RETIRE),
    ),
    "mesh-leave": (Stage.PRECHECK, Stage.UNLINK, Stage.LEAVE),
    "ambient": (Stage.PRECHECK, Stage.APPLY, Stage.MOVE, Stage.REMOVE),
    "ambient-report": (Stage.PRECHECK,),
}
_LOOKING = frozenset({RolloutStep.PRECHECK, RolloutStep.BASELINE, RolloutStep.COMPARE})
"""Steps that write nothing to their cluster."""
_STEP_OF = {stage: RolloutStep(stage.value) for stage in Stage if stage.value in list(RolloutStep)}
JUDGED = frozenset({Stage.GATE, Stage.SOAK})
"""Stages in which the gate is asked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says about the open wave now; `broken` is why it does not hold, by cluster."""

    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a decision goes by, beside the record."""

    now: datetime
    parts: Mapping[str, PartRecord] = field(default_factory=dict)
    """Of the clusters that have come."""
    ended: Mapping[str, ErrorReport | None] = field(default_factory=dict)
    """Clusters on which the operation has ended, with its error."""
    cancelled: frozenset[str] = frozenset()
    """Clusters on which somebody has cancelled the operation."""
    wish: WishRecord = field(default_factory=WishRecord)
    verdict: Verdict | None = None


def decide(record: RolloutRecord, options: RolloutOptions, seen: Seen) -> RolloutRecord:
    """The record as it is to be; the same where there is nothing to decide."""
    if record.is_over:
        return record
    course = _Course(record, options, seen, parts=dict(record.parts))
    course.absorb()
    course.obey()
    course.go_on()
    decided = course.record.model_copy(update={"parts": course.parts})
    if decided == record:
        return record
    return decided.model_copy(update={"notes": course.notes, "told": course.told})


def _course(options: RolloutOptions) -> tuple[Stage, ...]:
    """The stages of a wave."""
    course = _COURSES[options.what]
    if options.gate.performance is None:
        return course
    first, gate = course.index(Stage.PRECHECK) + 1, course.index(Stage.GATE)
    return (*course[:first], Stage.BASELINE, *course[first:gate], Stage.PROVE, *course[gate:])


def judged_namespaces(names: Sequence[str], *, clusters: int = 1) -> list[str]:
    """What the gate is asked about: many namespaces are all of them, so that a record of a large
    fleet stays small."""
    is_short = sum(len(name) + len('"",') for name in names) <= _ROOM // max(1, clusters)
    return list(names) if len(names) <= MOST_JUDGED and is_short else [EVERYWHERE]


@dataclass(slots=True)
class _Course:
    """One decision in the making."""

    record: RolloutRecord
    options: RolloutOptions
    seen: Seen
    parts: dict[str, RolloutPart]
    notes: list[Note] = field(default_factory=list)

    @property
    def told(self) -> int:
        """Number of the last note."""
        return self.notes[-1].number if self.notes else self.record.told

    # --- what has come --------------------------------------------------------------------------

    def absorb(self) -> None:
        """Takes the answers to open steps, and ends of the operation that somebody else wrote."""
        for cluster, part in list(self.parts.items()):
            answer = self.seen.parts.get(cluster)
            if cluster in self.seen.ended and not part.is_told:
                self._ended(part, self.seen.ended[cluster])
            elif part.is_open and answer is not None and answer.number == part.number:
                self._answered(part, answer)

    def _ended(self, part: RolloutPart, error: ErrorReport | None) -> None:
        was_given = part.step is RolloutStep.END
        self._change(part, is_told=True, is_open=False)
        if was_given or part.fate is not None:
            return
        reason = masked(error or _report(RolloutStopped("the operation ended before its time")))
        self._change(part, fate=Fate.FAILED, reason=reason)
        if part.step is not None:
            self._stop(reason, f"{_named(part)}: {reason.summary}")
        elif self.record.stage is not Stage.GATHERING:
            self._note(f"{_named(part)} takes no part: {reason.summary}", severity=Severity.WARN)

    def _answered(self, part: RolloutPart, answer: PartRecord) -> None:
        if answer.is_done:
            names = judged_namespaces(answer.namespaces, clusters=len(self.parts))
            names = names or part.namespaces
            self._change(
                part,
                is_open=False,
                namespaces=names,
                left=answer.left,
                failing_since=None,
                found=answer.found,
            )
            if answer.left:
                return
            if part.step is RolloutStep.BACK:
                self._change(part, fate=Fate.ROLLED_BACK)
            elif part.step is RolloutStep.REMOVE:
                self._change(part, fate=Fate.DONE)
            elif part.step is RolloutStep.PRECHECK and answer.is_there:
                self._change(part, fate=Fate.DONE)
                self._note(f"{_named(part)} has {self.record.title} already", cluster=part.cluster)
            return
        error = masked(answer.error or _report(RolloutStopped("the step failed without a word")))
        if part.step is RolloutStep.BACK:
            self._held_up(part, error, may_pass=answer.is_retryable)
            return
        is_over = self.record.reason is not None or part.is_leaving
        if answer.is_retryable and part.tries < MOST_TRIES and not is_over:
            self._give(part, part.step or RolloutStep.PRECHECK, tries=part.tries + 1)
            self._note(
                f"{part.step} of {_named(part)} is tried once more: {error.summary}",
                cluster=part.cluster,
                severity=Severity.WARN,
            )
            return
        self._change(part, is_open=False)
        if part.step is RolloutStep.REMOVE:
            self._change(part, fate=Fate.FAILED, reason=error)
        if not is_over:
            self._change(part, reason=error)
            self._stop(error, f"{part.step} failed on {_named(part)}: {error.summary}")

    def _held_up(self, part: RolloutPart, error: ErrorReport, *, may_pass: bool) -> None:
        """A way back that failed waits and is tried again, as long as its error may pass and the
        time for that is not over."""
        now, within = self.seen.now, timedelta(seconds=self.options.back_timeout_s)
        since = part.failing_since or now
        may_pass = may_pass or error.code in _MAY_PASS_ON_THE_WAY_BACK
        if may_pass and now - since < within:
            pause = min(_FIRST_PAUSE * 2 ** min(part.tries - 1, 10), _LONGEST_PAUSE)
            self._change(part, is_open=False, failing_since=since, again_at=now + pause)
            until = f"again and again until {since + within:%H:%M} UTC"
            summary = f"{_named(part)} does not get back yet, and tries {until}: {error.summary}"
        else:
            self._change(part, is_open=False, fate=Fate.FAILED, reason=error)
            summary = f"{_named(part)} could not be rolled back: {error.summary}"
        self._note(summary, error.remedy, cluster=part.cluster, severity=Severity.WARN)

    # --- what is wanted -------------------------------------------------------------------------

    def obey(self) -> None:
        """Pauses and resumes; stops what was aborted, cancelled, or wanted back."""
        wish = self.seen.wish
        if wish.is_paused and not self.record.is_paused:
            self._set(is_paused=True, paused_at=self.seen.now)
            self._note("The rollout pauses")
        elif self.record.is_paused and not wish.is_paused:
            self._resume()
        cancelled = [_named(self.parts[c]) for c in sorted(self.seen.cancelled) if c in self.parts]
        if cancelled:
            cause = OperationCancelled(f"cancelled on {', '.join(cancelled)}")
            self._stop(_report(cause), cause.summary)
        elif wish.aborts or "*" in wish.back:
            words = "aborted" if wish.aborts else "rolled back"
            cause = OperationCancelled(f"{words} on request")
            self._stop(_report(cause), cause.summary)
        for cluster in wish.back:
            part = self.parts.get(cluster)
            if part is not None and not part.is_leaving and part.may_go_back:
                self._change(part, is_leaving=True)
                self._note(f"{_named(part)} goes back on request", cluster=cluster)
        self._watch_the_clock()

    def _resume(self) -> None:
        """Goes on; what is timed is as far as it was before the pause."""
        record, now = self.record, self.seen.now
        paused = now - (record.paused_at or now)
        broken = record.broken_since
        self._set(
            is_paused=False,
            paused_at=None,
            since=min(now, record.since + paused),
            broken_since=broken and min(now, broken + paused),
        )
        self._note("The rollout goes on")

    def _watch_the_clock(self) -> None:
        """Stops a rollout in time for its way back: after `expires` no command is queued."""
        if self.record.expires is None:
            return
        back = timedelta(seconds=self.options.back_timeout_s) + _ENDS_BEFORE
        back = min(back, (self.record.expires - self.record.begun) / 2)
        if self.seen.now >= self.record.expires - back:
            cause = DeadlineExpired(
                "it has not ended in the time that an operation may take",
                cause="it was paused or its waves took too long",
                remedy="send a new one for the clusters that are left",
            )
            self._stop(_report(cause), cause.summary)

    # --- what comes next ------------------------------------------------------------------------

    def go_on(self) -> None:
        """Ends what has its fate, brings back what is to go back, and takes the next stage."""
        if self.record.stage is Stage.GATHERING:
            self._gather()
        if self.record.stage is Stage.BACK:
            self._settle()
        elif self.record.stage is not Stage.GATHERING:
            self._bring_back([part for part in self.parts.values() if part.is_leaving])
            if not self.record.is_paused:
                self._advance()
        for part in list(self.parts.values()):
            if part.fate is not None and not part.is_told and not part.is_open:
                self._give(part, RolloutStep.END)
        if self.record.stage is not Stage.GATHERING and all(p.is_told for p in self.parts.values()):
            self._set(stage=Stage.OVER, ended=self.seen.now)

    def _gather(self) -> None:
        """Begins when every cluster has come, or has ended without having come."""
        here = [p for p in self.parts.values() if p.fate is None and p.cluster in self.seen.parts]
        if any(p.fate is None and p not in here for p in self.parts.values()):
            return
        named = [(part.cluster, part.name) for part in here]
        labels = {part.cluster: self.seen.parts[part.cluster].labels for part in here}
        waves = planned_waves(self.options, named, labels)
        expires = [self.seen.parts[part.cluster].expires for part in here]
        self._set(waves=waves, expires=min(expires, default=None))
        words = ", ".join(str(len(wave)) for wave in waves)
        is_rollout = self.record.is_rollout
        begins = "Rollout of " if is_rollout else ""
        follows = f" in waves of {words}" if is_rollout else ""
        self._note(f"{begins}{self.record.title}: {len(here)} clusters{follows}")
        self._enter(Stage.PRECHECK if here and self.record.reason is None else Stage.BACK)

    def _advance(self) -> None:
        """Goes through stages as far as they are done."""
        while self.record.stage not in (Stage.BACK, Stage.OVER):
            stage = self.record.stage
            active = self._active()
            if not active:
                if any(p.is_open and p.step is not RolloutStep.END for p in self._of_wave()):
                    return
                if not self._next_wave():
                    return
                continue
            step = _STEP_OF.get(stage)
            if step is None:
                if not self._judge(stage, active):
                    return
            elif not self._carried_out(step, active):
                return
            course = _course(self.options)
            if stage is Stage.SOAK and self._removes_later:
                if not self._next_wave():
                    return
            elif stage is course[-1]:
                for part in self._active():
                    self._change(part, fate=Fate.DONE)
            else:
                self._enter(course[course.index(stage) + 1])

    def _carried_out(self, step: RolloutStep, active: list[RolloutPart]) -> bool:
        """Gives the step to those that have not had it; whether all have answered."""
        for part in active:
            if part.step is not step or (part.left and not part.is_open):
                self._give(part, step, is_changed=part.is_changed or step not in _LOOKING)
        return not any(self.parts[part.cluster].is_open for part in active)

    def _judge(self, stage: Stage, active: list[RolloutPart]) -> bool:
        """Whether the gate has held for long enough; stops the rollout when it was broken for too
        long."""
        verdict, now, gate = self.seen.verdict, self.seen.now, self.options.gate
        if verdict is None:
            return False
        of_wave = {part.cluster for part in active}
        broken = {c: why for c, why in verdict.broken.items() if c in of_wave}
        since = self.record.broken_since
        if not broken:
            if since is not None:
                self._set(broken_since=None)
                self._note("The gate holds again")
            lasts = gate.window_s if stage is Stage.GATE else self.options.soak_s
            if now - self.record.since < timedelta(seconds=lasts):
                return False
            self._note(f"The gate holds{' after the soak' if stage is Stage.SOAK else ''}")
            return True
        words = "; ".join(
            f"{_named(self.parts[c])}: {why}" for c, why in sorted(broken.items())[:_MOST_TOLD]
        )
        if since is None:
            self._set(broken_since=now)
            self._note("The gate does not hold", words, severity=Severity.WARN)
            since = now
        if now - since >= timedelta(seconds=gate.within_s):
            error = GateBroken(f"the gate of wave {self.record.wave + 1} does not hold: {words}")
            self._stop(_report(error), error.summary)
        return False

    def _next_wave(self) -> bool:
        """Opens the next wave, or the removal of all old revisions after the last; False at the
        end."""
        number, last = self.record.wave + 1, len(self.record.waves)
        if number < last:
            self._set(wave=number)
            self._enter(Stage.PRECHECK)
            return True
        if self._removes_later and self.record.wave < last and self._left():
            self._set(wave=last)
            self._enter(Stage.REMOVE)
            self._note("The last wave is done: the old revisions go")
            return True
        return False

    def _enter(self, stage: Stage) -> None:
        self._set(stage=stage, since=self.seen.now, broken_since=None)
        if stage is Stage.PRECHECK and self.record.is_rollout:
            wave = self._of_wave()
            names = ", ".join(_named(part) for part in wave[:_MOST_TOLD])
            names += f" and {len(wave) - _MOST_TOLD} more" if len(wave) > _MOST_TOLD else ""
            self._note(f"Wave {self.record.wave + 1} of {len(self.record.waves)} opens: {names}")

    # --- the way back ---------------------------------------------------------------------------

    def _stop(self, reason: ErrorReport, words: str) -> None:
        """Stops the rollout, once: the open wave goes back, the waves after it are left."""
        if self.record.reason is not None:
            return
        self._set(reason=reason)
        # No error before the last event of a cluster: clients take one for the end.
        what = "rollout" if self.record.is_rollout else "operation"
        self._note(f"The {what} stops: {words}", reason.remedy, severity=Severity.WARN)
        if self.record.stage is not Stage.GATHERING:
            self._enter(Stage.BACK)

    def _settle(self) -> None:
        """Gives each cluster that is left its fate, or the step back."""
        goes_back = []
        for part in self._left():
            if self.options.what in MESHES:
                # What was done is good for the next try, and no other cluster is in the way.
                if not part.is_open:
                    fate = Fate.FAILED if part.reason is not None else Fate.LEFT
                    self._change(part, fate=fate, reason=part.reason or self.record.reason)
                continue
            is_early = part.cluster not in {each.cluster for each in self._of_wave()}
            stays = is_early and not part.is_leaving and "*" not in self.seen.wish.back
            if part.is_changed and not stays:
                goes_back.append(part)
            elif part.is_changed:
                self._change(part, fate=Fate.DONE)
            elif not part.is_open:
                self._change(part, fate=Fate.LEFT)
        self._bring_back(goes_back)

    def _bring_back(self, parts: list[RolloutPart]) -> None:
        for part in parts:
            if part.fate is not None or part.is_open:
                continue
            if part.again_at is not None and part.again_at <= self.seen.now:
                self._give(part, RolloutStep.BACK, tries=part.tries + 1)
            elif part.step is not RolloutStep.BACK or part.left:
                self._give(part, RolloutStep.BACK)

    # --- the rest -------------------------------------------------------------------------------

    @property
    def _removes_later(self) -> bool:
        return self.options.remove_old == "afterAll" and self.options.what == "istio"

    def _of_wave(self) -> list[RolloutPart]:
        """The clusters of the open wave; after the last one all that are left."""
        waves = self.record.waves
        if self.record.wave >= len(waves):
            return self._left()
        return [self.parts[cluster] for cluster in waves[self.record.wave]]

    def _active(self) -> list[RolloutPart]:
        return [p for p in self._of_wave() if p.fate is None and not p.is_leaving]

    def _left(self) -> list[RolloutPart]:
        return [part for part in self.parts.values() if part.fate is None]

    def _give(
        self,
        part: RolloutPart,
        step: RolloutStep,
        *,
        tries: int = 1,
        is_changed: bool | None = None,
    ) -> None:
        """Decides that the part takes this step now."""
        was = part.is_changed if is_changed is None else is_changed
        number = self.parts[part.cluster].number + 1
        self._change(
            part,
            number=number,
            step=step,
            is_open=True,
            tries=tries,
            is_changed=was,
            left=0,
            again_at=None,
        )

    def _change(self, part: RolloutPart, **fields: object) -> None:
        current = self.parts[part.cluster]
        if isinstance(reason := fields.get("reason"), ErrorReport):
            fields["reason"] = self._brief(reason)
        self.parts[part.cluster] = current.model_copy(update=fields)

    def _set(self, **fields: object) -> None:
        self.record = self.record.model_copy(update=fields)

    def _note(
        self,
        summary: str,
        details: str = "",
        *,
        cluster: str = "",
        severity: Severity = Severity.INFO,
    ) -> None:
        """Tells one cluster, or all of the open wave."""
        told = [cluster] if cluster else [p.cluster for p in self._of_wave() if not p.is_told]
        told = told or sorted(self.parts)
        most = 4 * self._longest if len(told) > 1 else self._longest
        self.notes.append(
            Note(
                number=self.told + 1,
                cluster=told[0],
                clusters=told,
                summary=_cut(redacted_text(summary), most),
                details=_cut(redacted_text(details), most),
                severity=severity,
            )
        )

    @property
    def _longest(self) -> int:
        """Characters of one text of one cluster: fewer, the more clusters there are."""
        return max(_LEAST_TEXT, _ROOM // (4 * max(1, len(self.parts))))

    def _brief(self, reason: ErrorReport) -> ErrorReport:
        """A reason that fits; the step's own event has it whole."""
        words = ("summary", "cause", "remedy", "subject")
        cut = {name: _cut(getattr(reason, name), self._longest) for name in words}
        return reason.model_copy(update=cut)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _named(part: RolloutPart) -> str:
    return part.name or part.cluster


def _report(error: BaseException) -> ErrorReport:
    return masked(ErrorReport.of(error))
