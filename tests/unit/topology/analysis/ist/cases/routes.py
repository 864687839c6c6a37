"""VirtualServices: hosts that several claim, routes that nothing reaches."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_WEB = ("VirtualService web",)


def _two(hosts: str, others: str, more: str = "", others_more: str = "") -> str:
    return "---".join(
        f"""
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{listed}], {extra} http: [{{redirect: {{uri: /}}}}]}}
"""
        for name, listed, extra in (("web", hosts, more), ("other", others, others_more))
    )


_BOTH = ("VirtualService web", "VirtualService other")
_HOSTS = cases(
    "IST0109",
    {"text": _two("a.HERE.io", "a.HERE.io"), "finds": _BOTH},
    {"text": _two("a.HERE.io", "b.HERE.io")},
    {"text": _two("reviews", "reviews.HERE.svc.cluster.local"), "finds": _BOTH},
    {"text": _two("a.HERE.io", "a.HERE.io", others_more="gateways: [gone],")},
    {"text": _two("a.HERE.io", "a.HERE.io", others_more="gateways: [gone, mesh],"), "finds": _BOTH},
    {"text": _two("a.HERE.io", '"*.HERE.io"')},
    {"text": _two("a.HERE.io", '"*.HERE.io"', more="exportTo: [.],"), "finds": _BOTH},
    {"text": _two('"*.HERE.io"', "a.HERE.io", more="exportTo: [.],"), "finds": _BOTH},
    {"text": _two("a.HERE.io", "a.HERE.io", "exportTo: [x],", "exportTo: [y],")},
    {"text": _two("a.HERE.io", "a.HERE.io", "exportTo: [x, y],", "exportTo: [y],"), "finds": _BOTH},
    {"text": _two("a.HERE.io", '"*.HERE.io"', "exportTo: [.],", "exportTo: [.],")},
    {
        "text": _two("reviews, reviews.HERE.svc.cluster.local", "b.HERE.io"),
        "finds": _WEB,
    },
)


def _order(routes: str, protocol: str = "http") -> str:
    return f"""
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: [web.HERE.example.com]
  {protocol}:
{routes}
"""


_END = "route: [{destination: {host: reviews}}]"
_A = "match: [{uri: {exact: /a}}]"
_UNREACHED = cases(
    "IST0130",
    {"text": _order(f"  - {{{_END}}}\n  - {{{_END}}}"), "finds": _WEB},
    {"text": _order(f"  - {{{_A}, {_END}}}\n  - {{{_END}}}")},
    {"text": _order(f"  - {{{_END}}}\n  - {{{_A}, {_END}}}"), "finds": _WEB},
    {"text": _order(f"  - {{{_A}, {_END}}}\n  - {{{_A}, {_END}}}"), "finds": _WEB},
    {
        "text": _order(f"  - {{match: [{{port: 80}}], {_END}}}\n  - {{{_END}}}", "tcp"),
    },
    {
        "text": _order("\n".join([f"  - {{match: [{{port: 80}}], {_END}}}"] * 2), "tcp"),
        "finds": _WEB,
    },
    {
        "text": _order(
            "\n".join(
                [f"  - {{match: [{{port: 443, sniHosts: [web.HERE.example.com]}}], {_END}}}"] * 2
            ),
            "tls",
        ),
        "finds": _WEB,
    },
)


def _prefixes(first: str, second: str) -> str:
    return _order(f"  - {{match: [{{{first}}}], {_END}}}\n  - {{match: [{{{second}}}], {_END}}}")


_P, _PQ = "uri: {prefix: /p}", "uri: {prefix: /p/q}"
_INEFFECTIVE = cases(
    "IST0131",
    {"text": _prefixes(_P, _PQ), "finds": _WEB},
    {"text": _prefixes(_PQ, _P)},
    {
        "text": _order(f"  - {{match: [{{name: x, {_P}}}, {{name: y, {_P}}}], {_END}}}"),
        "finds": _WEB,
    },
    {"text": _order(f"  - {{match: [{{{_P}}}, {{uri: {{prefix: /x}}}}], {_END}}}")},
    {"text": _prefixes(f"{_P}, port: 80", _PQ)},
    {"text": _prefixes(f"{_P}, method: {{exact: GET}}", _PQ), "finds": _WEB},
    {"text": _prefixes(f"{_P}, method: {{exact: PUT}}", _PQ)},
    {"text": _prefixes(f"{_P}, headers: {{x: {{exact: a}}}}", _PQ)},
    {
        "text": _prefixes(
            f"{_P}, headers: {{x: {{exact: a}}}}", f"{_PQ}, headers: {{x: {{exact: a}}}}"
        ),
        "finds": _WEB,
    },
    {
        "text": _prefixes(
            f"{_P}, headers: {{x: {{exact: a}}}}", f"{_PQ}, headers: {{x: {{exact: b}}}}"
        ),
    },
    {
        "text": _prefixes(
            f"{_P}, queryParams: {{x: {{exact: a}}}}", f"{_PQ}, queryParams: {{x: {{regex: a}}}}"
        ),
        "finds": _WEB,
    },
    {"text": _prefixes(f"{_P}, authority: {{exact: a}}", _PQ), "finds": _WEB},
    {"text": _prefixes(_P, f"{_PQ}, authority: {{exact: a}}")},
    {
        "text": _prefixes(f"{_P}, withoutHeaders: {{x: {{exact: a}}}}", _PQ),
    },
)

CASES: list[Case] = [*_HOSTS, *_UNREACHED, *_INEFFECTIVE]
