"""fortio's command line, the cutting of a load into its processes, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import GeneratorFailed, LoadTestMalformed
from services.perf.definitions.loads import Load, Protocol, Target
from services.perf.generators import fortio
from services.perf.generators.fortio import NO_ANSWER, TOO_LATE, LogReader, code_of
from services.perf.measurements.tallies import Tally

BEGAN_NS = 1_795_515_011_359_051_923
PATHS = fortio.Paths(log="/dev/fd/5")


def load(
    *,
    protocol: Protocol = Protocol.HTTP1,
    url: str = "http://shop/",
    rate: float = 100.0,
    requests: int = 100,
    connections: int = 4,
    duration_s: float = 1.0,
    **target: object,
) -> Load:
    return Load(
        target=Target.model_validate({"url": url, "protocol": protocol, **target}),
        rate=rate,
        duration_s=duration_s,
        requests=requests,
        connections=connections,
    )


def options(words: list[str]) -> dict[str, str]:
    """Options and what follows each."""
    return {word: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("-")}


def line(
    *,
    at_s: float = 0.0,
    latency_s: float = 0.001,
    thread: int = 0,
    iteration: int = 0,
    ok: bool = True,
    details: str = "200",
) -> bytes:
    return (
        f'{{"latency":{latency_s:.6f},"timestamp":{BEGAN_NS + round(at_s * 1e9)},'
        f'"thread":{thread},"iter":{iteration},"ok":{str(ok).lower()},'
        f'"details":{json.dumps(details)}}}\n'
    ).encode()


def read(reader: LogReader, *lines: bytes) -> Tally:
    reader.feed(b"".join(lines))
    return reader.tally


# --- the command line ----------------------------------------------------------------------------


def test_a_rate_is_made_of_exactly_so_many_calls() -> None:
    words = fortio.command(load(rate=33.3, requests=333), program="/opt/fortio", paths=PATHS)
    found = options(words)
    assert words[:2] == ["/opt/fortio", "load"]
    assert words[-1] == "http://shop/"
    assert (found["-n"], found["-qps"], found["-c"], found["-t"]) == ("333", "33.3", "4", "-1s")
    assert found["-access-log-file"] == "/dev/fd/5"
    assert found["-timeout"] == "10000ms"


def test_full_speed_is_told_a_time() -> None:
    found = options(
        fortio.command(load(rate=0, requests=0, duration_s=2.5), program="f", paths=PATHS)
    )
    assert (found["-qps"], found["-t"], found["-c"]) == ("0", "2500ms", "4")
    assert "-n" not in found


def test_what_is_secret_and_long_goes_over_descriptors() -> None:
    target = {"body": "canary-b", "ca_certificate": "canary-c", "content_type": "text/plain"}
    paths = fortio.Paths(log="/dev/fd/5", ca="/dev/fd/6", body="/dev/fd/7")
    words = fortio.command(load(**target), program="f", paths=paths)  # type: ignore[arg-type]
    found = options(words)
    assert (found["-cacert"], found["-payload-file"]) == ("/dev/fd/6", "/dev/fd/7")
    assert found["-content-type"] == "text/plain"
    assert "canary" not in str(words)


def test_each_protocol_has_its_options() -> None:
    def words(protocol: Protocol, url: str) -> list[str]:
        one = load(protocol=protocol, url=url, headers={"X-User": "me"}, insecure=True)
        return fortio.command(one, program="f", paths=PATHS)

    assert "-h2" in words(Protocol.HTTP2, "https://shop/")
    assert "-h2" not in words(Protocol.HTTP1, "https://shop/")
    assert words(Protocol.GRPC, "https://shop:9")[-4:] == [
        "-grpc", "-H", "X-User:me", "https://shop:9",
    ]  # fmt: skip
    assert words(Protocol.TCP, "shop:9")[-1] == "tcp://shop:9"
    assert words(Protocol.TCP, "tcp://shop:9")[-1] == "tcp://shop:9"
    assert all("-k" in words(p, "https://shop/") for p in Protocol)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"requests": 0}, "no requests"),
        ({"protocol": Protocol.GRPC, "url": "a:1", "body": "x"}, "body"),
        ({"protocol": Protocol.TCP, "url": "a:1", "headers": {"a": "b"}}, "headers"),
        ({"protocol": Protocol.TCP, "url": "a:1", "ca_certificate": "pem"}, "TLS"),
    ],
)
def test_what_fortio_cannot_do_is_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(LoadTestMalformed, match=word):
        fortio.check(load(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("requests", [1, 2, 100])
def test_small_loads_are_taken(requests: int) -> None:
    fortio.check(load(requests=requests))


# --- cutting into processes ----------------------------------------------------------------------


def _planned_end_s(part: Load) -> float:
    """When the last call of the first thread is due; it gets all calls that are left over."""
    count = fortio.threads(part)
    calls, left = divmod(part.requests, count)
    return (calls + left - 1) * count / part.rate


def test_calls_that_do_not_divide_make_two_processes() -> None:
    parts = fortio.processes(load(rate=10, requests=50, connections=8, duration_s=5))
    assert [(p.connections, p.requests, p.rate) for p in parts] == [(6, 36, 7.2), (2, 14, 2.8)]


@pytest.mark.parametrize(("requests", "connections"), [(100, 4), (101, 4), (1, 4), (2, 4), (9, 4)])
def test_others_make_one(requests: int, connections: int) -> None:
    assert len(fortio.processes(load(requests=requests, connections=connections))) == 1


def test_full_speed_makes_one() -> None:
    assert len(fortio.processes(load(rate=0, requests=0, connections=7))) == 1


@given(st.integers(1, 5000), st.integers(1, 200), st.floats(0.5, 60))
def test_nothing_is_lost_and_nothing_takes_longer(
    requests: int, connections: int, duration_s: float
) -> None:
    whole = load(
        rate=requests / duration_s,
        requests=requests,
        connections=connections,
        duration_s=duration_s,
    )
    parts = fortio.processes(whole)
    assert sum(part.requests for part in parts) == requests
    assert sum(map(fortio.threads, parts)) == fortio.threads(whole)
    assert sum(part.rate for part in parts) == pytest.approx(whole.rate)
    assert all(_planned_end_s(part) <= duration_s * 1.011 for part in parts)


# --- the access log ------------------------------------------------------------------------------


def test_requests_are_counted_by_code_and_interval() -> None:
    reader = LogReader(load(), Tally(), BEGAN_NS, 10.0)
    tally = read(
        reader,
        line(latency_s=0.005),
        line(at_s=0.9, iteration=1, latency_s=0.007, ok=False, details="503"),
        line(at_s=1.1, thread=1, latency_s=0.002, ok=False, details="-1"),
    )
    assert tally.codes == {"200": 1, "503": 1, "-1": 1}
    assert (tally.requests, tally.failed) == (3, 2)
    assert (reader.counted, reader.answered) == (3, 2)
    assert (tally.durations.least_us, tally.durations.most_us) == (2000, 7000)
    assert {index: i.durations.count for index, i in tally.intervals.items()} == {10: 2, 11: 1}


def test_requests_behind_their_time_have_longer_response_times() -> None:
    """25 calls/s and thread: the second one is due after 40 ms."""
    tally = Tally()
    read(LogReader(load(), tally, BEGAN_NS), line(), line(at_s=0.140, iteration=1))
    assert tally.durations.most_us == 1000
    assert tally.responses.most_us == 101_000


def test_a_late_first_request_does_not_hide_that_others_are_late() -> None:
    tally = Tally()
    reader = LogReader(load(), tally, BEGAN_NS)
    # The first one began 30 ms late, as the second one shows.
    read(reader, line(at_s=0.030), line(at_s=0.040, iteration=1), line(at_s=0.1, iteration=2))
    assert tally.responses.most_us == 21_000


def test_threads_have_schedules_of_their_own() -> None:
    tally = Tally()
    reader = LogReader(load(), tally, BEGAN_NS)
    read(reader, *(line(at_s=0.01 * t + 0.04 * i, thread=t, iteration=i)
                   for i in range(3) for t in range(4)))  # fmt: skip
    assert tally.responses.most_us <= 1001


def test_nothing_is_late_at_full_speed() -> None:
    tally = Tally()
    reader = LogReader(load(rate=0, requests=0), tally, BEGAN_NS)
    read(reader, line(), line(at_s=5, iteration=1))
    assert tally.responses.most_us == 1000


def _cuts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


@given(st.integers(1, 400))
def test_lines_may_come_in_any_pieces(size: int) -> None:
    data = b"".join(line(at_s=i / 100, iteration=i, details="a \\ b") for i in range(20))
    reader = LogReader(load(), Tally(), BEGAN_NS)
    for piece in _cuts(data + b'{"latency":0.0', size):
        reader.feed(piece)
    assert reader.counted == 20


def test_quotes_that_are_not_json_are_read() -> None:
    """Go quotes control characters in its own way."""
    odd = line(details="X").replace(b'"X"', rb'"rpc error: code = Unknown desc = \"\x1b\a}\""')
    reader = LogReader(load(protocol=Protocol.GRPC, url="a:1"), Tally(), BEGAN_NS)
    tally = read(reader, line(details="SERVING"), odd)
    assert tally.codes == {"SERVING": 1, "UNKNOWN": 1}


def test_a_line_of_nonsense_is_an_error() -> None:
    with pytest.raises(GeneratorFailed):
        LogReader(load(), Tally(), BEGAN_NS).feed(b"nonsense\n")


@pytest.mark.parametrize(
    ("details", "code"),
    [
        ("200", "200"),
        ("-1", NO_ANSWER),
        ("OK", "OK"),
        ("NOT_SERVING", "NOT_SERVING"),
        ("rpc error: code = Unimplemented desc = unknown service", "UNIMPLEMENTED"),
        ("rpc error: code = ResourceExhausted desc = ", "RESOURCE_EXHAUSTED"),
        ("rpc error: code = Canceled desc = x", "CANCELLED"),
        ("rpc error: code = Unavailable desc = upstream connect error", "UNAVAILABLE"),
        ("rpc error: code = Unavailable desc = connection error: desc = x", NO_ANSWER),
        ("rpc error: code = Unavailable desc = name resolver error: x", NO_ANSWER),
        ("dial tcp 127.0.0.1:1: connect: connection refused", NO_ANSWER),
        ("short read", NO_ANSWER),
        ("read not echoing writes", "MISMATCH"),
    ],
)
def test_details_become_codes(details: str, code: str) -> None:
    assert code_of(details) == code


def test_the_first_complaint_is_kept() -> None:
    reader = LogReader(load(protocol=Protocol.TCP, url="a:1"), Tally(), BEGAN_NS)
    tally = read(
        reader,
        *(line(ok=False, iteration=i, details=f"dial tcp: port {i}") for i in range(1200)),
    )
    assert reader.complaint == "dial tcp: port 0"
    assert tally.codes == {NO_ANSWER: 1200}
    assert reader.answered == 0


def test_grpc_answers_after_the_timeout_came_too_late() -> None:
    """fortio itself waits for them."""
    one = load(protocol=Protocol.GRPC, url="a:1", timeout_s=0.5)
    reader = LogReader(one, Tally(), BEGAN_NS)
    tally = read(reader, line(details="SERVING", latency_s=0.6), line(details="SERVING"))
    assert tally.codes == {TOO_LATE: 1, "SERVING": 1}
    assert tally.failed == 1
    assert (reader.answered, reader.complaint) == (1, "deadline exceeded")


# --- what it says at its end ---------------------------------------------------------------------


def test_sockets_and_bytes_come_from_the_final_document() -> None:
    tally = Tally()
    http = {"DurationHistogram": {"Count": 7}, "SocketCount": 3, "Sizes": {"Sum": 700.0}}
    tcp = {
        "DurationHistogram": {"Count": 9},
        "SocketCount": 2,
        "BytesReceived": 24,
        "BytesSent": 48,
    }
    grpc = {"DurationHistogram": {"Count": 4}, "NumThreads": 4}
    counts = [fortio.add_summary(tally, json.dumps(d).encode()) for d in (http, tcp, grpc)]
    assert counts == [7, 9, 4]
    assert (tally.sockets, tally.bytes_received, tally.bytes_sent) == (9, 724, 48)


def test_failed_requests_take_no_bytes_away() -> None:
    tally = Tally()
    fortio.add_summary(tally, b'{"Sizes": {"Sum": -25}, "SocketCount": 1}')
    assert tally.bytes_received == 0


@pytest.mark.parametrize("output", [b"", b'{"cut'])
def test_without_a_final_document_nothing_is_known(output: bytes) -> None:
    assert fortio.add_summary(Tally(), output) is None


def test_complaints_are_read_from_its_log() -> None:
    stderr = [
        "Fortio 1.66.5 running at 20 queries per second, for 4 calls: http://shop/x509",
        '{"ts":1.0,"level":"err","msg":"Unable to connect","err":"dial tcp: refused","thread":0}',
        '{"ts":1.0,"level":"err","msg":"Unable to lookup shop"}',
        "Code  -1 : 4 (100.0 %)",
        "Aborting because of lookup shop: no such host",
        "12",
    ]
    assert fortio.unread(stderr) == [
        "Unable to connect: dial tcp: refused",
        "Unable to lookup shop",
        "Aborting because of lookup shop: no such host",
    ]
