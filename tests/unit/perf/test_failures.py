"""What a generator's complaints mean."""

from __future__ import annotations

import pytest

from services.chassis.errors import (
    GeneratorFailed,
    MeshbusError,
    TargetSilent,
    TargetUnknown,
    TargetUnreachable,
    TargetUntrusted,
)
from services.perf.definitions.loads import Target
from services.perf.generators import failures

TARGET = Target(url="http://shop.example:8080/buy?token=canary-q", headers={"X-Key": " canary-h "})
RPC = "rpc error: code = Unavailable desc = connection error: desc = "
GET = 'Unable to send request: Get "http://shop.example:8080/buy?token=canary-q": '


@pytest.mark.parametrize(
    ("complaint", "kind"),
    [
        ("Unable to connect: dial tcp 10.0.0.1:8080: connect: connection refused", "unreachable"),
        (GET + "dial tcp 10.0.0.1:8080: connect: connection refused", "unreachable"),
        ("Unable to connect: dial tcp 10.0.0.1:80: connect: no route to host", "unreachable"),
        ("Unable to connect: dial tcp 10.0.0.1:80: i/o timeout", "unreachable"),
        ("unable to connect to shop.example:8080 Connection refused", "unreachable"),
        ("Read error: read tcp 1.2.3.4:5->5.6.7.8:80: read: connection reset by peer", "closed"),
        (GET + "EOF", "closed"),
        ("short read", "closed"),
        (
            RPC + '"error reading server preface: EOF"',
            "closed",
        ),
        ("Unable to lookup: lookup shop.example on 10.0.0.53:53: no such host", "unknown"),
        ("lookup shop.example on 10.0.0.53:53: read udp 10.0.0.2:1: i/o timeout", "unknown"),
        ("lookup shop.example on 10.0.0.53:53: server misbehaving", "unknown"),
        ("unable to resolve shop.example:8080 Name or service not known", "unknown"),
        ("Unable to TLS connect: x509: certificate signed by unknown authority", "untrusted"),
        ("tls: first record does not look like a TLS handshake", "untrusted"),
        ("http: server gave HTTP response to HTTPS client", "untrusted"),
        (
            RPC + '"transport: authentication handshake failed: x509: …"',
            "untrusted",
        ),
        ("Timeout error (incomplete/invalid response): read tcp a->b: i/o timeout", "silent"),
        (GET + "context deadline exceeded (Client.Timeout exceeded)", "silent"),
    ],
)
def test_each_complaint_has_its_error(complaint: str, kind: str) -> None:
    kinds: dict[str, type[MeshbusError]] = {
        "unreachable": TargetUnreachable,
        "closed": TargetUnreachable,
        "unknown": TargetUnknown,
        "untrusted": TargetUntrusted,
        "silent": TargetSilent,
    }
    error = failures.unanswered([complaint], target=TARGET)
    assert type(error) is kinds[kind], error
    assert ("another protocol" in error.cause) == (kind == "closed")
    assert "shop.example:8080" in error.summary
    assert error.cause
    assert error.remedy
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    "url",
    ["http://timeout/", "http://x.certificate:80/x509:/", "tls:443", "http://h/EOF?no%20such"],
)
def test_names_do_not_count_as_errors(url: str) -> None:
    target = Target(url=url)
    complaint = f'Get "{url}": dial {target.authority}: connection refused'
    assert isinstance(failures.unanswered([complaint], target=target), TargetUnreachable)
    assert isinstance(failures.unanswered([f"odd: {url}"], target=target), GeneratorFailed)


def test_the_first_known_complaint_decides() -> None:
    found = failures.unanswered(["something", "i/o timeout", "x509:"], target=TARGET)
    assert isinstance(found, TargetSilent)


def test_answers_that_are_none_need_no_complaint() -> None:
    found = failures.unanswered([], target=TARGET)
    assert isinstance(found, TargetUnreachable)
    assert "another protocol" in found.cause


def test_unknown_words_are_shown_without_secrets_and_cut_short() -> None:
    words = "boom canary-h http://me:canary-p@shop.example:8080/buy?token=canary-q " + "x" * 400
    error = failures.failed(["", words], what="it broke", target=TARGET)
    assert error.summary == "it broke"
    assert "boom" in error.cause
    assert "http://shop.example:8080" in error.cause
    assert "canary" not in str(error)
    assert len(error.cause) < 300
    assert failures.failed([], what="it broke", target=TARGET).cause == error.probable_cause


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a:80/x?y", "a:80"),
        ("https://me:pw@a/x", "a"),
        ("a.b:7", "a.b:7"),
        ("https://[::1]:8/", "[::1]:8"),
        ("tcp://a:1", "a:1"),
    ],
)
def test_the_host_is_without_secrets(url: str, host: str) -> None:
    assert Target(url=url).authority == host
