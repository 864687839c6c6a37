"""A service's start loads nothing that only a few uses need: each of these is a tenth of it."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from services.chassis.addresses import AddressPolicy
from services.chassis.http import answers

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "lifecycle", "translator", "perf", "topology")
DEAR = (
    "cryptography",
    "hdrh",
    "jinja2",
    "matplotlib",
    "numpy",
    "opentelemetry.sdk",
    "prompt_toolkit",
    "requests",
    "rich",
    "typer",
)
_TOLD = """
import json, sys
import services.{service}.__main__
from services.chassis.http import answers
import aiohttp.connector
print(json.dumps([
    [name for name in {dear} if name in sys.modules],
    answers.trusting_the_machine.cache_info().currsize,
    aiohttp.connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"],
    aiohttp.connector._SSL_CONTEXT_VERIFIED.verify_mode == 2,
]))
"""


@pytest.mark.parametrize("service", SERVICES)
def test_a_start_loads_what_it_uses(service: str) -> None:
    code = _TOLD.format(service=service, dear=DEAR)
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    loaded, contexts, authorities, is_verifying = json.loads(told.stdout)
    assert loaded == []
    assert contexts == 0
    # aiohttp's own context verifies, and trusts nobody: who forgets to bring one fails.
    assert (authorities, is_verifying) == (0, True)


async def test_a_session_trusts_whom_the_machine_does() -> None:
    async with answers.session(AddressPolicy(), timeout=aiohttp.ClientTimeout(total=1)) as client:
        connector = client.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        context = connector._ssl
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()
