"""When a change has reached the proxies, told by what they serve and never by time.

istiod reads all objects of one kind from one watch, in the order in which they changed, and pushes
whole states. So after the objects under test a barrier object of the same kind is changed: a proxy
that has the barrier's new token has everything that came before it.

* For routes the barrier is a host of its own; its VirtualService answers with the token. It stands
  in the same route tables as the rules under test, so the request itself proves the point.
* For authorization it is a policy that denies a principal whom nobody has, named after the token.
  Envoy's admin interface shows it once the main thread has handed it to the worker; one request
  afterwards, whatever its answer, makes sure that the worker has taken it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.testbed.clusters import KubernetesApi
from tests.testbed.entries import create, istio_object, path_of, service_entry
from tests.testbed.envoys import Envoy
from tests.testbed.processes import BedError, wait_until
from tests.testbed.visitors import Request, Visitor

_HOST = "barrier.meshbus.test"
_NAME = "barrier"
_TIMEOUT_S = 60.0
_MESH_NAMESPACE = "istio-system"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteBarrier:
    """For the proxies that route by VirtualServices, on the ports of their listeners."""

    api: KubernetesApi
    namespace: str
    ports: Sequence[int]
    """Ports at which the barrier answers, those of `gateway` too."""
    gateway: str
    """`<namespace>/<name>` of a Gateway that has the barrier as well as the mesh."""
    envoys: Sequence[Envoy]

    def start(self) -> None:
        """Creates the barrier."""
        # Nothing listens there: the rule answers by itself.
        nowhere = dict.fromkeys(self.ports, 1)
        entry = service_entry(_HOST, namespace=self.namespace, name=_NAME, ports=nowhere)
        create(self.api, [entry, self._rule("none")])

    def wait(self) -> None:
        """Until every port serves what was applied before this call."""
        token = secrets.token_hex(8)
        _change(self.api, self._rule(token))

        def has_passed() -> bool:
            answers = (Visitor(port).ask(Request(host=_HOST)) for port in self.ports)
            return all(answer.text == token for answer in answers)

        _wait(has_passed, self.envoys, what="the routes of the barrier")

    def _rule(self, token: str) -> dict[str, Any]:
        answer = {"directResponse": {"status": 200, "body": {"string": token}}}
        spec = {"hosts": [_HOST], "gateways": ["mesh", self.gateway], "http": [answer]}
        return istio_object("VirtualService", name=_NAME, namespace=self.namespace, spec=spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBarrier:
    """For the sidecars that enforce AuthorizationPolicies, on the ports of their workloads."""

    api: KubernetesApi
    guarded: Sequence[tuple[Envoy, int]]
    """Sidecars and one inbound HTTP port of each."""

    def start(self) -> None:
        """Creates the barrier. It holds for the whole mesh and denies nobody."""
        create(self.api, [_policy("none")])

    def wait(self) -> None:
        """Until every sidecar enforces what was applied before this call."""
        token = secrets.token_hex(8)
        _change(self.api, _policy(token))
        envoys = [envoy for envoy, _ in self.guarded]
        _wait(
            lambda: all(envoy.has(token) for envoy in envoys),
            envoys,
            what="the policy of the barrier",
        )
        for _, port in self.guarded:
            Visitor(port).ask(Request(path="/barrier"))


def _policy(token: str) -> dict[str, Any]:
    # A principal, because a rule about HTTP would close every port that is not HTTP.
    rule = {"from": [{"source": {"principals": [token]}}]}
    return istio_object(
        "AuthorizationPolicy",
        name=_NAME,
        namespace=_MESH_NAMESPACE,
        spec={"action": "DENY", "rules": [rule]},
        api_version="security.istio.io/v1",
    )


def _change(api: KubernetesApi, obj: dict[str, Any]) -> None:
    path = path_of(obj, obj["metadata"]["name"])
    api.request("PUT", path, {**api.request("GET", path), "spec": obj["spec"]})


def _wait(has_passed: Callable[[], bool], envoys: Sequence[Envoy], *, what: str) -> None:
    try:
        wait_until(
            has_passed, timeout_s=_TIMEOUT_S, what=what, processes=[e.process for e in envoys]
        )
    except BedError as error:
        refused = [line for envoy in envoys for line in envoy.rejections()]
        error.add_note(f"updates that Envoy refused: {refused or 'none'}")
        raise
