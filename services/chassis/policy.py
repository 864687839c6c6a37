"""Who asks, and what he may ask for: identities and the policy, pure.

The gateway judges calls by it, every service the questions that a person asks under his own name
(`mesh.<service>.<verb>.as.<name>`), so that one file says for both ways the same. A request is
allowed when one rule allows all of it: rights of two rules do not add up to a third one. What a
body holds is judged where it is understood, by the namespaces that the gateway signs. Without a
file everything is allowed to whoever got in, which is one local user by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.chassis.errors import NotPermitted
from services.chassis.messages import Verb
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml

LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: a name, and the groups that whoever vouches for the name puts it into."""

    name: str
    groups: frozenset[str] = frozenset()


LOCAL = Identity("local")
"""Whoever reaches a port that asks for no proof: by default only what runs on the same machine."""
OPERATOR = Identity("operator")
"""Whoever holds the operator's NATS key."""
RESERVED = frozenset({LOCAL.name, OPERATOR.name})
"""Names that no certificate and no token may claim."""
EVERYWHERE = ("*",)
"""All namespaces, and what lies in none."""


class Sight(StrEnum):
    """Which events a rule shows: of one's own operations, or all of the rule's clusters."""

    OWN = "own"
    ALL = "all"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Part):
    """One row of the policy. Lists hold names or patterns with `*`; `*` alone is everything."""

    identities: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """The rule is for every identity that is named, or is in one of the groups."""
    operations: tuple[str, ...] = ()
    """Names as SupportedOperations lists them, such as `istio` or `bookinfo`."""
    verbs: tuple[Verb, ...] = (Verb.APPLY, Verb.DELETE)
    clusters: tuple[str, ...] = ("*",)
    """Tokens of clusters as `mesh.gateway.clusters` shows them, not the names of contexts: those
    are the caller's own words."""
    namespaces: tuple[str, ...] = ("*",)
    """Where objects may be written; `*` also means what lies in no namespace."""
    questions: tuple[str, ...] = ()
    """Of the service API, as `<service>.<verb>`: `topology.*`, `gateway.operations`."""
    events: Sight = Sight.OWN

    def is_for(self, identity: Identity) -> bool:
        return any(fnmatchcase(identity.name, name) for name in self.identities) or any(
            fnmatchcase(group, name) for name in self.groups for group in identity.groups
        )

    def has_cluster(self, cluster: str) -> bool:
        return _any(self.clusters, cluster)

    @property
    def has_all_clusters(self) -> bool:
        return "*" in self.clusters


class Person(_Part):
    """Somebody with a NATS user of his own, whose groups only this file can know."""

    groups: tuple[str, ...] = ()


class Policy(_Part):
    """What each identity may do. Without rules (no file) everybody may do everything."""

    people: Mapping[str, Person] = Field(default_factory=dict)
    """NATS users by their names: each may ask as `mesh.<service>.<verb>.as.<name>` only."""
    rules: tuple[Rule, ...] | None = None

    @property
    def is_open(self) -> bool:
        return self.rules is None

    def _is_free(self, identity: Identity) -> bool:
        """The operator's key may send commands itself: a rule would only look like a bound."""
        return self.is_open or identity == OPERATOR

    def rules_of(self, identity: Identity) -> list[Rule]:
        return [rule for rule in self.rules or () if rule.is_for(identity)]

    def knows(self, identity: Identity) -> bool:
        """Whether any rule is for it; whoever has none is refused everything."""
        return self._is_free(identity) or bool(self.rules_of(identity))

    def namespaces(
        self, identity: Identity, *, kind: str, verb: Verb, cluster: str
    ) -> tuple[str, ...]:
        """Where the operation is allowed on this cluster, as names and patterns; `EVERYWHERE`, or
        nothing where no rule allows it.

        Of several rules that allow it all namespaces count: each object could be sent by itself.
        """
        if self._is_free(identity):
            return EVERYWHERE
        found = {
            namespace
            for rule in self.rules_of(identity)
            if _any(rule.operations, kind) and verb in rule.verbs and rule.has_cluster(cluster)
            for namespace in rule.namespaces
        }
        return EVERYWHERE if "*" in found else tuple(sorted(found))

    def may_name(self, identity: Identity, kind: str) -> bool:
        """Whether the operation is allowed to it anywhere, so that it is worth showing."""
        return self._is_free(identity) or any(
            _any(r.operations, kind) for r in self.rules_of(identity)
        )

    def may_ask(self, identity: Identity, question: str, *, cluster: str | None) -> bool:
        """Whether it may ask `<service>.<verb>` about this cluster; None: about none, so all."""
        return self._is_free(identity) or any(
            _any(rule.questions, question)
            and (rule.has_all_clusters if cluster is None else rule.has_cluster(cluster))
            for rule in self.rules_of(identity)
        )

    def may_ask_some(self, identity: Identity, question: str) -> bool:
        """Whether it may ask at all, where the answer itself leaves out what is not for it."""
        return self._is_free(identity) or any(
            _any(r.questions, question) for r in self.rules_of(identity)
        )

    def may_see(self, identity: Identity, *, cluster: str, owner: str) -> bool:
        """Whether it may see an event of the operation of `owner` on the cluster."""
        if self._is_free(identity):
            return True
        rules = self.rules_of(identity)
        if owner and owner == identity.name:
            return bool(rules)
        return any(rule.events is Sight.ALL and rule.has_cluster(cluster) for rule in rules)

    def identities(self) -> list[Identity]:
        """The people with a NATS user of their own."""
        return [Identity(name, frozenset(p.groups)) for name, p in self.people.items()]


OPEN = Policy()


class PolicyMalformed(ValueError):
    """The text is no policy; says where."""


def read_policy(text: str | bytes) -> Policy:
    """The policy of a YAML file; raises `PolicyMalformed`.

    A file without `rules` allows nothing: an emptied file must not open the door.
    """
    try:
        found = text if isinstance(text, str) else text.decode()
        document: Any = read_yaml(found, budget=Budget.trusted())
    except ValueError as error:
        raise PolicyMalformed(f"the policy is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise PolicyMalformed("the policy is not a mapping with `rules`")
    try:
        policy = Policy.model_validate({**document, "rules": document.get("rules") or []})
    except ValidationError as error:
        places = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise PolicyMalformed("; ".join(places)) from None
    taken = sorted(RESERVED & policy.people.keys())
    if taken:
        raise PolicyMalformed(f"people.{taken[0]}: the name is reserved")
    return policy


def covers(namespaces: Sequence[str], namespace: str) -> bool:
    """Whether names and patterns have a namespace.

    An empty one stands for what lies in none: Nodes, ClusterRoles, definitions, and namespaces
    themselves. Only what is allowed in all namespaces covers that.
    """
    return "*" in namespaces or (bool(namespace) and _any(namespaces, namespace))


def require_operation(
    policy: Policy,
    identity: Identity,
    *,
    kind: str,
    verb: Verb,
    cluster: str,
    namespace: str | None,
) -> tuple[str, ...]:
    """Returns the namespaces where the operation may do something, for its grant.

    `namespace` is where it stays, "" for one that may reach anywhere, None for one whose objects
    are judged one by one, where they are known. Raises `NotPermitted` with all that was judged, but
    for the rules: they are nobody else's.
    """
    allowed = policy.namespaces(identity, kind=kind, verb=verb, cluster=cluster)
    if allowed and (namespace is None or covers(allowed, namespace)):
        return allowed
    place = f", namespace {namespace}" if namespace else ""
    if namespace == "":
        place = ", what lies in no namespace"
    raise NotPermitted(
        f"{identity.name} may not {verb} {kind} on cluster {cluster}{place}",
        subject=identity.name,
    )


def _any(patterns: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
