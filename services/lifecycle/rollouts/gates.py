"""Asks the gate: what the moved namespaces' own telemetry says, and how their proxies stand.

Topology watches the cluster and answers both; whoever conducts a rollout needs no way into it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.chassis.errors import MeshbusError
from services.chassis.prometheus import MetricsError, vector_of
from services.lifecycle.rollouts.deciding import Verdict
from services.lifecycle.rollouts.options import GateOptions
from services.lifecycle.rollouts.records import EVERYWHERE, RolloutPart

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""The answer of `mesh.topology.<verb>` to a question."""

_SYNCED, _UNKNOWN = "synced", "unknown"
_UNNAMED_ERROR_RATIO = 0.05
"""Where nobody names a limit: what any mesh is broken at."""


@dataclass(slots=True)
class _Findings:
    """What keeps the gate from holding, and what could not be told."""

    broken: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def why(self, gate: GateOptions) -> str:
        return "; ".join([*self.broken, *(self.silent if gate.stops_on_silence else [])])


@dataclass(frozen=True, slots=True)
class Gates:
    """Judges clusters by what topology tells."""

    ask: Ask

    async def judge(self, gate: GateOptions, parts: Sequence[RolloutPart], version: str) -> Verdict:
        """The verdict on all clusters, asked side by side."""
        reasons = await asyncio.gather(*(self._of(gate, part, version) for part in parts))
        named = zip(parts, reasons, strict=True)
        return Verdict({part.cluster: why for part, why in named if why})

    async def _of(self, gate: GateOptions, part: RolloutPart, version: str) -> str:
        """Why the gate does not hold on a cluster; "" when it does."""
        found = _Findings()
        if part.namespaces:
            await asyncio.gather(
                self._judge_requests(gate, part, found),
                self._judge_proxies(gate, part, version, found),
            )
        return found.why(gate)

    async def _judge_requests(self, gate: GateOptions, part: RolloutPart, found: _Findings) -> None:
        most = gate.error_ratio if gate.is_named else _UNNAMED_ERROR_RATIO
        window = f"[{gate.window_s}s]"
        try:
            if most is not None:
                ratio = await self._figure(part, error_ratio(part.namespaces, window))
                if ratio is None:
                    found.silent.append("there were no requests to judge by")
                elif ratio > most:
                    found.broken.append(f"{ratio:.2%} of requests fail, {most:.2%} may")
            if gate.p99_ms is not None:
                p99 = await self._figure(part, p99_of(part.namespaces, window))
                if p99 is None:
                    found.silent.append("there were no response times to judge by")
                elif p99 > gate.p99_ms:
                    found.broken.append(f"p99 is {p99:.0f} ms, {gate.p99_ms:g} ms is allowed")
        except MeshbusError as error:
            found.silent.append(f"no telemetry: {error.summary}")
        except MetricsError as error:
            found.silent.append(f"no telemetry: {error}")

    async def _judge_proxies(
        self, gate: GateOptions, part: RolloutPart, version: str, found: _Findings
    ) -> None:
        least = gate.proxies_in_sync if gate.is_named else 1.0
        if least is None:
            return
        try:
            named = [] if EVERYWHERE in part.namespaces else part.namespaces
            asked = {"cluster": part.cluster, "namespaces": named}
            answer = await self.ask("proxies", asked)
            proxies = [one for one in answer["proxies"] if isinstance(one, dict)]
        except (MeshbusError, KeyError, TypeError) as error:
            found.silent.append(f"proxies: {getattr(error, 'summary', 'an odd answer')}")
            return
        if not proxies:
            return  # nothing runs in these namespaces
        if all(one.get("standing") == _UNKNOWN for one in proxies):
            found.silent.append("nobody tells how the proxies stand")
            return
        late = [one for one in proxies if not _is_there(one, version)]
        if len(proxies) - len(late) < least * len(proxies):
            first = f"{late[0].get('namespace')}/{late[0].get('pod')}"
            found.broken.append(
                f"{len(late)} of {len(proxies)} proxies are not in sync"
                f"{f' with {version}' if version else ''}: {first}"
            )

    async def _figure(self, part: RolloutPart, query: str) -> float | None:
        """The one number of an answer; None for none, or for 0 / 0."""
        answer = await self.ask("metrics", {"cluster": part.cluster, "query": query})
        values = [sample.value for sample in vector_of(answer)]
        return values[0] if values and math.isfinite(values[0]) else None


def error_ratio(namespaces: Sequence[str], window: str) -> str:
    """PromQL: failed requests of all requests to services of the namespaces."""
    failed = _requests(namespaces, 'response_code=~"5..|0"')
    every = f"sum(rate({_requests(namespaces)}{window}))"
    return f"(sum(rate({failed}{window})) or vector(0)) / {every}"


def p99_of(namespaces: Sequence[str], window: str) -> str:
    """PromQL: milliseconds under which 99 % of the answers came."""
    buckets = f"istio_request_duration_milliseconds_bucket{{{_to(namespaces)}}}"
    return f"histogram_quantile(0.99, sum by (le) (rate({buckets}{window})))"


def _requests(namespaces: Sequence[str], *matchers: str) -> str:
    return f"istio_requests_total{{{','.join([_to(namespaces), *matchers])}}}"


def _to(namespaces: Sequence[str]) -> str:
    """Namespaces' names have no character that a regular expression would read otherwise."""
    pattern = json.dumps(".*" if EVERYWHERE in namespaces else "|".join(namespaces))
    return f'reporter=~"destination|waypoint",destination_service_namespace=~{pattern}'


def _is_there(proxy: Mapping[str, Any], version: str) -> bool:
    """Whether a proxy has its configuration, from a control plane of the version."""
    follows = proxy.get("istiodVersion") or version
    return proxy.get("standing") == _SYNCED and version in ("", follows)
