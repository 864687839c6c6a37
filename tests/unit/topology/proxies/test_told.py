"""What is taken from the pages of istiod and of an agent, and what is passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.errors import TooManyValues
from services.topology.cluster.objects import Sync
from services.topology.proxies import told
from services.topology.proxies.told import ToldType, Word, read_figures, read_syncz, read_word
from tests.unit.topology.proxies.pages import AGENT, METRICS, SENT_AT, proxy, status, syncz

UPDATING = "Error adding/updating listener(s)"


def test_a_proxy_is_told_with_each_type_of_its_configuration() -> None:
    rejected = status("n2", "n1", f"{UPDATING}\n0.0.0.0_80: no such filter")
    [found] = read_syncz(syncz(proxy("a.b-0", CDS=status(), LDS=rejected, ECDS=status("", ""))))

    assert (found.namespace, found.pod, found.cluster) == ("shop", "a.b-0", "Kubernetes")
    assert (found.type, found.version, found.sent_at) == ("sidecar", "1.31.0", SENT_AT)
    assert set(found.types) == {
        ToldType("CDS", Sync.SYNCED),
        ToldType("ECDS", Sync.NOT_SENT),
        ToldType("LDS", Sync.REJECTED, error=f"{UPDATING} 0.0.0.0_80: no such filter"),
    }


def test_an_older_istiod_tells_some_types_and_no_errors() -> None:
    old = {"proxy": "web-0.shop", "cluster_sent": "a", "cluster_acked": "a", "route_sent": "b"}
    [found] = read_syncz(json.dumps([old]).encode())
    assert set(found.types) == {ToldType("CDS", Sync.SYNCED), ToldType("RDS", Sync.SENT)}


@pytest.mark.parametrize("id", ["", "istioctl", ".shop", "web-0."])
def test_who_is_no_pods_proxy_is_passed_over(id: str) -> None:
    assert list(read_syncz(json.dumps([{"proxy": id}, 7, None]).encode())) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"null", b'"text"'])
def test_what_is_no_list_of_proxies_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"list of proxies|unexpected|empty document"):
        read_syncz(body)


@pytest.mark.parametrize("resources", [7, ["a"], {"a": 7}, {"a": {"sent": ["x"]}}])
def test_odd_forms_of_a_proxy_end_nothing(resources: Any) -> None:
    found = read_syncz(json.dumps([{"proxy": "a.b", "resources": resources}, proxy()]).encode())
    assert [one.pod for one in found] == ["a", "web-0"]


def test_more_values_than_a_mesh_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "_MOST_VALUES", 100)
    with pytest.raises(TooManyValues):
        read_syncz(syncz(*(proxy(f"web-{number}") for number in range(9))))


def test_an_error_is_cut_and_its_secrets_are_masked() -> None:
    error = f"refused: -----BEGIN RSA PRIVATE KEY-----\nhunter2 {'x' * 5000}"
    [found] = read_syncz(syncz(proxy(LDS=status(error=error))))
    assert "hunter2" not in found.types[0].error
    assert len(found.types[0].error) <= 256


def test_istiods_metrics_tell_its_version_pushes_and_root() -> None:
    found = read_figures(METRICS)
    assert found.version == "1.31.0"
    assert found.connected == {"1.31.0": 7, "1.30.2": 1}
    assert found.pushes == {"cds": 40, "lds": 41}
    assert (found.push_errors, found.rejects) == (3, {"lds": 3})
    assert found.root_expires_s == 2079561600


def test_an_agent_tells_of_its_certificate_and_its_envoy() -> None:
    assert read_word(AGENT) == Word(3600.5, True, 3)
    assert read_word(b"") == Word()


@pytest.mark.parametrize("value", ["NaN", "+Inf", "text", ""])
def test_a_sample_that_is_no_number_is_passed_over(value: str) -> None:
    line = f'istio_agent_cert_expiry_seconds{{resource_name="default"}} {value}'
    assert read_word(line.encode()).expires_in_s is None
