"""The fingerprint of a mesh's configuration, and what is kept of a baseline."""

from __future__ import annotations

import copy
import re
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.perf.comparison.baselines import (
    MOST_RUNS,
    BaselineRecord,
    baseline_key,
    extended,
    fingerprint,
    renewed,
)
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import Tally

VERSIONS = ["1.30.3"]
ROUTE: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "cart", "namespace": "shop", "labels": {"app": "cart"}},
    "spec": {"hosts": ["cart"], "http": [{"route": [{"destination": {"host": "cart"}}]}]},
}
GATEWAY: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "door", "namespace": "shop"},
    "spec": {"gatewayClassName": "istio", "listeners": []},
}


def altered(obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a path of keys."""
    made = copy.deepcopy(obj)
    place = made
    *parents, last = path.split("|")
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return made


def measured(run: str, **changes: Any) -> Measurement:
    tally = Tally()
    for index in range(200):
        tally.request(at_s=index / 20, duration_us=1000 * index, late_us=0, code="200", is_ok=True)
    made = Measurement(
        run=run,
        service="cart.shop",
        fingerprint="abcdefgh",
        generator=GeneratorName.FORTIO,
        protocol=Protocol.HTTP1,
        started=datetime(2026, 9, 1, 12, tzinfo=timezone.utc),
        duration_s=10,
        requested_duration_s=10,
        requested_rate=20,
        connections=4,
        workers=1,
        tally=tally.message(),
    )
    return made.model_copy(update=changes)


# --- fingerprints --------------------------------------------------------------------------------


def test_a_fingerprint_is_short_and_does_not_depend_on_order() -> None:
    one = fingerprint([ROUTE, GATEWAY], ["1.30.3", "1.29.1"])
    assert re.fullmatch(r"[a-z2-7]{16}", one)
    assert fingerprint([GATEWAY, ROUTE, ROUTE], ["1.29.1", "1.30.3", "1.30.3"]) == one
    assert fingerprint([altered(ROUTE, "spec", dict(reversed(ROUTE["spec"].items())))], []) == (
        fingerprint([ROUTE], [])
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", {"conditions": []}),
        ("metadata|managedFields", [{"manager": "kubectl"}]),
        ("metadata|resourceVersion", "7"),
        ("metadata|uid", "6c7a"),
        ("metadata|generation", 3),
        ("metadata|creationTimestamp", "2026-09-01T12:00:00Z"),
        ("metadata|annotations", None),
        ("metadata|annotations|kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ("metadata|annotations|meta.helm.sh/release-name", "shop"),
        ("metadata|labels|helm.sh/chart", "shop-1.2"),
        ("metadata|annotations|istio.io/connectedAt", "2026-09-01T12:00:00Z"),
        ("apiVersion", "networking.istio.io/v1beta1"),
    ],
)
def test_bookkeeping_does_not_move_it(path: str, value: Any) -> None:
    other = altered(ROUTE, path, value)
    assert fingerprint([other], VERSIONS) == fingerprint([ROUTE], VERSIONS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec|hosts", ["cart", "checkout"]),
        ("metadata|labels|app", "other"),
        ("metadata|labels|istio.io/rev", "canary"),
        ("metadata|annotations|networking.istio.io/exportTo", "."),
        ("metadata|name", "other"),
        ("metadata|namespace", "other"),
        ("kind", "DestinationRule"),
    ],
)
def test_what_configures_the_mesh_moves_it(path: str, value: Any) -> None:
    other = altered(ROUTE, path, value)
    assert fingerprint([other], VERSIONS) != fingerprint([ROUTE], VERSIONS)


def test_the_order_of_routes_and_the_version_matter() -> None:
    http = [{"name": "a"}, {"name": "b"}]
    there, back = (altered(ROUTE, "spec|http", routes) for routes in (http, http[::-1]))
    assert fingerprint([there], VERSIONS) != fingerprint([back], VERSIONS)
    assert fingerprint([ROUTE], VERSIONS) != fingerprint([ROUTE], ["1.30.4"])
    assert fingerprint([ROUTE], VERSIONS) != fingerprint([], VERSIONS)


# --- records -------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.text())
def test_keys_are_safe(name: str, service: str, print_: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}", baseline_key(name, service, print_))


def test_keys_tell_baselines_apart() -> None:
    keys = {
        baseline_key("nightly", "cart.shop", "abc"),
        baseline_key("weekly", "cart.shop", "abc"),
        baseline_key("nightly", "cart.store", "abc"),
        baseline_key("nightly", "cart.shop", "abd"),
        baseline_key("nightly", "cart.shop", ""),
    }
    assert len(keys) == 5


def test_a_baseline_begins_with_a_run() -> None:
    record = extended(None, name="nightly", measurement=measured("a"))
    assert (record.name, record.service, record.fingerprint) == ("nightly", "cart.shop", "abcdefgh")
    assert record.runs == ["a"]
    assert record.stored == datetime(2026, 9, 1, 12, 0, 10, tzinfo=timezone.utc)
    assert record.figures["requests"] == 200
    assert record.figures["p50_ms"] == pytest.approx(99, rel=0.01)
    assert record.figures["rate"] == 20
    assert BaselineRecord.model_validate_json(record.model_dump_json()) == record


def test_a_baseline_takes_five_runs_and_then_stays() -> None:
    record = None
    for run in "abcdefg":
        record = extended(record, name="nightly", measurement=measured(run))
    assert record is not None
    assert record.runs == list("abcde")
    assert len(record.runs) == MOST_RUNS


def test_a_new_configuration_takes_the_runs_over() -> None:
    """Else each change of the mesh would begin a baseline with whatever it did to the service."""
    before = extended(None, name="nightly", measurement=measured("a"))
    changed = extended(before, name="nightly", measurement=measured("b", fingerprint="ijklmnop"))
    assert (changed.fingerprint, changed.runs) == ("ijklmnop", ["a", "b"])


def test_a_baseline_begins_anew_when_somebody_asks_and_says_so() -> None:
    record = extended(None, name="nightly", measurement=measured("a"))
    record = extended(record, name="nightly", measurement=measured("b"))
    anew = renewed(record, name="nightly", measurement=measured("c"), by="ada")
    assert anew.runs == ["c"]
    [told] = anew.replaced
    assert (told.run, told.by, told.runs) == ("c", "ada", ["a", "b"])
    later = renewed(
        extended(anew, name="nightly", measurement=measured("d")),
        name="nightly",
        measurement=measured("e"),
        by="bob",
    )
    assert [(each.run, each.by) for each in later.replaced] == [("c", "ada"), ("e", "bob")]
    assert renewed(None, name="nightly", measurement=measured("a"), by="ada").replaced == []
    assert BaselineRecord.model_validate_json(later.model_dump_json()) == later


def test_a_run_that_is_stored_again_counts_once() -> None:
    record = extended(None, name="nightly", measurement=measured("a"))
    record = extended(record, name="nightly", measurement=measured("b"))
    assert extended(record, name="nightly", measurement=measured("b")).runs == ["a", "b"]
