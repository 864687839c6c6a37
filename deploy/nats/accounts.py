"""Who reaches what of whom: an account of its own for each user, from the rights of `permissions`.

NATS sends an answer to whatever subject the asker names, by a client of its own that no permission
binds. In an account that holds the streams somebody who may only read one could so have stored,
deleted or acknowledged anything. Each user is therefore alone in its account. What it may publish
is imported from the account where it is heard, and an answer comes back into the asker's account,
where its subject is worth no more than the asker's own rights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.nats.permissions import ACCOUNT, SERVICES, SYSTEM_ACCOUNT, User

Kind = Literal["service", "stream"]
_OWN = ("_INBOX_", "_R_.", "ctl.", "$SYS.")
"""How subjects begin that stay in a user's own account."""
_API = "$JS.API."
_DIRECT = "$JS.API.DIRECT.GET."
_MANY = ("$JS.API.CONSUMER.MSG.NEXT.", "$SRV.")
"""How requests begin that have several answers; so have reads of a whole stream."""
_STREAMS_ELSEWHERE = "$JS.API.INFO"
"""An account that imports this has its streams in another one. To others the server answers, beside
whoever they ask, that they have none."""


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """What an account gets from another one: a service to ask, or a stream to listen to."""

    kind: Kind
    account: str
    subject: str

    @property
    def tells_who(self) -> bool:
        """Whether whoever answers must know the asker: the server does, of its own interface, to
        find the account whose streams are meant."""
        return self.subject.startswith(_API) and not self.subject.startswith((_DIRECT, *_MANY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What an account lets others reach, and no others than those."""

    kind: Kind
    subject: str
    accounts: tuple[str, ...]

    @property
    def answers(self) -> str:
        """How the server treats answers, as the configuration says it. It keeps the way back of an
        answer until that has come, or too long: whoever asks in vain fills its memory."""
        if self.kind == "stream":
            return ""
        if self.subject.startswith(_MANY):
            return ", response_type: stream"
        if self.subject.startswith("mesh."):
            return ""  # a service may take its time
        is_whole = self.subject.startswith(_DIRECT) and self.subject.count(".") == _DIRECT.count(
            "."
        )
        answers = "response_type: stream, " if is_whole else ""
        return f', {answers}response_threshold: "{5 if is_whole else 10}s"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of the server, with its users."""

    name: str
    users: tuple[User, ...]
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]


def accounts_of(users: Sequence[User]) -> list[Account]:
    """All accounts of a server with these users."""
    names = list(dict.fromkeys(user.account for user in users))
    imports = {
        name: sorted({one for user in users if user.account == name for one in _imports(user)})
        for name in names
    }
    return [
        Account(
            name=name,
            users=tuple(user for user in users if user.account == name),
            imports=tuple(imports[name]),
            exports=tuple(_exports(name, imports)),
        )
        for name in names
    ]


def _imports(user: User) -> Iterator[Import]:
    if user.account not in (ACCOUNT, SYSTEM_ACCOUNT):
        yield Import("service", ACCOUNT, _STREAMS_ELSEWHERE)
    for right in user.publish:
        for account, subject in _heard(right.subject):
            if account != user.account:
                yield Import("service", account, subject)
    for right in user.subscribe:
        # Questions come by the import of whoever asks.
        if not right.subject.startswith(("mesh.", "$SRV.", *_OWN)) and user.account != ACCOUNT:
            yield Import("stream", ACCOUNT, right.subject)


def _heard(subject: str) -> Iterable[tuple[str, str]]:
    """In which accounts something is heard that is published under `subject`."""
    if subject.startswith(_OWN):
        return ()
    if subject.startswith("$SRV."):
        return [(name, subject) for name in SERVICES]
    if subject.startswith("mesh."):
        _, service, *verb = subject.split(".", 2)
        if service in ("*", ">"):
            rest = ".".join(verb) or ">"
            return [(name, f"mesh.{name}.{rest}") for name in SERVICES]
        return [(service, subject)]
    return [(ACCOUNT, subject)]


def _exports(name: str, imports: dict[str, list[Import]]) -> Iterator[Export]:
    importers: dict[tuple[Kind, str], list[str]] = {}
    for account, found in imports.items():
        for one in found:
            if one.account == name:
                importers.setdefault((one.kind, one.subject), []).append(account)
    for (kind, subject), accounts in sorted(importers.items()):
        yield Export(kind=kind, subject=subject, accounts=tuple(accounts))
