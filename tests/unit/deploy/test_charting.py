"""The chart's data, held against the code that it speaks of; keys that are never replaced."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

from deploy.charting import FILES, NETWORK, alerts, dashboard, files
from deploy.cluster.accounts import AccountMissing, kubeconfig_of
from deploy.cluster.keys import missing_keys, missing_server_entries, seed_entry
from deploy.nats.keys import UserKey
from deploy.nats.permissions import USERS
from services.chassis.granting import Checker, Signer
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.sealing import RECEIVERS, Keys
from services.chassis.settings import ChassisSettings, services
from services.chassis.telemetry.metrics import CATALOGUE

SERVICES = yaml.safe_load((FILES / "services.yaml").read_text())


def test_the_generated_files_are_fresh() -> None:
    stale = [path.name for path, text in files().items() if path.read_text() != text]
    assert stale == [], "run `make docs`"


def test_services_listen_where_the_chart_says() -> None:
    assert sorted(SERVICES) == services()
    for name, fixed in SERVICES.items():
        module = importlib.import_module(f"services.{name}.__main__")
        assert fixed["http"] == module.HTTP_PORT
        [way] = [
            way for way in yaml.safe_load(NETWORK.read_text()) if fixed["http"] in way["ports"]
        ]
        assert way["to"] == name


def test_each_key_of_the_chart_is_made() -> None:
    made = missing_keys({})
    for name, fixed in SERVICES.items():
        assert fixed["keys"]["MESHBUS_NATS_SEED"] == seed_entry(name)
        assert set(fixed["keys"].values()) <= set(made)
        given = {variable: made[entry] for variable, entry in fixed["keys"].items()}
        settings = ChassisSettings.model_validate(
            {
                "sealing_public_keys": made["sealing-public"],
                "sealing_private_key": given.get("MESHBUS_SEALING_PRIVATE_KEY"),
            }
        )
        Keys.of(settings).check(name)
    assert Checker.of(made["signing-public"]) is not None
    assert Signer.of(made["signing"]) is not None


def test_keys_that_are_there_stay() -> None:
    made = missing_keys({})
    assert missing_keys(made) == {}
    # A receiver that a new version brings joins the others in the list.
    older = {name: value for name, value in made.items() if name != "sealing-perf"}
    older["sealing-public"] = ",".join(
        part for part in made["sealing-public"].split(",") if not part.startswith("perf=")
    )
    added = missing_keys(older)
    assert set(added) == {"sealing-perf", "sealing-public"}
    assert added["sealing-public"].startswith(older["sealing-public"] + ",perf=")
    assert added["sealing-public"].count("=") >= len(RECEIVERS)


def test_the_server_gets_public_halves_alone() -> None:
    keys = missing_keys({})
    server = missing_server_entries({}, keys)
    assert missing_server_entries(server, keys) == {}
    for user in USERS:
        assert server[f"MESHBUS_NKEY_{user.name.upper()}"] == (
            UserKey.of(keys[seed_entry(user.name)]).public
        )
    assert not set(server.values()) & set(keys.values())
    # One whose key was changed by hand is told to the server; the store's key never changes.
    renewed = {**keys, seed_entry("perf"): UserKey.fresh().seed}
    assert set(missing_server_entries(server, renewed)) == {"MESHBUS_NKEY_PERF"}


def test_a_mounted_account_is_a_kubeconfig_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.token\n")
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    config = parse_kubeconfig(kubeconfig_of(tmp_path, name="home"))
    assert (config.context, config.token) == ("home", "a.token")
    assert config.server == "https://kubernetes.default.svc"
    (tmp_path / "token").unlink()
    with pytest.raises(AccountMissing, match=str(tmp_path)):
        kubeconfig_of(tmp_path)


def test_alerts_and_panels_are_of_metrics_that_exist() -> None:
    names = {metric.name for metric in CATALOGUE}
    rules = alerts()["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        asked = set(re.findall(r"meshbus_\w+", rule["expr"]))
        assert {name.removesuffix("_bucket") for name in asked} <= names
        assert rule["annotations"]["description"]
    assert [panel["title"] for panel in dashboard()["panels"]] == [m.name for m in CATALOGUE]


def test_labels_in_expressions_are_those_of_the_metric() -> None:
    for metric in CATALOGUE:
        if metric.alert:
            asked = set(re.findall(r"[{,]\s*(\w+)=", metric.alert.expression))
            grouped = re.findall(r"by \((\w+)\)", metric.alert.expression)
            assert asked | (set(grouped) - {"le"}) <= set(metric.labels)
