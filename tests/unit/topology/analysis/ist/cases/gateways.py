"""Gateways."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_WORKLOAD = """
---
kind: Pod
metadata: {name: gate, labels: {app: HERE, tier: edge}}
---
kind: Service
metadata: {name: gate}
spec:
  selector: {app: HERE}
  ports: [{port: 80, name: http, targetPort: 8080}, {port: 443, name: https, targetPort: tls}]
"""


def _gateway(
    name: str = "gate", *servers: tuple[int, str, str], selector: str = "app: HERE", more: str = ""
) -> str:
    """Servers as port, hosts, and anything else."""
    lines = "\n".join(
        f"  - {{port: {{number: {port}, name: p{index}, protocol: HTTP}}, hosts: [{hosts}] {rest}}}"
        for index, (port, hosts, rest) in enumerate(servers or ((80, "a.HERE.io", ""),))
    )
    return f"""
---
kind: Gateway
metadata: {{name: {name}{more}}}
spec:
  selector: {{{selector}}}
  servers:
{lines}
"""


def _pair(one: tuple[int, str, str], other: tuple[int, str, str], selector: str = "") -> str:
    second = _gateway("second", other, selector=selector or "app: HERE")
    return _gateway("gate", one) + second + _WORKLOAD


_GATE = ("Gateway gate",)
_BOTH = ("Gateway gate", "Gateway second")
_WORKLOADS = cases(
    "IST0101",
    {"name": "gateway-workload-missing", "text": _gateway(), "finds": _GATE},
    {"name": "gateway-workload-there", "text": _gateway() + _WORKLOAD},
)
_PORTS = cases(
    "IST0162",
    {"text": _gateway("gate", (9000, "a.HERE.io", "")) + _WORKLOAD, "finds": _GATE},
    {"text": _gateway("gate", (80, "a.HERE.io", "")) + _WORKLOAD},
    {"text": _gateway("gate", (8080, "a.HERE.io", "")) + _WORKLOAD},
    {"text": _gateway("gate", (443, "a.HERE.io", "")) + _WORKLOAD},
    {
        "text": _gateway("gate", (9000, "a.HERE.io", ""))
        + _WORKLOAD
        + """
---
kind: Service
metadata: {name: open}
spec: {ports: [{port: 9000, name: http}]}
"""
    },
    {
        "text": _gateway("gate", (53, "a.HERE.io", ""))
        + _WORKLOAD
        + """
---
kind: Service
metadata: {name: dns}
spec: {selector: {app: HERE}, ports: [{port: 53, name: dns, protocol: UDP}]}
""",
        "finds": _GATE,
    },
)
_CONFLICTS = cases(
    "IST0145",
    {"text": _pair((80, "a.HERE.io", ""), (80, "a.HERE.io", "")), "finds": _BOTH},
    {"text": _pair((80, "a.HERE.io", ""), (80, "b.HERE.io", ""))},
    {"text": _pair((80, "a.HERE.io", ""), (8080, "a.HERE.io", ""))},
    {"text": _pair((80, "a.HERE.io", ""), (80, "a.HERE.io", ", bind: 10.0.0.1"))},
    {"text": _pair((80, "a.HERE.io", ""), (80, "a.HERE.io, b.HERE.io", "")), "finds": _BOTH},
    {"text": _pair((80, "a.HERE.io", ""), (80, '"*.HERE.io"', ""))},
    {
        "text": _pair((80, "a.HERE.io", ""), (80, "a.HERE.io", ""), "app: HERE, tier: edge"),
        "finds": _BOTH,
    },
    {"text": _pair((80, "a.HERE.io", ""), (80, "a.HERE.io", ""), "app: HERE, tier: inner")},
    {"text": _pair((80, "a.HERE.io", ""), (80, "a.HERE.io", ""), "tier: edge")},
    {
        "text": _gateway("gate", (80, "a.HERE.io", ""))
        + _gateway("second", (80, "a.HERE.io", ""), (80, "b.HERE.io", ""))
        + _WORKLOAD,
        "finds": _BOTH,
        "istioctl": ("Gateway second",),
        "because": "of several servers on a port, istioctl keeps another gateway's last one only",
    },
)

CASES: list[Case] = [*_WORKLOADS, *_PORTS, *_CONFLICTS]
