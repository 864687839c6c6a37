"""Reading tests: every form that people send, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.chassis.errors import LoadTestMalformed
from services.perf.definitions.fields import seconds
from services.perf.definitions.forms import SmpTest
from services.perf.definitions.loads import (
    GeneratorName,
    LoadTest,
    LostWorker,
    Objective,
    Protocol,
    Stage,
    Target,
)
from services.perf.definitions.options import PerformanceOptions
from services.perf.definitions.reading import read_test
from tests.testbed.pki import Authority

URL = "http://checkout.shop.svc/"
CANARY = "canary-71f3"


def client(**fields: Any) -> dict[str, Any]:
    return {"rps": 20, "connections": 2, "endpoint_urls": [URL], **fields}


def body(*clients: dict[str, Any], options: dict[str, Any] | None = None, **fields: Any) -> str:
    """An SMP file; `fields` are the test's own."""
    test = {"name": "a test", "duration": "30s", "clients": list(clients or [client()]), **fields}
    return json.dumps({"test": test}) + with_options(options)


def with_options(options: dict[str, Any] | None) -> str:
    if options is None:
        return ""
    document = {"apiVersion": "meshbus.io/v1", "kind": "PerformanceOptions", "spec": options}
    return f"\n---\n{yaml.safe_dump(document)}"


def query(options: dict[str, Any] | None = None, **fields: Any) -> str:
    return json.dumps({"name": "q", "t": "30", "url": URL, **fields}) + with_options(options)


def read(text: str) -> LoadTest:
    return read_test(text)[0]


def refused(text: str) -> str:
    with pytest.raises(LoadTestMalformed) as raised:
        read_test(text)
    return raised.value.summary


def outcome(text: str) -> tuple[LoadTest | None, str]:
    """The test, or what is said of it; another error than ours is passed on."""
    try:
        return read(text), ""
    except LoadTestMalformed as error:
        error.summary.encode()
        return None, str(error)


# --- the forms -----------------------------------------------------------------------------------

SMP_YAML = """
test:
  smp_version: v0.0.1
  id:
  name: Istio Performance Test
  labels: {team: shop}
  clients:
  - internal: false
    load_generator: fortio
    protocol: 1
    connections: 2
    rps: 10
    headers: {X-Trace: "1"}
    cookies: {a: b, c: d e}
    body: ""
    content_type: ""
    endpoint_urls:
    - http://localhost:2323/productpage?u=normal
  duration: "30m"
mesh:
  type: 3
  version: "1.31.0"
"""


def test_the_file_of_mesheryctl() -> None:
    test, options = read_test(SMP_YAML)
    assert options == PerformanceOptions()
    assert test == LoadTest(
        name="Istio Performance Test",
        targets=[
            Target(
                url="http://localhost:2323/productpage?u=normal",
                headers={"X-Trace": "1", "Cookie": "a=b; c=d e"},
            )
        ],
        stages=[Stage(rate=10, duration_s=1800)],
        connections=2,
        labels={"team": "shop", "mesh_version": "1.31.0"},
        mesh="istio",
    )


def test_the_bare_configuration() -> None:
    inner = yaml.safe_load(SMP_YAML)["test"]
    bare = read(yaml.safe_dump(inner))
    whole = read(yaml.safe_dump({"test": inner}))
    assert bare == whole
    assert bare.labels == {"team": "shop"}


def test_protos_json() -> None:
    """camelCase names, enums by name, 64-bit numbers as text."""
    document = {
        "test": {
            "smpVersion": "v0.0.1",
            "name": "x",
            "clients": [
                {
                    "loadGenerator": "fortio",
                    "protocol": "HTTP",
                    "connections": 3,
                    "rps": "250",
                    "endpointUrls": [URL],
                    "contentType": "application/json",
                    "body": "{}",
                }
            ],
            "duration": "90s",
        },
        "mesh": {"type": "LINKERD"},
    }
    test = read(json.dumps(document))
    assert test.stages == [Stage(rate=250, duration_s=90)]
    assert (test.connections, test.mesh) == (3, "linkerd")
    assert (test.targets[0].content_type, test.targets[0].body) == ("application/json", "{}")


def test_mesherys_query() -> None:
    test = read(
        query(
            uuid="6f5c",
            mesh="istio",
            t="30",
            dur="m",
            c="8",
            qps="12.5",
            loadGenerator="wrk2",
            headers='{"X-A": "1"}',
            cookies={"s": "t"},
            contentType="text/plain",
            reqBody="hello",
            cert="false",
        )
    )
    assert test == LoadTest(
        name="q",
        generator=GeneratorName.WRK2,
        targets=[
            Target(
                url=URL,
                headers={"X-A": "1", "Cookie": "s=t"},
                body="hello",
                content_type="text/plain",
            )
        ],
        stages=[Stage(rate=12.5, duration_s=1800)],
        connections=8,
        mesh="istio",
    )


@pytest.mark.parametrize(
    ("fields", "duration_s"),
    [
        ({"t": 45}, 45),
        ({"t": "45", "dur": "s"}, 45),
        ({"t": "2", "dur": "H"}, 7200),
        ({"t": "60s"}, 60),
        ({"t": "1h30m"}, 5400),
    ],
)
def test_durations_of_a_query(fields: dict[str, Any], duration_s: float) -> None:
    assert read(query(**fields)).duration_s == duration_s


def test_a_query_of_mesherys_empty_fields() -> None:
    """Empty text is what a form sends for what nobody filled in."""
    empty = ("mesh", "uuid", "dur", "loadGenerator", "headers", "cookies", "contentType", "reqBody")
    fields: dict[str, Any] = dict.fromkeys(empty, "")
    test = read(query(**fields, c="0", qps="0"))
    assert test.stages == [Stage(rate=0, duration_s=30)]
    assert (test.connections, test.generator) == (1, GeneratorName.FORTIO)


@pytest.mark.parametrize("qps", ["0", "-1", -5])
def test_a_query_without_a_rate_is_as_fast_as_possible(qps: Any) -> None:
    assert read(query(qps=qps)).stages == [Stage(rate=0, duration_s=30)]


def test_yaml_and_other_kinds_of_documents_beside_the_test() -> None:
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    ours = "apiVersion: meshbus.io/v1\nkind: LifecycleOptions\nspec: {profile: demo}\n"
    options = with_options({"workers": 3}).removeprefix("\n---\n")
    text = f"{other}---\n{options}---\n{ours}---\n{SMP_YAML}"
    test, found = read_test(text)
    assert (test.workers, found.workers) == (3, 3)


def test_json_with_what_yaml_cannot_read() -> None:
    assert read(query(reqBody="\U0001f600")).targets[0].body == "\U0001f600"
    indented = json.dumps({"t": 5, "url": URL, "reqBody": "a/b"}, indent="\t").replace("/b", "\\/b")
    assert read(indented).targets[0].body == "a/b"


@pytest.mark.parametrize(
    ("type_", "mesh"),
    [
        *((3, "istio"), ("3", "istio"), ("Istio", "istio"), ("OPEN_SERVICE_MESH", None)),
        *(("open service mesh", "open_service_mesh"), ("None", ""), (0, ""), ("INVALID_MESH", "")),
    ],
)
def test_names_of_meshes(type_: Any, mesh: str | None) -> None:
    wanted = mesh if mesh is not None else str(type_).lower()
    inner = json.loads(body())["test"]
    assert read(json.dumps({"test": inner, "mesh": {"type": type_}})).mesh == wanted


# --- several targets, protocols, options ---------------------------------------------------------


def test_clients_and_urls_share_by_rate() -> None:
    test = read(
        body(
            client(rps=30, connections=3, endpoint_urls=["http://a/", "http://b/"]),
            client(rps=10, connections=1, endpoint_urls=["http://c/"], headers={"A": "b"}),
        )
    )
    assert [(t.url, t.weight) for t in test.targets] == [
        *(("http://a/", 15), ("http://b/", 15), ("http://c/", 10)),
    ]
    assert [t.headers for t in test.targets] == [{}, {}, {"A": "b"}]
    assert test.stages == [Stage(rate=40, duration_s=30)]
    assert test.connections == 4


def test_without_rates_clients_share_by_connections() -> None:
    test = read(body(client(rps=0, connections=6), client(rps=0, connections=2)))
    assert [t.weight for t in test.targets] == [6, 2]
    assert test.stages[0].rate == 0


def test_equal_shares_are_ones() -> None:
    test = read(body(client(endpoint_urls=["http://a/", "http://b/"])))
    assert [t.weight for t in test.targets] == [1, 1]


def test_targets_of_the_options_take_the_place_of_the_urls() -> None:
    options = {
        "targets": [{"url": "http://a/", "weight": 3}, {"url": "https://b/"}],
        "http2": True,
        "timeoutSeconds": 2.5,
        "insecure": True,
    }
    for urls in ([URL], []):
        test = read(body(client(endpoint_urls=urls, headers={"A": "b"}), options=options))
        assert [(t.url, t.weight) for t in test.targets] == [("http://a/", 3), ("https://b/", 1)]
        for target in test.targets:
            assert target.protocol is Protocol.HTTP2
            assert (target.headers, target.timeout_s, target.insecure) == ({"A": "b"}, 2.5, True)


def test_options_become_parts_of_the_test() -> None:
    test = read(
        body(
            options={
                "workers": 4,
                "onLostWorker": "report",
                "stages": [{"rate": 7, "durationSeconds": 9}],
                "objective": {"p99Ms": 250},
                "prometheus": "http://prom:9090",
                "service": "checkout.shop",
                "baseline": "nightly",
            },
            duration=None,
        )
    )
    assert test.stages == [Stage(rate=7, duration_s=9)]
    assert test.objective == Objective(p99_ms=250)
    assert (test.workers, test.on_lost_worker) == (4, LostWorker.REPORT)
    assert (test.prometheus, test.service) == ("http://prom:9090", "checkout.shop")
    assert test.baseline == "nightly"


@pytest.mark.parametrize("make", [body, query])
def test_a_search_has_no_stages(make: Any) -> None:
    test = read(make(options={"saturation": {"lowest": 5, "highest": 50, "stepSeconds": 3}}))
    assert test.stages == []
    assert test.saturation is not None
    assert test.duration_s == 3


@pytest.mark.parametrize(
    ("protocol", "url", "taken"),
    [
        ("gRPC", "shop:9000", "shop:9000"),
        (4, "grpc://shop:9000/", "shop:9000"),
        (4, "http://shop:9000", "shop:9000"),
        (4, "https://shop:9000", "https://shop:9000"),
        (4, "[::1]:9000", "[::1]:9000"),
        (2, "127.0.0.1:9000", "127.0.0.1:9000"),
        ("TCP", "tcp://shop:9000", "shop:9000"),
        (1, "HTTPS://shop:9000/a?b=c%20d", "HTTPS://shop:9000/a?b=c%20d"),
        (1, "http://[::1]:80/", "http://[::1]:80/"),
        (1, "http://a_b.shop.svc.cluster.local./", "http://a_b.shop.svc.cluster.local./"),
    ],
)
def test_addresses(protocol: Any, url: str, taken: str) -> None:
    test = read(body(client(protocol=protocol, endpoint_urls=[url])))
    assert test.targets[0].url == taken


def test_a_certificate_of_the_targets_ca() -> None:
    pem = Authority("shop").certificate_pem.decode()
    urls = ["https://shop/", "http://shop/"]
    test = read(body(client(endpoint_urls=urls, ssl_certificate=pem)))
    assert [t.ca_certificate for t in test.targets] == [pem, pem]
    assert "none of the targets speaks TLS" in refused(body(client(ssl_certificate=pem)))
    mixed = body(client(endpoint_urls=["https://shop/"]), client(ssl_certificate=pem))
    assert "clients[1].ssl_certificate: none of the targets" in refused(mixed)
    key = Authority("shop").issue_server("shop", ["shop"]).private_pem.decode()
    assert "private key" in refused(
        body(client(endpoint_urls=["https://shop/"], ssl_certificate=pem + key))
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("60s", 60), ("30m", 1800), ("1h30m", 5400), ("90", 90), (90, 90), (1.5, 1.5)),
        *(("1500ms", 1.5), ("1h", 3600), ("24h", 86_400), (" 5S ", 5), ("0.5m", 30)),
    ],
)
def test_durations(text: Any, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "-5s", "5 s", "5x", "s", "1h-5m", "0", "999ms", "25h", "24h1s", "9" * 400),
        *("1e3", "\u0663s", "5s\n5s", True, None, [5], float("inf"), float("nan")),
    ],
)
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        seconds(text)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rps": -5}, "test.clients[0].rps: must be at least 0"),
        ({"rps": 1_000_001}, "test.clients[0].rps: must be at most 1000000"),
        ({"rps": True}, "test.clients[0].rps: must be a number"),
        ({"rps": "fast"}, "test.clients[0].rps: must be a number"),
        ({"rps": [5]}, "test.clients[0].rps: must be a number"),
        ({"connections": 0}, "test.clients[0].connections: must be at least 1"),
        ({"connections": 10_001}, "test.clients[0].connections: must be at most 10000"),
        ({"connections": 1.5}, "test.clients[0].connections: must be a whole number"),
        ({"rpz": 5}, "test.clients[0].rpz: unknown field, did you mean rps?"),
        ({"endpointUrl": URL}, "unknown field, did you mean endpoint_urls?"),
        ({"endpointUrls": [URL]}, "endpoint_urls stands there twice"),
        ({"load_generator": "siege"}, "test.clients[0].load_generator: must be fortio or wrk2"),
        ({"load_generator": "nighthawk"}, "nighthawk is not offered; write fortio or wrk2"),
        ({"protocol": 3}, "test.clients[0].protocol: UDP is not offered"),
        ({"protocol": "INVALID"}, "test.clients[0].protocol: must be 1 (HTTP)"),
        ({"protocol": 0}, "test.clients[0].protocol: must be 1 (HTTP)"),
        ({"internal": True}, "test.clients[0].internal: load from inside the mesh"),
        ({"additional_options": '{"a": 1}'}, "test.clients[0].additional_options: options of"),
        ({"headers": ["A: b"]}, "test.clients[0].headers: must be a mapping"),
        ({"headers": {"X-A": 5}}, "test.clients[0].headers.X-A: must be text; put it into quotes"),
        ({"headers": {"X A": "b"}}, "headers: the name of header 1 holds"),
        ({"headers": {"X-A": "b", "X-B": "c\r\nX-C: d"}}, "the value of header 2 holds a line"),
        ({"headers": {"X-A": "b", "x-a": "c"}}, "header 2 stands there twice"),
        ({"headers": {f"X-{n}": "" for n in range(65)}}, "headers: must be at most 64"),
        ({"headers": {"X": "x" * 40_000}}, "headers: must have at most 32768 characters"),
        ({"cookies": {"a": "b; c=d"}}, "the value of cookie 1 holds a semicolon"),
        ({"cookies": {"a=": "b"}}, "the name of cookie 1 holds"),
        ({"cookies": {"a": "b"}, "headers": {"cookie": "c"}}, "cookies and a header Cookie"),
        ({"content_type": "a/b", "headers": {"Content-Type": "c"}}, "header Content-Type exclude"),
        ({"body": "x" * 100_001}, "test.clients[0].body: must have at most 100000 bytes"),
        ({"body": 7}, "test.clients[0].body: must be text"),
        ({"ssl_certificate": "x"}, "test.clients[0].ssl_certificate: must hold certificates"),
        ({"endpoint_urls": []}, "test.clients[0].endpoint_urls: is missing"),
        ({"endpoint_urls": None}, "test.clients[0].endpoint_urls: is missing"),
        ({"endpoint_urls": URL}, "test.clients[0].endpoint_urls: must be a list"),
        ({"endpoint_urls": [URL, 5]}, "test.clients[0].endpoint_urls[1]: must be text"),
        ({"endpoint_urls": [URL] * 65}, "test.clients[0].endpoint_urls: must have at most 64"),
        ({"load_generator": "wrk2", "rps": 0}, "wrk2 needs a rate"),
        ({"load_generator": "wrk2", "protocol": 2, "endpoint_urls": ["a:1"]}, "wrk2 speaks HTTP"),
        ({"protocol": 2, "endpoint_urls": ["a:1"], "headers": {"a": "b"}}, "TCP has no headers"),
        ({"protocol": 4, "endpoint_urls": ["a:1"], "content_type": "b"}, "only HTTP has a content"),
        ({"protocol": 4, "endpoint_urls": ["a:1"], "body": "b"}, "clients[0].body: a gRPC test"),
    ],
)
def test_what_a_client_cannot_be(fields: dict[str, Any], words: str) -> None:
    assert words in refused(body(client(**fields)))


@pytest.mark.parametrize(
    ("protocol", "url", "words"),
    [
        (1, "ftp://a", "must begin with http:// or https://"),
        (1, "checkout", "must begin with http:// or https://"),
        (1, "http:/a", "must begin with http:// or https://"),
        (1, "http://", "has no host"),
        (1, "http:///path", "has no host"),
        (1, "http://:80/", "has no host"),
        (1, "http://a:0/", "the port must be a number from 1 to 65535"),
        (1, "http://a:65536/", "the port must be a number from 1 to 65535"),
        (1, "http://a:b/", "the port must be a number from 1 to 65535"),
        (1, "http://a:/", "the port must be a number from 1 to 65535"),
        (1, "http://a..b/", "the host is no name or IP address"),
        (1, "http://-a/", "the host is no name or IP address"),
        (1, "http://a,b/", "the host is no name or IP address"),
        (1, f"http://{'a' * 64}/", "the host is no name or IP address"),
        (1, "http://[::1/", "cannot be read as an address"),
        (1, "http://[v1.a]/", "the host is no name or IP address"),
        (1, "http://u:p@a/", "send it as the header Authorization"),
        (1, "http://a/#top", "has a fragment"),
        (1, "http://a/ b", "white space"),
        (1, "http://a/\n", "white space"),
        (1, "http://a\\b/", "white space, a backslash"),
        (1, "http://bücher.example/", "outside ASCII"),
        (1, "http://a/" + "x" * 4096, "at most 4096 characters"),
        (2, "a", "has no port"),
        (2, "a:1/path", "must be host:port without a path"),
        (2, "http://a:1", "must be host:port for tcp"),
        (4, "a:1?x", "must be host:port without a path"),
        (4, "tcp://a:1", "must be host:port for grpc"),
        (4, "u@a:1", "holds user information"),
        (4, "::1:1", "the port must be a number from 1 to 65535"),
    ],
)
def test_what_is_no_address(protocol: int, url: str, words: str) -> None:
    text = body(client(protocol=protocol, endpoint_urls=[url]))
    told = refused(text)
    assert told.startswith("test.clients[0].endpoint_urls[0]: ")
    assert words in told
    targets = body(client(protocol=protocol), options={"targets": [{"url": url}]})
    if protocol == 1:
        assert words in refused(targets)
        assert words in refused(query(url=url))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"duration": "soon"}, "test.duration: must be a duration such as 90s"),
        ({"duration": "25h"}, "test.duration: must be from 1s to 24h"),
        ({"duration": None}, "test.duration: is missing"),
        ({"clients": []}, "test.clients: must have at least 1 entries"),
        ({"clients": [5]}, "test.clients[0]: must be a mapping"),
        ({"name": 5}, "test.name: must be text; put it into quotes"),
        ({"name": "x" * 257}, "test.name: must have at most 256 characters"),
        ({"labels": {"a": 1}}, "test.labels.a: must be text"),
        ({"labels": {str(n): "" for n in range(65)}}, "test.labels: must have at most 64 entries"),
        ({"durations": "5s"}, "test.durations: unknown field, did you mean duration?"),
        ({"clients": [client(rps=1)], "duration": "1s"}, "test.clients[0]: the rate and the"),
    ],
)
def test_what_a_test_cannot_be(fields: dict[str, Any], words: str) -> None:
    assert words in refused(body(**fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"t": None}, "t: is missing"),
        ({"t": "soon"}, "t: must be a duration"),
        ({"t": "60s", "dur": "m"}, "t: has a unit already"),
        ({"t": 30, "dur": "h"}, "t: must be from 1s to 24h"),
        ({"t": True, "dur": "s"}, "t: must be a duration"),
        ({"dur": "days"}, "dur: must be h, m or s"),
        ({"c": -1}, "c: must be at least 0"),
        ({"c": "many"}, "c: must be a whole number"),
        ({"qps": "many"}, "qps: must be a number"),
        ({"url": None}, "url: is missing"),
        ({"headers": "X-A: b"}, "headers: must be a JSON object"),
        ({"headers": '{"X-A": "\\ud800"}'}, "headers: must be a JSON object"),
        ({"headers": '{"X-A": "a", "X-A": "b"}'}, "headers: must be a JSON object"),
        ({"headers": '["a"]'}, "headers: must be a JSON object"),
        ({"headers": '{"X-A": "b\\n"}'}, "headers: the value of header 1 holds a line break"),
        ({"cookies": "[" * 100_000}, "cookies: must be a JSON object"),
        ({"cert": "true"}, "cert: the certificates of Meshery's profile"),
        ({"loadGenerator": "nighthawk"}, "loadGenerator: nighthawk is not offered"),
        ({"loadgenerator": "wrk2"}, "loadgenerator: unknown field, did you mean loadGenerator?"),
        ({"mesh": "atlantis"}, "mesh: must be the name or the number of a mesh"),
    ],
)
def test_what_a_query_cannot_be(fields: dict[str, Any], words: str) -> None:
    assert words in refused(query(**fields))


@pytest.mark.parametrize(
    ("clients", "words"),
    [
        ([client(), client(load_generator="wrk2")], "[1].load_generator: must be the same"),
        ([client(), client(rps=0)], "[1].rps: either all clients have a rate or none"),
        ([client(rps=600_000)] * 2, "the rates of all clients must be at most 1000000"),
        ([client(connections=6000)] * 2, "the connections of all clients must be at most 10000"),
        ([client(endpoint_urls=[URL] * 40)] * 2, "there must be at most 64 URLs in all"),
        ([client(), client(rps=-1)], "test.clients[1].rps: must be at least 0"),
    ],
)
def test_clients_that_do_not_go_together(clients: list[dict[str, Any]], words: str) -> None:
    assert words in refused(body(*clients))


@pytest.mark.parametrize(
    ("options", "clients", "words"),
    [
        ({"targets": [{"url": URL}]}, [client(), client()], "spec.targets: exclude several"),
        ({"targets": [{"url": "ftp://a"}]}, [client()], "spec.targets[0].url: must begin with"),
        ({"http2": True}, [client(protocol=2, endpoint_urls=["a:1"])], "spec.http2: the test has"),
        (
            {"stages": [{"rate": 0, "durationSeconds": 5}]},
            [client(load_generator="wrk2")],
            "wrk2 needs a rate",
        ),
        ({"http2": True}, [client(load_generator="wrk2")], "wrk2 speaks HTTP/1.1 only"),
    ],
)
def test_options_that_do_not_fit_the_test(
    options: dict[str, Any], clients: list[dict[str, Any]], words: str
) -> None:
    assert words in refused(body(*clients, options=options))


def test_everything_is_told_at_once() -> None:
    text = body(
        client(rps=-5, connections=0, rpz=1),
        client(endpoint_urls=["ftp://a", URL, "http://a:0/"]),
        duration="soon",
        options={"workers": -1, "objectiv": {}},
    )
    assert [problem.partition(": ")[0] for problem in refused(text).split("; ")] == [
        *("test.clients[0].connections", "test.clients[0].rps", "test.clients[0].rpz"),
        *("test.clients[1].endpoint_urls[0]", "test.clients[1].endpoint_urls[2]"),
        *("test.duration", "spec.workers", "spec.objectiv"),
    ]


def test_very_many_problems_are_cut() -> None:
    told = refused(body(client(endpoint_urls=["ftp://a"] * 60)))
    assert told.endswith("; and 40 more")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the body holds no performance test"),
        ("# nothing", "the body holds no performance test"),
        ("apiVersion: v1\nkind: ConfigMap\n", "the body holds no performance test"),
        (with_options({"workers": 3}), "the body holds no performance test"),
        ("- a", "document 1 is not a mapping"),
        ("just words", "document 1 is not a mapping"),
        ("[1, 2]", "document 1 is not a mapping"),
        ("colour: red", "none of the fields is one of a performance test"),
        ("name: x", "clients: is missing"),
        ("test: 5", "test: must be a mapping"),
        ("test:", "test: is missing"),
        ("tests: {}\nmesh: {type: 3}", "tests: unknown field, did you mean test?"),
        (f"{SMP_YAML}more: 5", "more: unknown field, there are test, mesh"),
        (f"{SMP_YAML}---\n{SMP_YAML}", "more than one performance test"),
        (SMP_YAML + with_options({}) + with_options({}), "more than one PerformanceOptions"),
        (SMP_YAML.replace("type: 3", "type: 99"), "mesh.type: must be the name or the number"),
        (SMP_YAML.replace('"1.31.0"', "1.31"), "mesh.version: must be text; put it into quotes"),
        ("a: [", "the test is not YAML: line"),
        ("{" * 5000, "nested more than 100 levels"),
        ('{"a":' * 50_000, "nested more than"),
        ('{"t": 5, "t": 6, "url": "http://a/"}', "the key 't' stands there twice"),
        ('{"t": NaN, "url": "http://a/"}', "t: must be a duration"),
        ('{"t": 5, "qps": 1e999, "url": "http://a/"}', "qps: must be"),
        ("t: 5\nurl: &a http://a/\nname: *a", "YAML aliases are not taken"),
        ("t: 5\nurl: !!python/name:os.system", "YAML tags are not taken"),
        ('{"t": 5, "url": "http://a/", "name": "\\ud800"}', "found invalid Unicode character"),
        ('{"t": 5, "url": "http://a/", "\\ud800": 1}', "found invalid Unicode character"),
        ("t: 5\nurl: http://a/\n\ud800: 1", "cannot be read"),
        ("x" * (9 * 1024 * 1024), "the limit is"),
    ],
    ids=range(29),
)
def test_what_is_no_test(text: str, words: str) -> None:
    told = refused(text)
    assert words in told
    told.encode()


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("meshbus.io/v1", "PerformanceOption"),
        ("meshbus.io/v1", "performanceOptions"),
        ("meshbus.io/v2", "PerformanceOptions"),
        ("meshbus.io/v1", None),
        (None, "PerformanceOptions"),
    ],
)
def test_options_with_a_slip_in_their_head_are_not_dropped(
    version: str | None, kind: str | None
) -> None:
    document = {"apiVersion": version, "kind": kind, "spec": {"workers": 3}}
    told = refused(f"{SMP_YAML}---\n{yaml.safe_dump(document)}")
    assert "apiVersion meshbus.io/v1 and kind PerformanceOptions" in told


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"A": f"{CANARY}\n"}},
        {"headers": {f"Authorization: {CANARY}": ""}},
        {"headers": f"A: {CANARY}"},
        {"headers": {"A": {CANARY: CANARY}}},
        {"cookies": {"a": f"{CANARY};"}},
        {"cookies": {f"{CANARY}=": "a"}},
        {"body": [CANARY]},
        {"body": CANARY * 10_000},
        {"ssl_certificate": CANARY},
        {"ssl_certificate": f"-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----"},
        {"endpoint_urls": [f"http://u:{CANARY}@a/"]},
        {"endpoint_urls": [f"http://a:0/?k={CANARY}"]},
        {"endpoint_urls": [f"http://{CANARY} a/"]},
        {"endpoint_urls": [f"http://[{CANARY}/"]},
        {"endpoint_urls": [f"http://a:{CANARY}/"]},
        {"content_type": CANARY * 100},
        {"load_generator": CANARY},
        {"protocol": CANARY},
        {"rps": CANARY},
        {"additional_options": CANARY},
        {f"Bearer {CANARY}": 1},
    ],
)
def test_values_are_not_told(fields: dict[str, Any]) -> None:
    with pytest.raises(LoadTestMalformed) as raised:
        read_test(body(client(**fields)))
    assert CANARY not in str(raised.value)


def test_not_even_pydantics_own_error_shows_what_was_written() -> None:
    with pytest.raises(ValidationError) as raised:
        SmpTest.model_validate({"clients": [client(headers={"a": [CANARY]}, body=[CANARY])]})
    assert raised.value.error_count() == 3
    assert CANARY not in str(raised.value)


def test_a_read_test_does_not_show_its_secrets() -> None:
    test = read(body(client(headers={"A": CANARY}, cookies={"b": CANARY}, body=CANARY)))
    assert CANARY in test.targets[0].body
    assert CANARY not in repr(test)


# --- anything ------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([CANARY, URL, "5s", "HTTP", "fortio", "-1", "0", f"http://{CANARY}@a/"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
CLIENT_NAMES = (
    *("internal", "load_generator", "protocol", "connections", "rps", "headers", "cookies", "body"),
    *("content_type", "endpointUrls", "endpoint_urls", "ssl_certificate", "additional_options"),
)
QUERY_NAMES = (
    *("name", "mesh", "uuid", "t", "dur", "c", "qps", "url", "loadGenerator", "headers"),
    *("cookies", "contentType", "reqBody", "cert"),
)


@given(
    changes=st.dictionaries(st.sampled_from(CLIENT_NAMES), VALUES, max_size=4),
    test=st.dictionaries(st.sampled_from(("name", "labels", "duration", "id")), VALUES, max_size=2),
    asked=st.dictionaries(st.sampled_from(QUERY_NAMES), VALUES, max_size=4),
)
def test_any_values_are_read_or_refused_in_our_words(
    changes: dict[str, Any], test: dict[str, Any], asked: dict[str, Any]
) -> None:
    for text in (
        body(client(**changes), **test),
        yaml.safe_dump({"test": {"duration": 5, "clients": [client(**changes)], **test}}),
        query(**asked),
    ):
        found, told = outcome(text)
        assert CANARY not in told
        if found is not None:
            assert LoadTest.model_validate_json(found.model_dump_json()) == found
            assert 1 <= found.connections <= 10_000
            assert all(stage.rate >= 0 and stage.duration_s >= 1 for stage in found.stages)
