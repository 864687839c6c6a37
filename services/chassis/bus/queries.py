"""The service API: questions that `nats micro ls` shows and `nats req` asks, answered in JSON.

`answering` answers a service's questions, `ask` asks another service. Services and the operator ask
`mesh.<service>.<verb>`. A person asks `mesh.<service>.<verb>.as.<name>`: NATS lets each publish
under his own name only, and the policy says what that name may ask. Whoever brings a token of his,
through the console, has it asked as `mesh.gateway.<verb>.by.token`: the gateway looks at the token.
What it then passes on to another service it asks as `mesh.<service>.<verb>.for.gateway`, a name
that NATS lets only the gateway publish under, and says for whom.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import nats.errors
import orjson
import structlog
from nats.aio.msg import Msg
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import Service, ServiceConfig

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.audits import Audit
from services.chassis.bus.connection import Bus
from services.chassis.bus.envelopes import DEFLATE, MAX_BODY_BYTES
from services.chassis.errors import (
    BusUnavailable,
    InternalError,
    MalformedRequest,
    ManifestMalformed,
    MeshbusError,
    NotPermitted,
    RequestTooLarge,
    WorkerUnavailable,
)
from services.chassis.messages import AuditEntry, ErrorReport, Outcome
from services.chassis.messages.models import VERSION
from services.chassis.policy import OPERATOR, RESERVED, Identity, Policy
from services.chassis.reading.jsons import read_json
from services.chassis.reading.limits import Budget
from services.chassis.telemetry import traces

_ACCEPT_ENCODING = "Accept-Encoding"
_ERROR_CODE = "Nats-Service-Error-Code"
_LONGEST_TEXT = 2000
# More than a flood of clusters that do not answer asks for (`in_hand` of the translator).
_MOST_AT_ONCE = 256
_STOP_WITHIN_S = 5.0
_LONGEST_NAME = 128
_MOST_NAMED = 100
_MOST_ANSWERED = 2_000_000
"""Values of an answer. The bound for texts that people write is too low for what services tell of
themselves: a graph of ten thousand pods, or each latency that a load test has met."""

log = structlog.get_logger(__name__)

Answerer = Callable[[dict[str, Any]], Awaitable[Any]]
Prove = Callable[[str], tuple[Identity, str]]
"""Whose an `Authorization` header is, and what proved it; raises `NotAuthenticated`."""
PersonalAnswerer = Callable[[dict[str, Any], Identity], Awaitable[Any]]
_UNDER_A_NAME = ".as."
_BY_TOKEN = ".by.token"
_FOR_SOMEBODY = ".for.gateway"
_IN_REGION = ".at."
_AUTHORIZATION = "Authorization"
_BEHALF = "Meshbus-Identity"
_ANSWERED_AT = ("_INBOX", "_R_.")
"""How each subject begins at which somebody waits for an answer: in the same account of NATS, and
in another one."""


async def _unanswered(_asked: dict[str, Any]) -> Any:
    raise AssertionError("the question has an answer to whoever asks")


@dataclass(frozen=True, slots=True)
class Query:
    """One question: `mesh.<service>.<verb>`. `usage` says what the request's JSON may hold.

    A question is about the cluster in its field `cluster`, or else about all of them; the policy is
    asked for that. One whose usage has no such field is about all of them, whatever is sent.
    With `answer_to` the answer itself knows who asks, and judges by that.

    With `text_field`, a request that is no JSON with that field, or has a mapping there, stands for
    `{<text_field>: the request}`, so that `nats req mesh.<service>.<verb> < file.yaml` works.
    """

    verb: str
    usage: str
    answer: Answerer = _unanswered
    text_field: str = ""
    answer_to: PersonalAnswerer | None = None
    changes: bool = False
    """Whether it changes something: then it is in the audit whoever asks."""
    is_judged: bool = True
    """False where the answer tells nothing but about whoever asks, or judges what it is asked."""
    passes_on: bool = False
    """It holds a question to another service (`name`, `question`), which the audit tells for it."""

    @property
    def names_cluster(self) -> bool:
        """Whether it is about the cluster that it names."""
        return '"cluster"' in self.usage


Tell: TypeAlias = Callable[[], Awaitable[None]]
"""Sends an answer."""
Respond: TypeAlias = Callable[[Request], Awaitable[Tell | None]]
"""Finds the answer to a question; None where nobody waits for one."""


@dataclass(slots=True)
class _Serving:
    """A registered service. Its questions are answered side by side.

    The library hands an endpoint one message after the other; a question about a cluster that does
    not answer would hold up those about all others.
    """

    service: Service
    bus: Bus
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST_AT_ONCE))
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def stop(self) -> None:
        """Takes no more questions; those in hand get some seconds for their answers."""
        await self.service.stop()
        if self._running:
            _, unfinished = await asyncio.wait(self._running, timeout=_STOP_WITHIN_S)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    def beside(self, respond: Respond) -> Callable[[Request], Awaitable[None]]:
        """`respond` as a task of its own for each request, so many at once."""

        async def start(request: Request) -> None:
            came_by = self._connection
            await self._free.acquire()
            answer = self._answered(respond, request, came_by=came_by)
            task = asyncio.create_task(answer, name="answer")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        return start

    @property
    def _connection(self) -> int:
        """Which one this is, of those that the process has had."""
        return self.bus.client.stats["reconnects"]

    async def _answered(self, respond: Respond, request: Request, *, came_by: int) -> None:
        try:
            tell = await respond(request)
            if tell is None:
                return
            if self._connection == came_by:
                await tell()
            else:
                # The server refuses it: by this connection nobody has asked.
                log.info("answer_dropped", subject=request.subject)
        except Exception:
            # The bus is gone, and whoever asked with it.
            log.exception("answer_lost")
        finally:
            self._free.release()


@dataclass(frozen=True, slots=True)
class Askers:
    """Who may ask what under his own name, and the record of it."""

    service: str
    policy: Callable[[], Policy]
    audit: Audit
    prove: Prove | None = None
    """Only the gateway takes tokens."""

    def identity(self, subject: str, headers: Mapping[str, str]) -> tuple[Identity, str]:
        """Whoever may publish to this subject, and what proves it; raises `NotPermitted` for a name
        that is unknown, and `NotAuthenticated` for a token that does not hold."""
        if subject.endswith(_BY_TOKEN) and self.prove is not None:
            return self.prove(headers.get(_AUTHORIZATION, ""))
        if subject.endswith(_FOR_SOMEBODY):
            return _told_identity(headers.get(_BEHALF, "")), "gateway"
        _, under_a_name, token = subject.partition(_UNDER_A_NAME)
        if not under_a_name:
            return OPERATOR, "nats"
        for person in self.policy().identities():
            if subjects.token(person.name) == token:
                return person, "nats"
        raise NotPermitted(f"the policy has no person {token[:64]}")

    @property
    def endings(self) -> dict[str, str]:
        """What follows a question's subject where somebody asks who is not a service, by the name
        that its endpoint gets."""
        found = {"as": f"{_UNDER_A_NAME}*"}
        return found | ({"token": _BY_TOKEN} if self.prove else {"gateway": _FOR_SOMEBODY})

    def judge(self, identity: Identity, query: Query, asked: Mapping[str, Any]) -> None:
        """Raises `NotPermitted`. The operator's key, and services' own, answer to NATS alone."""
        if identity == OPERATOR or not query.is_judged:
            return
        question = f"{self.service}.{query.verb}"
        named = asked.get("cluster") if query.names_cluster else None
        cluster = named if isinstance(named, str) else ""
        policy = self.policy()
        is_allowed = (
            policy.may_ask_some(identity, question)
            if query.answer_to is not None
            else policy.may_ask(identity, question, cluster=cluster or None)
        )
        if not is_allowed:
            place = f"cluster {cluster[:64]}" if cluster else "all clusters"
            raise NotPermitted(
                f"{identity.name} may not ask {question} about {place}", subject=identity.name
            )

    def close(
        self,
        identity: Identity | None,
        query: Query,
        asked: Mapping[str, Any],
        *,
        by: str,
        error: MeshbusError | None,
    ) -> None:
        """Questions under a name, all that change something, and tries to be somebody that failed:
        an entry of the audit."""
        is_told = query.is_judged or query.changes or error is not None
        if (identity == OPERATOR and not query.changes) or not is_told:
            return
        call = f"{self.service}.{query.verb}"
        if query.passes_on:
            call, inner = _text_in(asked, "name") or call, asked.get("question")
            asked = inner if isinstance(inner, dict) else {}
        clusters = asked.get("clusters")
        named = clusters if isinstance(clusters, list) else [_text_in(asked, "cluster")]
        self.audit.write(
            AuditEntry(
                service=self.service,
                identity=identity.name if identity else "",
                groups=sorted(identity.groups) if identity else [],
                by=by,
                call=f"mesh.{call}",
                operation=_text_in(asked, "operation"),
                kind=_text_in(asked, "kind"),
                verb=_text_in(asked, "verb"),
                namespace=_text_in(asked, "namespace"),
                clusters=[str(one)[:_LONGEST_NAME] for one in named[:_MOST_NAMED] if one],
                outcome=Outcome.REFUSED if error else Outcome.ACCEPTED,
                code=error.code if error else "",
            )
        )


@asynccontextmanager
async def answering(
    bus: Bus,
    *,
    service: str,
    description: str,
    queries: Sequence[Query],
    askers: Askers | None = None,
    region: str = "",
) -> AsyncIterator[None]:
    """Answers a service's questions for the block; all replicas share one queue group.

    With `askers` people may ask under their own names too. Workers of a `region` answer what is
    asked of that region alone, by other services and the operator.
    """
    ending = _of_region(region)
    registered = await add_service(
        bus.client,
        ServiceConfig(
            name=f"mesh-{service}",
            version=VERSION,
            description=description,
            queue_group=f"{service}{ending}",
        ),
    )
    serving = _Serving(registered, bus)
    for query in queries:
        subject = f"mesh.{service}.{query.verb}{ending}"
        await registered.add_endpoint(
            name=query.verb,
            subject=subject,
            handler=serving.beside(_responder(query, askers, subject=subject)),
            metadata={"usage": query.usage},
        )
        for name, by in (askers.endings if askers is not None and not region else {}).items():
            await registered.add_endpoint(
                name=f"{query.verb}-{name}",
                subject=f"{subject}{by}",
                handler=serving.beside(_responder(query, askers, subject=subject)),
                metadata={"usage": query.usage},
            )
    try:
        yield
    finally:
        await serving.stop()


def is_asked(subject: str, reply: str, *, of: str) -> bool:
    """Whether a message was published to the subject `of` by somebody who waits for the answer.

    NATS lets everybody name any subject as the one for an answer, and does not ask whether he may
    publish there. Accounts keep that from what is another's (`deploy/nats/accounts.py`); within one
    an answer of ours would still be written wherever it says.
    """
    return reply.startswith(_ANSWERED_AT) and subject.startswith(of)


def _of_region(region: str) -> str:
    """The ending of a question that a region's workers answer; without one, nothing."""
    return f"{_IN_REGION}{subjects.token(region)}" if region else ""


def _responder(query: Query, askers: Askers | None, *, subject: str) -> Respond:
    async def respond(request: Request) -> Tell | None:
        if not is_asked(request.subject, request._msg.reply, of=subject):
            log.warning("question_not_asked", verb=query.verb)
            return None
        headers = dict(request.headers or {})
        identity: Identity | None = OPERATOR if askers is None else None
        asked: dict[str, Any] = {}
        by, refusal = "", None
        try:
            if askers is not None:
                identity, by = askers.identity(request.subject, headers)
            asked = _asked(request.data, headers, query)
            if askers is not None:
                askers.judge(identity or OPERATOR, query, asked)
            with traces.continued(f"answer {query.verb}", headers=headers, attributes={}):
                answer = await _answer(query, asked, identity or OPERATOR)
            body, encoding = _laid_out(orjson.dumps(answer), headers)
        except Exception as error:
            if not isinstance(error, MeshbusError):
                log.exception("query_failed", verb=query.verb)
                error = InternalError("the question could not be answered")
            refusal = error
            report = ErrorReport.of(error)
            return partial(
                request.respond_error,
                code=report.code,
                # A header is one line.
                description=" ".join(f"{report.summary}. {report.remedy}".split())[:_LONGEST_TEXT],
                data=orjson.dumps(report.model_dump(mode="json")),
            )
        finally:
            if askers is not None:
                askers.close(identity, query, asked, by=by, error=refusal)
        return partial(request.respond, body, headers=encoding or None)

    return respond


async def _answer(query: Query, asked: dict[str, Any], identity: Identity) -> Any:
    if query.answer_to is not None:
        return await query.answer_to(asked, identity)
    return await query.answer(asked)


def _laid_out(body: bytes, asked: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """The answer's body and headers; compressed only for a client that accepts it."""
    if asked.get(_ACCEPT_ENCODING) == DEFLATE:
        return packed(body)
    if len(body) > MAX_BODY_BYTES:
        raise RequestTooLarge(
            f"the answer has {len(body)} bytes, the limit is {MAX_BODY_BYTES}",
            remedy="ask about fewer objects at once",
        )
    return body, {}


def _asked(body: bytes, headers: Mapping[str, str], query: Query) -> dict[str, Any]:
    body = envelopes.unpacked(body, headers)
    if not body.strip():
        return {}
    asked = None
    # Anything else is text, and its punctuation counts for nothing.
    if body.lstrip()[:1] == b"{":
        with contextlib.suppress(ValueError):
            asked = read_json(body)
    field = query.text_field
    # A document of the user's may have a key of that name itself, but no question does.
    if field and (not isinstance(asked, dict) or isinstance(asked.get(field, {}), dict)):
        return {field: _text(body)}
    if not isinstance(asked, dict):
        raise MalformedRequest("the question is not a JSON object", remedy=f"send {query.usage}")
    return asked


def _text_in(asked: Mapping[str, Any], field: str) -> str:
    """A short text field of a question; "" where it is missing, or something else."""
    value = asked.get(field)
    return value[:_LONGEST_NAME] if isinstance(value, str) else ""


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise ManifestMalformed(f"line {line}: the text is not UTF-8") from None


async def ask(
    bus: Bus,
    question: object,
    *,
    service: str,
    verb: str,
    within: timedelta,
    authorization: str = "",
    behalf: Identity | None = None,
    region: str = "",
) -> Any:
    """The decoded answer of `mesh.<service>.<verb>`, by the workers of a `region` if one is named.

    With `authorization`, an HTTP header of that name, the gateway finds out who asks; with `behalf`
    the gateway says so. Raises the error that the service answered with, as if it had been raised
    here; `WorkerUnavailable` when nobody is there to answer, `BusUnavailable` when NATS is not, and
    `TooManyValues` for an answer of more than two million.
    """
    subject = f"mesh.{service}.{verb}{_of_region(region)}"
    body, headers = packed(orjson.dumps(question))
    if authorization:
        subject, headers = f"{subject}{_BY_TOKEN}", {**headers, _AUTHORIZATION: authorization}
    elif behalf is not None:
        subject, headers = f"{subject}{_FOR_SOMEBODY}", {**headers, _BEHALF: _told(behalf)}
    carried = traces.injected({**headers, _ACCEPT_ENCODING: DEFLATE})
    try:
        reply = await _reply(
            bus,
            bus.client.request(
                subject, body, timeout=within.total_seconds(), headers=dict(carried)
            ),
            subject=subject,
        )
    except nats.errors.NoRespondersError:
        raise WorkerUnavailable(f"no {service} worker is connected") from None
    except TimeoutError:
        raise WorkerUnavailable(
            f"no {service} worker answered {verb} within {within.total_seconds():g} s"
        ) from None
    except nats.errors.Error as error:
        raise BusUnavailable(f"{subject} could not be asked") from error
    answered = dict(reply.headers or {})
    content = envelopes.unpacked(reply.data, answered)
    if _ERROR_CODE in answered:
        raise _raised(content, answered[_ERROR_CODE])
    return read_json(content, budget=Budget.fresh(nodes=_MOST_ANSWERED))


async def _reply(bus: Bus, request: Coroutine[Any, Any, Msg], *, subject: str) -> Msg:
    """The answer; a server that was away meanwhile has forgotten question and answer."""
    lost = asyncio.Event()
    forget = bus.on_reconnect(lost.set)
    asking = asyncio.create_task(request, name=f"ask-{subject}")
    losing = asyncio.create_task(lost.wait(), name="connection-lost")
    try:
        await asyncio.wait({asking, losing}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise BusUnavailable(f"the connection was lost while {subject} was asked")
        return await asking
    finally:
        forget()
        for task in (asking, losing):
            task.cancel()
        await asyncio.gather(asking, losing, return_exceptions=True)


def _told(identity: Identity) -> str:
    """An identity as a header: names may hold what a header may not."""
    told = {"name": identity.name, "groups": sorted(identity.groups)}
    return quote(orjson.dumps(told).decode(), safe="")


def _told_identity(text: str) -> Identity:
    try:
        told = read_json(unquote(text).encode())
        name, groups = told["name"], told["groups"]
    except (KeyError, TypeError, ValueError):
        raise NotPermitted("the question does not say for whom it is asked") from None
    if not isinstance(name, str) or not name or name in RESERVED or not isinstance(groups, list):
        raise NotPermitted("the question does not say for whom it is asked")
    return Identity(name, frozenset(map(str, groups)))


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers, compressed where that pays; raises `RequestTooLarge`."""
    body, headers = envelopes.compressed(body)
    if len(body) > MAX_BODY_BYTES:
        raise RequestTooLarge(
            f"the text takes {len(body)} bytes on the bus, the limit is {MAX_BODY_BYTES}",
            remedy="ask about fewer objects at once",
        )
    return body, headers


def _raised(content: bytes, code: str) -> MeshbusError:
    try:
        report = ErrorReport.model_validate_json(content)
    except ValueError:
        return WorkerUnavailable(f"the answer was an unreadable failure ({code[:16]})")
    return report.error()
