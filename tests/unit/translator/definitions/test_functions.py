"""Functions of rules: that each is there, and durations and URLs as Go reads them."""

from __future__ import annotations

from datetime import timedelta

import cel
import pytest

from services.translator.definitions.functions import FUNCTIONS, NATIVE, duration, is_url, url
from tests.unit.translator.definitions.samples import findings, told, with_field


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("1ns", 0),
        ("1999ns", 1),
        ("1us", 1),
        ("1µs", 1),
        ("1.5ms", 1_500),
        (".5s", 500_000),
        ("5.s", 5_000_000),
        ("1m30s", 90_000_000),
        ("1h1h", 7_200_000_000),
        ("-1s", -1_000_000),
        ("+1s", 1_000_000),
        ("-0", 0),
    ],
)
def test_durations(text: str, microseconds: int) -> None:
    assert duration(text) == timedelta(microseconds=microseconds)


@pytest.mark.parametrize(
    "text", ["", "-", "5", "s", ".s", "1 s", "1d", "1s ", "1S", "--1s", "9e9s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)


def test_the_longest_duration() -> None:
    assert duration("2562047h").days == 106_751
    with pytest.raises(ValueError, match="too long"):
        duration("2562048h")


@pytest.mark.parametrize(
    ("text", "scheme", "host", "path"),
    [
        ("http://a/b", "http", "a", "/b"),
        ("oci://reg/image:tag", "oci", "reg", "/image:tag"),
        ("file:///x", "file", "", "/x"),
        ("http://", "http", "", ""),
        ("http:///x", "http", "", "/x"),
        ("http:x", "http", "", ""),
        ("mailto:a@b", "mailto", "", ""),
        ("localhost:8080/x", "localhost", "", ""),
        ("a+b.c-d:x", "a+b.c-d", "", ""),
        ("/path", "", "", "/path"),
        ("//host/x", "", "host", "/x"),
        ("///x", "", "", "///x"),
        ("*", "", "", "*"),
        ("http://user:p%40@h/x", "http", "h", "/x"),
        ("http://[fe80::1%25en0]:80/", "http", "[fe80::1%en0]:80", "/"),
        ("http://a:99999/", "http", "a:99999", "/"),
        ("http://a:/", "http", "a:", "/"),
        ("http://ä.de/ö", "http", "ä.de", "/%C3%B6"),
        ("http://a/b c", "http", "a", "/b%20c"),
        ("http://a/?x=%zz", "http", "a", "/"),
        ("http://a/b#c", "http", "a", "/b"),
    ],
)
def test_urls(text: str, scheme: str, host: str, path: str) -> None:
    parts = url(text)

    assert (parts["scheme"], parts["host"]) == (scheme, host)
    assert FUNCTIONS["getEscapedPath"](parts) == path
    assert is_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b",
        "reg.io/image:tag",
        ":x",
        "1http://x",
        "?a=b",
        "#x",
        " http://a",
        "http://a b/",
        "http://a\tb",
        "http://a/%zz",
        "http://h%41/",
        "http://a<>^b/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[1.2.3.4]/",
        "http://a:80x/",
        "http://a:b:80/",
        "http://u p@h/",
    ],
)
def test_what_is_no_url(text: str) -> None:
    assert not is_url(text)
    with pytest.raises(ValueError):  # noqa: PT011 (which one does not matter: no text reaches a user)
        url(text)


NATIVE_CALLS = {
    "bytes": "bytes('a') == b'a'",
    "contains": "'ab'.contains('a')",
    "double": "double('1.5') == 1.5",
    "dyn": "dyn(1) == 1",
    "endsWith": "'ab'.endsWith('b')",
    "int": "int('1') == 1",
    "startsWith": "'ab'.startsWith('a')",
    "string": "string(1) == '1'",
    "timestamp": "timestamp('2026-01-31T00:00:00Z') == timestamp('2026-01-31T00:00:00Z')",
    "type": "type('a') == string",
    "uint": "uint(1) == 1u",
    "hasValue": "optional.of(1).hasValue()",
    "none": "!optional.none().hasValue()",
    "of": "optional.of(1).hasValue()",
    "ofNonZeroValue": "!optional.ofNonZeroValue(0).hasValue()",
    "or": "optional.none().or(optional.of(1)).hasValue()",
    "orValue": "optional.none().orValue(1) == 1",
    "value": "optional.of(1).value() == 1",
    **{
        name: f"timestamp('2026-01-31T00:00:00Z').{name}() >= 0"
        for name in sorted(NATIVE)
        if name.startswith("get")
    },
}


def test_what_counts_as_native_is_complete_and_there() -> None:
    assert set(NATIVE_CALLS) == NATIVE


@pytest.mark.parametrize("expression", NATIVE_CALLS.values(), ids=NATIVE_CALLS.keys())
def test_what_counts_as_native_works_without_us(expression: str) -> None:
    assert cel.compile(expression).execute({}) is True


OWN_CALLS = {
    "bool": "bool('true')",
    "charAt": "'ab'.charAt(1) == 'b'",
    "distinct": "[1, 1].distinct() == [1]",
    "flatten": "[[1], [2]].flatten() == [1, 2]",
    "join": "['a', 'b'].join('-') == 'a-b'",
    "lists.range": "lists.range(2) == [0, 1]",
    "lowerAscii": "'A'.lowerAscii() == 'a'",
    "max": "[1, 2].max() == 2",
    "min": "[1, 2].min() == 1",
    "replace": "'aa'.replace('a', 'b') == 'bb'",
    "reverse": "'ab'.reverse() == 'ba'",
    "sets.contains": "sets.contains([1, 2], [1])",
    "sets.equivalent": "sets.equivalent([1, 2], [2, 1])",
    "sets.intersects": "sets.intersects([1, 2], [2])",
    "slice": "[1, 2, 3].slice(1, 2) == [2]",
    "sort": "[2, 1].sort() == [1, 2]",
    "split": "'a/b'.split('/') == ['a', 'b']",
    "strings.quote": "strings.quote('a') == '\"a\"'",
    "substring": "'abc'.substring(1) == 'bc'",
    "sum": "[1, 2].sum() == 3",
    "trim": "' a '.trim() == 'a'",
    "upperAscii": "'a'.upperAscii() == 'A'",
    "duration": "duration('1s') == duration('1000ms')",
    "getEscapedPath": "url('/a').getEscapedPath() == '/a'",
    "getHost": "url('http://a:1').getHost() == 'a:1'",
    "getHostname": "url('http://[::1]:1').getHostname() == '::1'",
    "getPort": "url('http://[::1]:1').getPort() == '1'",
    "getQuery": "url('/?a=').getQuery() == {'a': ['']}",
    "getScheme": "url('X:a').getScheme() == 'x'",
    "indexOf": "[1, 2].indexOf(2) == 1 && 'abc'.indexOf('c') == 2 && [1].indexOf(2) == -1",
    "isCIDR": "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0')",
    "isIP": "isIP('::1') && !isIP('1.2.3')",
    "isSorted": "[1, 2].isSorted() && !['b', 'a'].isSorted()",
    "isURL": "isURL('http://a') && !isURL('a')",
    "lastIndexOf": "[1, 1].lastIndexOf(1) == 1 && 'aa'.lastIndexOf('a') == 1",
    "matches": "'abc'.matches('b')",
    "size": "size('ä') == 1",
    "url": "url('http://a').getHost() == 'a'",
}


def test_every_function_of_ours_is_tried() -> None:
    assert set(OWN_CALLS) == set(FUNCTIONS)


@pytest.mark.parametrize("expression", OWN_CALLS.values(), ids=OWN_CALLS.keys())
def test_functions_of_ours(expression: str) -> None:
    schema = {"type": "string", "x-kubernetes-validations": [{"rule": expression}]}

    assert told(findings(with_field(schema), {"x": "a"})) == []
