"""The launcher's parts: keys that are kept, ports that are told, a person's kubeconfigs."""

from __future__ import annotations

import base64
import importlib
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.addresses import HTTP, Addresses, Ports
from deploy.local.clusters import read_candidate
from deploy.local.doctor import bus
from deploy.local.keyrings import KeyRing
from deploy.local.launching import Launch, alone_in
from deploy.local.processes import LaunchError, Process
from deploy.local.supervising import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_AFTER_S, Supervised
from services.chassis.sealing import RECEIVERS
from services.gateway.settings import DEFAULT_PORT

PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
ARN = "arn:aws:eks:eu-north-1:111122223333:cluster/shop"


class TestKeys:
    def test_keys_are_made_once_and_are_their_owners_alone(self, tmp_path: Path) -> None:
        folder = tmp_path / "keys"
        first = KeyRing.kept(folder, ["gateway", "operator"])
        again = KeyRing.kept(folder, ["gateway", "operator", "perf"])

        assert again.nkeys["gateway"] == first.nkeys["gateway"]
        assert again.signing_key == first.signing_key
        assert again.household.public == first.household.public
        for receiver in RECEIVERS:
            assert again.household.private(receiver) == first.household.private(receiver)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        assert first.signing_key not in repr(first)

    @pytest.mark.parametrize("name", ["sealing.json", "signing.json", "operator.nk"])
    @pytest.mark.parametrize("text", ["", "[]", '{"lifecycle": 1}'])
    def test_a_broken_key_is_never_replaced(self, tmp_path: Path, name: str, text: str) -> None:
        KeyRing.kept(tmp_path, ["operator"])
        (tmp_path / name).write_text(text)
        with pytest.raises(LaunchError, match=str(tmp_path)):
            KeyRing.kept(tmp_path, ["operator"])
        assert (tmp_path / name).read_text() == text


class TestPorts:
    def test_they_are_those_of_the_services(self) -> None:
        own = {
            name: importlib.import_module(f"services.{name}.__main__").HTTP_PORT for name in HTTP
        }
        assert own == HTTP
        assert Ports.moved(0).gateway == DEFAULT_PORT
        assert Ports.moved(100).http["topology"] == HTTP["topology"] + 100

    def test_those_in_use_are_told_with_what_they_are_for(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            ports = Ports(nats=taken, monitoring=taken, gateway=taken, http={"perf": taken})
            with pytest.raises(LaunchError, match="MESHBUS_PORT_OFFSET") as told:
                ports.require_free()
        for words in (f"{taken} (NATS)", "(the gateway)", "(perf's health and metrics)"):
            assert words in str(told.value)

    @pytest.mark.parametrize("offset", ["", "-1", "ten", "60000"])
    def test_an_offset_that_is_none_is_refused(self, tmp_path: Path, offset: str) -> None:
        with pytest.raises(LaunchError, match="MESHBUS_PORT_OFFSET"):
            Launch.of(tmp_path, clusters=[], environment={"MESHBUS_PORT_OFFSET": offset})


def test_settings_of_the_caller_count_but_for_what_the_launcher_gives(tmp_path: Path) -> None:
    environment = {
        "MESHBUS_TOPOLOGY_DRIFT": "heal",
        "MESHBUS_NATS_URL": "nats://elsewhere:4222",
        "MESHBUS_LIFECYCLE_DISTRIBUTIONS": "/istio",
        "HOME": "/root",
    }
    launch = Launch.of(tmp_path, clusters=[], environment=environment)
    assert launch.settings == {
        "MESHBUS_TOPOLOGY_DRIFT": "heal",
        "MESHBUS_LIFECYCLE_DISTRIBUTIONS": "/istio",
    }


def test_one_folder_has_one_launcher(tmp_path: Path) -> None:
    with alone_in(tmp_path) as first, alone_in(tmp_path) as second:
        assert (first, second) == (True, False)
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    with alone_in(tmp_path) as later:
        assert later


class TestAddresses:
    def test_they_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        addresses = Addresses(
            gateway="127.0.0.1:10000",
            console="http://127.0.0.1:9114/",
            nats="nats://127.0.0.1:4222",
            operator_nkey="/keys/operator.nk",
            kube=[{"name": "kind", "cluster": "k6fhwq2s5tva", "server": "https://127.0.0.1:6443"}],
            monitoring="http://127.0.0.1:8222",
            health={"perf": "http://127.0.0.1:9113"},
            releases="/istio",
            logs="/logs",
        )
        addresses.write(tmp_path)
        assert Addresses.read(tmp_path) == addresses
        screen = addresses.screen("")
        for words in ("ADAPTER_URLS=127.0.0.1:10000", "kind (k6fhwq2s", addresses.context_line):
            assert words in screen
        assert "MESHBUS_LIFECYCLE_DISTRIBUTIONS" in screen
        assert "1.31.0" in addresses.screen("1.31.0")

    def test_none_and_broken_ones(self, tmp_path: Path) -> None:
        assert Addresses.read(tmp_path) is None
        (tmp_path / "addresses.json").write_text('{"gateway": 1}')
        with pytest.raises(LaunchError, match="start it again"):
            Addresses.read(tmp_path)


def kubeconfig(
    folder: Path, *, user: dict[str, Any], cluster: dict[str, Any] | None = None
) -> Path:
    names = ("other", ARN)
    reached = {"server": "https://127.0.0.1:6443", **(cluster or {})}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "other",
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
        "clusters": [{"name": name, "cluster": dict(reached)} for name in names],
        "users": [{"name": "other", "user": {"token": "other"}}, {"name": ARN, "user": user}],
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(document))
    return file


class TestCandidates:
    def test_a_context_is_taken_alone(self, tmp_path: Path) -> None:
        file = kubeconfig(tmp_path, user={"token": "mine"})
        found = read_candidate(f"{file}:{ARN}")
        assert (found.config.context, found.config.token) == (ARN, "mine")
        assert "other" not in found.text
        assert "mine" not in repr(found)
        assert read_candidate(str(file)).config.token == "other"

    def test_files_are_taken_in(self, tmp_path: Path) -> None:
        (tmp_path / "ca.crt").write_text(PEM)
        (tmp_path / "user.crt").write_text(PEM)
        user = {"client-certificate": "user.crt", "client-key": str(tmp_path / "user.crt")}
        file = kubeconfig(tmp_path, user=user, cluster={"certificate-authority": "ca.crt"})
        found = read_candidate(f"{file}:{ARN}")
        assert found.config.ca_pem == found.config.client_key_pem == PEM.encode()
        assert base64.b64encode(PEM.encode()).decode() in found.text
        (tmp_path / "ca.crt").unlink()
        with pytest.raises(LaunchError, match=r"ca\.crt cannot be read"):
            read_candidate(f"{file}:{ARN}")

    @pytest.mark.parametrize(
        "user",
        [{"exec": {"command": "aws", "apiVersion": "v1"}}, {"auth-provider": {"name": "gcp"}}],
    )
    def test_a_program_is_refused_with_the_way_out(
        self, tmp_path: Path, user: dict[str, Any]
    ) -> None:
        file = kubeconfig(tmp_path, user=user)
        with pytest.raises(LaunchError, match=r"MB-1102.*make kubeconfig CONTEXT="):
            read_candidate(f"{file}:{ARN}")

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        file = kubeconfig(tmp_path, user={"token": "mine"})
        with pytest.raises(LaunchError, match="no such kubeconfig"):
            read_candidate(str(tmp_path / "none:x"))
        with pytest.raises(LaunchError, match="MB-1101"):
            read_candidate(f"{file}:nobody")
        file.write_text("{}")
        with pytest.raises(LaunchError, match="no current-context"):
            read_candidate(str(file))


class TestSupervised:
    def test_pauses_grow_and_begin_again_after_a_steady_time(self, tmp_path: Path) -> None:
        process = Process("short", ["/bin/sh", "-c", "exit 3"], log=tmp_path / "log")
        said: list[str] = []
        process.start()
        child = Supervised(process=process, start=process.start, is_ready=lambda: True)
        now, pauses = time.monotonic(), []
        for _ in range(9):
            process.popen.wait()
            pauses.append(child.look(now, said.append))
            assert child.descriptor is None
            now += pauses[-1]
            child.look(now, said.append)  # it is started again
        assert pauses[:3] == [FIRST_PAUSE_S, FIRST_PAUSE_S * 2, FIRST_PAUSE_S * 4]
        assert pauses[-1] == LONGEST_PAUSE_S
        assert "short ended with status 3" in said[0]
        assert str(process.log) in said[0]
        process.popen.wait()
        assert child.look(now + STEADY_AFTER_S + 1, said.append) == FIRST_PAUSE_S

    def test_a_return_is_told_once(self, tmp_path: Path) -> None:
        process = Process("steady", ["/bin/sleep", "600"], log=tmp_path / "log")
        said: list[str] = []
        answers = iter([False, True])

        def is_ready() -> bool:
            if not next(answers):
                raise ConnectionRefusedError
            return True

        child = Supervised(process=process, start=process.start, is_ready=is_ready)
        process.start()
        try:
            process.kill()
            now = time.monotonic()
            pause = child.look(now, said.append)
            assert "steady was killed (signal 9)" in said[0]
            for later in range(1, 5):
                child.look(now + pause + later, said.append)
            assert said[1:] == ["steady is ready again"]
        finally:
            process.kill()


class TestDoctor:
    def test_an_upgrade_that_nobody_has_finished_is_told(self) -> None:
        whole = {"gateway": ["0.1.0"], "lifecycle": ["0.1.0", "0.1.0"], "somebody-elses": ["7"]}
        assert bus.one_version(whole) == []
        [told] = bus.one_version(whole | {"lifecycle": ["0.1.0", "0.2.0"]})
        assert "0.1.0 and 0.2.0" in told.text
        assert "upgrade.md" in told.remedy
