"""What load this installation makes, and against what: judged by lists, before a run begins.

Whoever may send a test chooses where its requests go, with which headers and how many. So a target
is one that the operator lists, not one that nobody has forbidden: a name by its pattern, an address
by its range. A name is never allowed by what it resolves to; where it resolves to is judged beside
that, when the load begins (`adapters/targets.py`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from services.chassis.addresses import Network
from services.chassis.errors import LoadRefused, LoadTestMalformed, TargetRefused, shortened
from services.perf.definitions.loads import LoadTest, Target

_API_SERVER = "kubernetes"
"""First label of the API server's own Service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """The most that one test may ask for."""

    rate: float
    """Requests per second."""
    connections: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What tests are made."""

    names: tuple[str, ...]
    """Patterns such as `*.svc`, in lower case."""
    ranges: tuple[Network, ...]
    """Of targets that are written as IP addresses."""
    never: tuple[str, ...] = ()
    """Host names of what Meshbus itself stands on, whatever domain is behind them."""
    ceilings: Ceilings
    takes_prometheus: bool = False
    """Whether a test may name the Prometheus that is asked."""

    @classmethod
    def of(
        cls,
        targets: Sequence[str],
        *,
        never: Sequence[str],
        ceilings: Ceilings,
        takes_prometheus: bool,
    ) -> Allowance:
        """`targets` has ranges and patterns as the setting has them."""
        names, ranges = [], []
        for text in targets:
            try:
                ranges.append(ipaddress.ip_network(text))
            except ValueError:
                names.append(text.lower())
        return cls(
            names=tuple(names),
            ranges=tuple(ranges),
            never=(*never, _API_SERVER),
            ceilings=ceilings,
            takes_prometheus=takes_prometheus,
        )

    def check(self, test: LoadTest) -> None:
        """Raises `TargetRefused`, `LoadRefused`, or `LoadTestMalformed` for its Prometheus."""
        for target in test.targets:
            self.check_target(target)
        self._check_load(test)
        if test.prometheus and not self.takes_prometheus:
            raise LoadTestMalformed(
                "spec.prometheus: a test does not choose which Prometheus is asked",
                cause="requests to an address of the test's choice would be sent from here",
                remedy=(
                    "leave the field out and set MESHBUS_PERF_PROMETHEUS, or allow it with "
                    "MESHBUS_PERF_PROMETHEUS_FROM_TESTS=true"
                ),
            )

    def check_target(self, target: Target) -> None:
        """Raises `TargetRefused` for a host that is not listed."""
        host = (target.address.hostname or "").rstrip(".").lower()
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            is_listed = self._is_named(host)
        else:
            mapped = getattr(address, "ipv4_mapped", None) or address
            is_listed = any(mapped in network for network in self.ranges)
        if not is_listed:
            raise TargetRefused(f"the host {shortened(host)} is none that tests are made against")

    def _is_named(self, host: str) -> bool:
        if host.partition(".")[0] in self.never:
            return False
        # 0x7f000001 and 2130706433 are addresses to a resolver, and names to everybody else.
        if not host or not host.rpartition(".")[2][0].isalpha():
            return False
        return any(fnmatchcase(host, pattern) for pattern in self.names)

    def _check_load(self, test: LoadTest) -> None:
        most = self.ceilings
        search = test.saturation
        rates = [search.highest] if search else [stage.rate for stage in test.stages]
        length_s = search.most_steps * search.step_duration_s if search else test.duration_s
        asked = (
            ("requests per second", max(rates), most.rate, "MOST_RATE"),
            ("connections", test.connections, most.connections, "MOST_CONNECTIONS"),
            ("seconds", length_s, most.duration_s, "LONGEST"),
        )
        for what, wanted, allowed, setting in asked:
            if wanted > allowed:
                raise LoadRefused(
                    f"the test asks for {wanted:g} {what}, and {allowed:g} is the most",
                    remedy=f"ask for less, or raise MESHBUS_PERF_{setting}",
                )
