"""Processes that were forked from one with their modules are processes like any other."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from deploy.local.installations import ROOT, clean_environment
from tests.testbed import loopback, warm
from tests.testbed.processes import Identity, wait_until
from tests.testbed.warm import WarmProcess


@pytest.fixture
def environment() -> Mapping[str, str]:
    """Of a gateway whose NATS is away: it waits for it."""
    ports = {f"MESHBUS_{name}_PORT": str(loopback.take_port()) for name in ("HTTP", "GATEWAY")}
    nats = f"nats://{loopback.HOST}:{loopback.take_port()}"
    return {**clean_environment(), **ports, "PYTHONPATH": str(ROOT), "MESHBUS_NATS_URL": nats}


@pytest.fixture
def waiting(tmp_path: Path, environment: Mapping[str, str]) -> Iterator[WarmProcess]:
    gateway = WarmProcess("g", "gateway", log=tmp_path / "g.log", environment=environment)
    gateway.start()
    yield gateway
    gateway.kill()


def _is_heard_of(process: WarmProcess) -> bool:
    return process.log.stat().st_size > 0


def test_it_tells_how_it_ended_and_its_log_tells_why(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    wrong = {**environment, "MESHBUS_HTTP_PORT": "no number"}
    gateway = WarmProcess("g", "gateway", log=tmp_path / "g.log", environment=wrong)
    gateway.start()
    assert gateway.popen.wait(60.0) not in (0, None)
    assert not gateway.is_running
    assert "MESHBUS_HTTP_PORT" in gateway.log_tail()


def test_it_has_an_environment_of_its_own(waiting: WarmProcess) -> None:
    wait_until(lambda: _is_heard_of(waiting), timeout_s=60.0, what="its first words")
    assert waiting.is_running
    assert Identity.of(waiting.pid, name="g").is_running


def test_it_is_paused_killed_and_started_again(waiting: WarmProcess) -> None:
    waiting.pause()
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.popen.wait(0.1)
    first = Identity.of(waiting.pid, name="g")
    waiting.kill()
    assert waiting.popen.returncode == -signal.SIGKILL
    assert not first.is_running
    waiting.start()
    assert waiting.is_running
    assert Identity.of(waiting.pid, name="g") != first


def test_it_dies_with_the_one_that_forked_it(
    tmp_path: Path, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_ADDRESSES", {})
    gateway = WarmProcess("g", "gateway", log=tmp_path / "g.log", environment=environment)
    gateway.start()
    child = Identity.of(gateway.pid, name="g")
    status = Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()
    Identity.of(int(status[1]), name="warm gateway").end(grace_s=0.0)
    assert gateway.popen.wait(10.0) == -signal.SIGKILL
    wait_until(lambda: not child.is_running, timeout_s=10.0, what="its end")
