"""Where an operation may write: the namespaces that its grant names, object by object.

The gateway signs where the policy allows the operation, and does not read bodies. Here it is known
what becomes of a body, and from the cluster itself which kinds lie in namespaces. All is judged
before the first write: half of a manifest is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.chassis.errors import NotPermitted
from services.chassis.kube.objects import Ref
from services.chassis.messages import Command
from services.chassis.policy import EVERYWHERE, covers


@dataclass(frozen=True, slots=True)
class Reach:
    """Where one command may write; its grant was checked before (`authority.py`)."""

    command: Command
    identity: str
    namespaces: tuple[str, ...]

    @classmethod
    def of(cls, command: Command) -> Reach:
        """Without a grant it is the operator's, or puts back what was allowed before."""
        if command.grant is None:
            return cls(command, "", EVERYWHERE)
        grant = command.grant.claimed()
        return cls(command, grant.identity, tuple(grant.namespaces))

    @property
    def is_everywhere(self) -> bool:
        return "*" in self.namespaces

    def require(self, refs: Iterable[Ref]) -> None:
        """Raises `NotPermitted` for the first object outside of the namespaces, and for one that
        lies in none. Refs are as the cluster has them: with a namespace where the kind has one."""
        if self.is_everywhere:
            return
        for ref in refs:
            if not covers(self.namespaces, ref.namespace):
                self.refuse(str(ref))

    def require_namespace(self, namespace: str, *, what: str) -> None:
        """The same of something that stays in a namespace; "" for what does not."""
        if not covers(self.namespaces, namespace):
            self.refuse(what)

    def refuse(self, what: str) -> None:
        command = self.command
        places = ", ".join(sorted(self.namespaces)[:8]) or "no namespace"
        raise NotPermitted(
            f"{self.identity} may not {command.verb} {what[:256]} on cluster {command.cluster}",
            cause=f"the policy allows {command.kind} in {places} alone",
            subject=self.identity,
        )
