"""TrafficSplits, measured on requests (SMI conformance suite traffic-split, and more).

Each request is a choice of its own: one Envoy worker picks by weight at random. Bounds come from
`expected_range`, so a false alarm is less likely than one in a million for each comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.real.translator.traffic.chances import expected_range
from tests.real.translator.traffic.meshes import Mesh
from tests.real.translator.traffic.shops import LINE, LINES, Shop
from tests.real.translator.traffic.translated import Translated
from tests.testbed import smi
from tests.testbed.visitors import Request, Visitor

_FEW = 50
"""As many as the conformance suite sends; enough where all must go one way."""
_MANY = 400


@pytest.fixture
def services(shop: Shop) -> Shop:
    """The suite's services: a root and two backends, and one backend more, on both HTTP ports."""
    both = (shop.ports.http, shop.ports.admin)
    shop.open(dict.fromkeys(("app-svc", "app-b", "app-c", "app-d"), both))
    return shop


@pytest.fixture
def translated(mesh: Mesh) -> Callable[[Shop], Translated]:
    """For SMI objects about a shop, whose facts are those of this moment."""

    def about(shop: Shop) -> Translated:
        return Translated(
            mesh.cluster, facts=shop.facts, trust_domain="unused.test", settle=mesh.routes.wait
        )

    return about


@pytest.fixture
def splits(services: Shop, translated: Callable[[Shop], Translated]) -> Translated:
    """For SMI objects about the suite's services."""
    return translated(services)


def test_requests_go_to_the_root_without_a_split(services: Shop) -> None:
    assert services.shares(_FEW) == {"app-svc": _FEW}


@pytest.mark.parametrize(
    ("weights", "receiver"),
    [({"app-b": 1, "app-c": 0}, "app-b"), ({"app-b": 0, "app-c": 1}, "app-c")],
    ids=["1-0", "0-1"],
)
def test_one_backend_gets_everything(
    services: Shop, splits: Translated, weights: dict[str, int], receiver: str
) -> None:
    splits.apply(smi.split(services.namespace, weights))

    assert services.shares(_FEW) == {receiver: _FEW}


@pytest.mark.parametrize(
    "weights",
    [
        {"app-b": 1, "app-c": 1},
        {"app-b": 75, "app-c": 25},
        {"app-b": 25, "app-c": 75},
        {"app-b": 7, "app-c": 3},
        {"app-b": 900, "app-c": 300},
    ],
    ids=lambda weights: "-".join(map(str, weights.values())),
)
def test_backends_get_their_shares(
    services: Shop, splits: Translated, weights: dict[str, int]
) -> None:
    splits.apply(smi.split(services.namespace, weights))

    shares = services.shares(_MANY)

    assert shares.keys() == weights.keys()
    assert shares["app-b"] in expected_range(_MANY, weights["app-b"] / sum(weights.values()))


def test_weight_of_zero_gets_nothing_beside_others(services: Shop, splits: Translated) -> None:
    splits.apply(smi.split(services.namespace, {"app-b": 2, "app-c": 0, "app-d": 1}))

    shares = services.shares(_MANY)

    assert shares.keys() == {"app-b", "app-d"}
    assert shares["app-b"] in expected_range(_MANY, 2 / 3)


def test_nobody_answers_when_all_weights_are_zero(services: Shop, splits: Translated) -> None:
    splits.apply(smi.split(services.namespace, {"app-b": 0, "app-c": 0}))

    assert services.shares(_FEW) == {"503 ": _FEW}


_GROUP_MATCHES: dict[str, dict[str, Any]] = {
    "path": {"name": "carts", "pathRegex": "/cart/.*"},
    "method": {"name": "writes", "pathRegex": ".*", "methods": ["POST", "PUT"]},
    "header": {"name": "testers", "headers": [{"x-tester": "y.*"}]},
    "all": {
        "name": "all",
        "pathRegex": "/cart",
        "methods": ["GET"],
        "headers": [{"x-tester": "yes"}],
    },
}


@pytest.mark.parametrize(
    ("match", "inside", "outside"),
    [
        ("path", Request(path="/cart/7?full=1"), Request(path="/shop/cart/7")),
        ("path", Request(path="/cart/"), Request(path="/cart")),
        ("method", Request(method="POST"), Request(method="GET")),
        ("method", Request(method="PUT"), Request(method="DELETE")),
        ("header", Request(headers={"X-Tester": "yes"}), Request()),
        ("header", Request(headers={"x-tester": "y"}), Request(headers={"x-tester": "my"})),
        (
            "all",
            # A path pattern holds from the start, and need not reach the end.
            Request(path="/cart/7", headers={"x-tester": "yes"}),
            Request(path="/cart/7", headers={"x-tester": "yes!"}),
        ),
        (
            "all",
            Request(path="/cart", headers={"x-tester": "yes"}),
            Request(path="/cart", method="POST", headers={"x-tester": "yes"}),
        ),
    ],
)
def test_only_requests_that_match_are_split(
    services: Shop, splits: Translated, match: str, inside: Request, outside: Request
) -> None:
    group = smi.route_group(services.namespace, "chosen", _GROUP_MATCHES[match])
    split = smi.split(services.namespace, {"app-b": 1, "app-c": 1}, groups=("chosen",))
    splits.apply(group, split)

    assert services.shares(_FEW, request=outside) == {"app-svc": _FEW}
    # All to one of two has the chance 2 * 2**-50.
    assert services.shares(_FEW, request=inside).keys() == {"app-b", "app-c"}


def test_several_groups_match_any_of_them(services: Shop, splits: Translated) -> None:
    groups = [
        smi.route_group(services.namespace, name, _GROUP_MATCHES[name])
        for name in ("path", "method")
    ]
    split = smi.split(services.namespace, {"app-b": 1}, groups=("path", "method"))
    splits.apply(*groups, split)

    assert services.shares(_FEW, request=Request(path="/cart/7")) == {"app-b": _FEW}
    assert services.shares(_FEW, request=Request(method="POST")) == {"app-b": _FEW}
    assert services.shares(_FEW, request=Request(path="/")) == {"app-svc": _FEW}


def test_backend_gets_nothing_of_a_port_that_it_lacks(
    shop: Shop, translated: Callable[[Shop], Translated]
) -> None:
    both = (shop.ports.http, shop.ports.admin)
    shop.open({"app-svc": both, "app-b": both, "app-c": (shop.ports.http,)})
    translated(shop).apply(smi.split(shop.namespace, {"app-b": 1, "app-c": 1}))

    assert shop.shares(_FEW, port=shop.ports.http).keys() == {"app-b", "app-c"}
    assert shop.shares(_FEW, port=shop.ports.admin) == {"app-b": _FEW}


def test_port_that_no_backend_has_stays_with_the_root(
    shop: Shop, translated: Callable[[Shop], Translated]
) -> None:
    shop.open({"app-svc": (shop.ports.http, shop.ports.admin), "app-b": (shop.ports.http,)})
    translated(shop).apply(smi.split(shop.namespace, {"app-b": 1}))

    assert shop.shares(_FEW, port=shop.ports.http) == {"app-b": _FEW}
    assert shop.shares(_FEW, port=shop.ports.admin) == {"app-svc": _FEW}


def test_change_and_deletion_take_effect(services: Shop, splits: Translated) -> None:
    namespace = services.namespace
    splits.apply(smi.split(namespace, {"app-b": 1, "app-c": 0}))
    assert services.shares(_FEW) == {"app-b": _FEW}

    changed = smi.split(namespace, {"app-b": 0, "app-c": 1})
    splits.apply(changed)
    assert services.shares(_FEW) == {"app-c": _FEW}

    splits.delete(changed)
    assert services.shares(_FEW) == {"app-svc": _FEW}


def test_changed_group_moves_the_split(services: Shop, splits: Translated) -> None:
    namespace = services.namespace
    split = smi.split(namespace, {"app-b": 1}, groups=("chosen",))
    splits.apply(smi.route_group(namespace, "chosen", {"name": "a", "pathRegex": "/a"}), split)
    splits.apply(smi.route_group(namespace, "chosen", {"name": "b", "pathRegex": "/b"}))

    assert services.shares(_FEW, request=Request(path="/a")) == {"app-svc": _FEW}
    assert services.shares(_FEW, request=Request(path="/b")) == {"app-b": _FEW}


def test_gateway_splits_too(mesh: Mesh, services: Shop, splits: Translated) -> None:
    splits.apply(
        smi.split(services.namespace, {"app-b": 3, "app-c": 1}, gateways=(mesh.edge.gateway,))
    )

    shares = mesh.edge.visitor.ask_often(Request(host=services.host()), _MANY)

    assert shares.keys() == {"200 app-b", "200 app-c"}
    assert shares["200 app-b"] in expected_range(_MANY, 0.75)
    assert services.shares(_MANY)["app-b"] in expected_range(_MANY, 0.75)


def test_connections_are_split(line: Shop, translated: Callable[[Shop], Translated]) -> None:
    line.open(dict.fromkeys((LINE, "tcp-b", "tcp-c"), (line.ports.tcp,)), protocol="TCP")
    translated(line).apply(smi.split(LINES, {"tcp-b": 1, "tcp-c": 1}, service=LINE))

    visitor = Visitor(line.ports.tcp)
    answers = {visitor.say("which are you?").text.partition(":")[0] for _ in range(_FEW)}

    assert answers == {"tcp-b", "tcp-c"}
