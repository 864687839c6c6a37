"""Which targets and which loads are refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.chassis.addresses import AddressPolicy, networks
from services.chassis.errors import LoadRefused, LoadTestMalformed, MeshbusError, TargetRefused
from services.perf.adapters.targets import Targets
from services.perf.definitions.allowance import Allowance, Ceilings
from services.perf.definitions.loads import LoadTest, Saturation, Stage, Target
from services.perf.settings import PerfSettings


def allowance(*, takes_prometheus: bool = False, targets: str = "") -> Allowance:
    own = PerfSettings(targets=targets) if targets else PerfSettings()
    return Allowance.of(
        own.target_list,
        never=["nats"],
        ceilings=Ceilings(
            rate=own.most_rate,
            connections=own.most_connections,
            duration_s=own.longest.total_seconds(),
        ),
        takes_prometheus=takes_prometheus,
    )


def asked(url: str = "http://a.b.svc/", **fields: Any) -> LoadTest:
    stages = [Stage(rate=10, duration_s=10)]
    return LoadTest.model_validate({"targets": [Target(url=url)], "stages": stages, **fields})


@pytest.mark.parametrize(
    "url",
    [
        "http://checkout.shop.svc/",
        "http://Checkout.Shop.SVC.cluster.local.:8080/",
        "checkout.shop.svc:9000",
        "http://localhost:8080/",
        "http://127.0.0.1:8080/",
        "http://[::1]:8080/",
        "http://172.18.255.200/productpage",
        "http://192.168.49.2:30080/",
    ],
)
def test_services_and_local_gateways_are_tested(url: str) -> None:
    allowance().check(asked(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://0.0.0.0:8222/",
        "http://nats:8222/",
        "http://nats.meshbus.svc:8222/",
        "http://kubernetes.default.svc/",
        "http://shop.example.com/",
        "http://203.0.113.9/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://evil.example/?a=.svc",
        "http://a.svc.evil.example/",
        "svc:80",
    ],
)
def test_others_are_refused_with_a_way_out(url: str) -> None:
    with pytest.raises(TargetRefused) as refused:
        allowance().check(asked(url))
    assert refused.value.code == "MB-6013"
    assert "MESHBUS_PERF_TARGETS" in refused.value.remedy


def test_the_operator_lists_what_else() -> None:
    listed = allowance(targets="*.svc,shop.example.com,203.0.113.0/24")
    listed.check(asked("https://shop.example.com/"))
    listed.check(asked("http://203.0.113.9/"))
    with pytest.raises(TargetRefused):
        listed.check(asked("http://127.0.0.1/"))


@pytest.mark.parametrize(
    ("fields", "setting"),
    [
        ({"stages": [Stage(rate=100_000, duration_s=10)]}, "MOST_RATE"),
        ({"stages": [Stage(rate=1, duration_s=86_400)]}, "LONGEST"),
        ({"stages": [Stage(rate=1, duration_s=1801)] * 2}, "LONGEST"),
        ({"connections": 10_000}, "MOST_CONNECTIONS"),
        ({"saturation": Saturation(lowest=10, highest=100_000)}, "MOST_RATE"),
        ({"saturation": Saturation(lowest=1, highest=4000, step_duration_s=600)}, "LONGEST"),
    ],
    ids=["rate", "length", "stages", "connections", "saturation", "long search"],
)
def test_the_ceilings_are_low(fields: dict[str, Any], setting: str) -> None:
    with pytest.raises(LoadRefused) as refused:
        allowance().check(asked(**fields))
    assert refused.value.code == "MB-6014"
    assert f"MESHBUS_PERF_{setting}" in refused.value.remedy


def test_a_day_at_a_hundred_thousand_is_refused() -> None:
    with pytest.raises(LoadRefused):
        allowance().check(asked(stages=[Stage(rate=100_000, duration_s=86_400)]))


def test_a_prometheus_of_the_tests_choice_is_refused() -> None:
    test = asked(prometheus="http://nats:8222")
    with pytest.raises(LoadTestMalformed, match=r"spec\.prometheus") as refused:
        allowance().check(test)
    assert "MESHBUS_PERF_PROMETHEUS_FROM_TESTS" in refused.value.remedy
    allowance(takes_prometheus=True).check(test)


async def test_a_listed_name_at_a_denied_address_is_refused() -> None:
    listed = allowance(targets="localhost,nowhere.invalid,169.254.0.0/16")
    denying = Targets(listed, AddressPolicy(denied=networks(["127.0.0.0/8", "::1/128"])))
    await Targets(listed, AddressPolicy()).check(Target(url="http://localhost/"))
    await denying.check(Target(url="http://nowhere.invalid/"))
    for url in ("http://localhost/", "http://169.254.169.254/"):
        with pytest.raises(MeshbusError) as refused:
            await denying.check(Target(url=url))
        assert isinstance(refused.value, TargetRefused)


def test_the_longest_test_is_an_hour() -> None:
    assert PerfSettings().longest == timedelta(hours=1)
