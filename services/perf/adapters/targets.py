"""Judges where a target is, at the worker that is about to make load for it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from services.chassis.addresses import AddressPolicy
from services.chassis.errors import TargetRefused
from services.perf.definitions.allowance import Allowance
from services.perf.definitions.loads import Target


@dataclass(frozen=True, slots=True)
class Targets:
    """The list of targets, and the policy of addresses for what their names resolve to.

    Generators resolve by themselves a moment later. That a name resolves to something else then is
    up to whoever has its domain, and only the operator's list says which domains those are.
    """

    allowance: Allowance
    policy: AddressPolicy

    async def check(self, target: Target) -> None:
        """Raises `TargetRefused`; a name that does not resolve is left to the generator."""
        self.allowance.check_target(target)
        host = target.address.hostname or ""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return
        for _, _, _, _, address in found:
            if why := self.policy.reason(str(address[0])):
                raise TargetRefused(
                    f"the host {host} is at {address[0]}, which is {why}",
                    cause="Meshbus connects to no address in this range",
                    remedy="name the address that is meant, or allow it in "
                    "MESHBUS_ADDRESSES_ALLOWED",
                )
