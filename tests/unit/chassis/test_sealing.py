"""What was sealed to one service is read by nobody else, and keys can be changed in between."""

from __future__ import annotations

import pytest

from deploy.local.households import Household
from services.chassis.bus import envelopes
from services.chassis.errors import SealingKeyMissing
from services.chassis.messages import Command
from services.chassis.sealing import RECEIVERS, Keys
from services.chassis.settings import ChassisSettings, SettingsError


def test_only_the_receiver_opens() -> None:
    household = Household()
    sealed = household.keys("gateway").sealed(b"a secret", recipient="perf")

    assert b"a secret" not in sealed
    assert household.keys("perf").opened(sealed) == b"a secret"
    for other in ("lifecycle", "translator", "topology", "gateway"):
        with pytest.raises(SealingKeyMissing):
            household.keys(other).opened(sealed)


def test_a_changed_key_opens_the_old_and_the_new_until_it_is_forgotten() -> None:
    household = Household()
    before = household.keys().sealed(b"before", recipient="perf")
    household.prepare("perf")
    meanwhile = household.keys().sealed(b"meanwhile", recipient="perf")
    household.publish("perf")
    after = household.keys().sealed(b"after", recipient="perf")

    perf = household.keys("perf")
    opened = [perf.opened(sealed) for sealed in (before, meanwhile, after)]
    assert opened == [b"before", b"meanwhile", b"after"]

    household.forget("perf")
    assert household.keys("perf").opened(after) == b"after"
    with pytest.raises(SealingKeyMissing):
        household.keys("perf").opened(meanwhile)


def test_nothing_is_sent_in_clear_because_a_name_is_missing() -> None:
    with pytest.raises(SealingKeyMissing, match="seal something to unknown"):
        envelopes.sealed(b"x", {}, keys=Household().keys("gateway"), recipient="unknown")


@pytest.mark.parametrize("body", ["small", "large " * 20_000])
def test_a_sealed_command_is_read_by_its_service(body: str) -> None:
    household = Household()
    command = Command(operation="op", kind="custom", body=body)
    plain, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
    sealed, headers = envelopes.sealed(
        plain, headers, keys=household.keys("gateway"), recipient="lifecycle"
    )

    assert envelopes.is_sealed(headers)
    assert body.encode()[:200] not in sealed
    decoded = envelopes.decode(Command, sealed, headers, keys=household.keys("lifecycle"))
    assert decoded == command
    with pytest.raises(SealingKeyMissing):
        envelopes.decode(Command, sealed, headers, keys=household.keys("perf"))


def test_a_plain_command_of_a_person_is_taken() -> None:
    keys = Household().keys("lifecycle")
    decoded = envelopes.decode(Command, b'{"operation": "o", "kind": "istio"}', None, keys=keys)
    assert decoded.operation == "o"


def test_garbage_opens_nothing() -> None:
    for garbage in (b"", b"x", b"x" * 200):
        with pytest.raises(SealingKeyMissing):
            Household().keys("lifecycle").opened(garbage)


@pytest.mark.parametrize(
    "text", ["short", "lifecycle=short", "lifecycle=not base64!", "=c2hvcnQ=", "lifecycle"]
)
def test_a_wrong_list_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="MESHBUS_SEALING_PUBLIC_KEYS"):
        Keys.of(ChassisSettings(sealing_public_keys=text))


def test_a_start_without_its_keys_fails() -> None:
    household = Household()
    for service in ("gateway", *RECEIVERS):
        household.keys(service).check(service)
    with pytest.raises(SettingsError, match="lacks lifecycle, translator, perf, topology"):
        Keys().check("gateway")
    with pytest.raises(SettingsError, match="MESHBUS_SEALING_PRIVATE_KEY is missing"):
        household.keys("gateway").check("perf")
    with pytest.raises(SettingsError, match="has no private half"):
        household.keys("translator").check("perf")
