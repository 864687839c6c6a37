"""String formats that the API server checks."""

from __future__ import annotations

import pytest

from services.translator.definitions.formats import FORMATS, SPELLINGS

RIGHT = {
    "byte": ("YWJj", "YQ=="),
    "cidr": ("10.0.0.0/8", "::/0", "1.2.3.4/32"),
    "date": ("2026-01-31",),
    "date-time": ("2026-01-31T23:59:59Z", "2026-01-31t00:00:00.5+01:00"),
    "duration": ("1h5m", "0", "22 ns", "3 days", "-1.5s"),
    "ipv4": ("10.0.0.1", "::ffff:10.0.0.1"),
    "ipv6": ("::1", "fe80::1"),
    "k8s-long-name": ("a.b-c.d", "a"),
    "k8s-short-name": ("a-b", "1"),
    "mac": ("00:00:5e:00:53:01", "00-00-5E-00-53-01", "0000.5e00.5301"),
    "uuid": ("7d444840-9dc0-11d1-b245-5ffdce74fad2", "7D4448409DC011D1B2455FFDCE74FAD2"),
    "uuid3": ("7d444840-9dc0-31d1-1245-5ffdce74fad2",),
    "uuid4": ("7d444840-9dc0-41d1-b245-5ffdce74fad2",),
    "uuid5": ("7d444840-9dc0-51d1-b245-5ffdce74fad2",),
}
WRONG = {
    "byte": ("", "a", "YWJj\n", "Y W Jj"),
    "cidr": ("10.0.0.0", "10.0.0.0/33", "a/8", "10.0.0.0/-1", "::/129"),
    "date": ("2026-1-31", "2026-02-30", "20260131", ""),
    "date-time": ("2026-01-31", "2026-01-31T24:00:00Z", "2026-01-31T12:00:00", "T", ""),
    "duration": ("", "5", "five days", "1x"),
    "ipv4": ("10.0.0", "10.0.0.256", "::1", "x.y"),
    "ipv6": ("10.0.0.1", "fe80::1%eth0", "::g"),
    "k8s-long-name": ("a..b", "A.b", "a." * 127 + "abc", ""),
    "k8s-short-name": ("-a", "a.b", "A", "a" * 64, "a\n"),
    "mac": ("00:00:5e:00:53", "00:00:5e-00:53:01", "0000.5e00"),
    "uuid": ("7d444840", "g" * 32),
    "uuid3": ("7d444840-9dc0-41d1-b245-5ffdce74fad2",),
    "uuid4": ("7d444840-9dc0-41d1-c245-5ffdce74fad2",),
    "uuid5": ("7d444840-9dc0-41d1-b245-5ffdce74fad2",),
}


def test_every_format_is_tried() -> None:
    assert set(RIGHT) == set(WRONG) == set(FORMATS)


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in RIGHT.items() for text in texts]
)
def test_right_texts(name: str, text: str) -> None:
    assert FORMATS[name](text)


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts]
)
def test_wrong_texts(name: str, text: str) -> None:
    assert not FORMATS[name](text)


def test_dashes_of_a_name_do_not_matter() -> None:
    assert SPELLINGS["datetime"] == "date-time"
