"""Settings: a typo is an error with a hint, and no error shows a value."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.settings import (
    ChassisSettings,
    SettingsError,
    load,
    refuse_unknown,
    services,
)
from services.gateway.settings import GatewaySettings
from services.lifecycle.settings import LifecycleSettings

CANARY = "SUACANARYSEED5e0f7d"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No variable of the machine's own, and the one that lifecycle cannot do without."""
    import os

    for name in list(os.environ):
        if name.startswith("MESHBUS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MESHBUS_LIFECYCLE_DISTRIBUTIONS", str(tmp_path))
    return monkeypatch


def lifecycle() -> tuple[ChassisSettings, LifecycleSettings]:
    return load(LifecycleSettings, service="lifecycle")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MESHBUS_NATS_ULR", "did you mean MESHBUS_NATS_URL?"),
        ("MESHBUS_LOGLEVEL", "did you mean MESHBUS_LOG_LEVEL?"),
        ("MESHBUS_LIFECYCLE_SLOT", "did you mean MESHBUS_LIFECYCLE_SLOTS?"),
        ("MESHBUS_LIFECYLE_SLOTS", "did you mean MESHBUS_LIFECYCLE_SLOTS?"),
        ("MESHBUS_XYZZY", ""),
        ("MESHBUS_", ""),
    ],
)
def test_an_unknown_variable_is_an_error_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        refuse_unknown({name: CANARY}, settings_type=LifecycleSettings, service="lifecycle")
    text = str(caught.value)
    assert f"unknown setting {name}" in text
    assert hint in text
    assert ("did you mean" in text) == bool(hint)
    assert CANARY not in text


@pytest.mark.parametrize("service", services())
def test_variables_of_other_services_and_programs_pass(service: str) -> None:
    others = {f"MESHBUS_{name.upper()}_X": "1" for name in services() if name != service}
    environment = {**others, "PATH": "/bin", "MESHBUSY": "1", "NATS_URL": "x"}
    refuse_unknown(environment, settings_type=ChassisSettings, service=service)


def test_a_services_own_unknown_variable_does_not_pass(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("MESHBUS_LIFECYCLE_HUBB", "x")
    with pytest.raises(SettingsError, match="MESHBUS_LIFECYCLE_HUB"):
        lifecycle()
    load(GatewaySettings, service="gateway")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MESHBUS_HTTP_PORT", CANARY),
        ("MESHBUS_HTTP_PORT", "0"),
        ("MESHBUS_HTTP_PORT", "65536"),
        ("MESHBUS_PORT_OFFSET", "-1"),
        ("MESHBUS_LOG_LEVEL", CANARY),
        ("MESHBUS_LOG_FORMAT", CANARY),
        ("MESHBUS_LOOP", CANARY),
        ("MESHBUS_ACK_WAIT", CANARY),
        ("MESHBUS_INSECURE_KUBECONFIGS", CANARY),
        ("MESHBUS_LIFECYCLE_SLOTS", CANARY),
        ("MESHBUS_LIFECYCLE_SLOTS", "0"),
        ("MESHBUS_LIFECYCLE_PARALLEL_WRITES", "65"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_not_shown(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    environment.setenv("MESHBUS_NATS_SEED", CANARY)
    with pytest.raises(SettingsError) as caught:
        lifecycle()
    assert f"{name}: " in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_value_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MESHBUS_LIFECYCLE_DISTRIBUTIONS")
    with pytest.raises(SettingsError, match="MESHBUS_LIFECYCLE_DISTRIBUTIONS: "):
        lifecycle()


def test_every_unusable_value_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MESHBUS_HTTP_PORT", "x")
    environment.setenv("MESHBUS_LOG_LEVEL", "x")
    with pytest.raises(SettingsError, match=r"MESHBUS_LOG_LEVEL: .*MESHBUS_HTTP_PORT: "):
        lifecycle()


def test_secrets_are_not_in_a_representation(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MESHBUS_NATS_SEED", CANARY)
    environment.setenv("MESHBUS_SEALING_PRIVATE_KEY", CANARY)
    chassis, _ = lifecycle()
    assert chassis.nats_seed is not None
    assert chassis.nats_seed.get_secret_value() == CANARY
    assert CANARY not in repr(chassis)
    assert CANARY not in chassis.model_dump_json()


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30", timedelta(seconds=30)),
        ("1.5", timedelta(seconds=1.5)),
        ("500ms", timedelta(milliseconds=500)),
        ("20s", timedelta(seconds=20)),
        ("2 m", timedelta(minutes=2)),
        ("1h", timedelta(hours=1)),
        ("PT90S", timedelta(seconds=90)),
        ("00:01:00", timedelta(minutes=1)),
    ],
)
def test_lengths_of_time_are_read_in_people_s_forms(
    environment: pytest.MonkeyPatch, text: str, length: timedelta
) -> None:
    environment.setenv("MESHBUS_ACK_WAIT", text)
    environment.setenv("MESHBUS_LIFECYCLE_RENDER_TIMEOUT", text)
    chassis, own = lifecycle()
    assert chassis.ack_wait == length
    assert own.render_timeout == length


def test_the_defaults_are_a_configuration() -> None:
    chassis, own = lifecycle()
    assert chassis.insecure_kubeconfigs is False
    assert chassis.http_host == "127.0.0.1"
    assert own.slots >= 1


def test_settings_do_not_change_while_a_service_runs() -> None:
    from pydantic import ValidationError

    chassis, _ = lifecycle()
    with pytest.raises(ValidationError):
        chassis.log_level = "debug"
