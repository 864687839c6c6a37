"""Kubeconfigs of strangers: what is refused, in which words, and that nothing is run or read."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import KubeconfigMalformed, KubeconfigRefused, MeshbusError
from services.chassis.kube.kubeconfigs import (
    SIZE_LIMIT_BYTES,
    Kubeconfig,
    parse_kubeconfig,
    select_context,
)

TOKEN = "canary-token-5e0f7d"
KEY_LINE = "canaryKeyLine9a4c1b"
PASSWORD = "canary-password-c83e52"
CANARIES = (TOKEN, KEY_LINE, PASSWORD)
LONGEST_S = 8.0
"""No text takes more of the processor than this."""


def pem(kind: str, line: str = "QUJD") -> str:
    text = f"-----BEGIN {kind}-----\n{line}\n-----END {kind}-----\n"
    return base64.b64encode(text.encode()).decode()


def good() -> dict[str, Any]:
    """A kubeconfig that is taken, with a canary in every secret place."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c1", "user": "u1"}}],
        "clusters": [
            {
                "name": "c1",
                "cluster": {
                    "server": "https://10.0.0.1:6443/",
                    "certificate-authority-data": pem("CERTIFICATE"),
                },
            }
        ],
        "users": [
            {
                "name": "u1",
                "user": {
                    "token": TOKEN,
                    "client-certificate-data": pem("CERTIFICATE"),
                    "client-key-data": pem("PRIVATE KEY", KEY_LINE),
                },
            }
        ],
    }


def dumped(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False)


def user(**fields: Any) -> str:
    """The good one with fields of its user changed; `_` stands for `-`, None takes one away."""
    return _with("users", "user", fields)


def cluster(**fields: Any) -> str:
    return _with("clusters", "cluster", fields)


def _with(section: str, part: str, fields: dict[str, Any]) -> str:
    document = good()
    entry = document[section][0][part]
    for name, value in fields.items():
        name = name.strip("_").replace("_", "-")
        if value is None:
            entry.pop(name, None)
        else:
            entry[name] = value
    return dumped(document)


def top(change: Callable[[dict[str, Any]], Any]) -> str:
    document = good()
    change(document)
    return dumped(document)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@dataclass(frozen=True)
class Bad:
    """A text, the error that it must get, and a word that the error must have."""

    text: str
    error: type[MeshbusError]
    word: str


def refused(text: str, word: str) -> Bad:
    return Bad(text, KubeconfigRefused, word)


def malformed(text: str, word: str) -> Bad:
    return Bad(text, KubeconfigMalformed, word)


PLUGIN = {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": ["{canary}"]}

BAD: dict[str, Bad] = {
    # What would run a program, read a file, or leave the TLS path.
    "exec": refused(user(exec=PLUGIN), "`exec`"),
    "exec alone": refused(user(exec=PLUGIN, token=None), "`exec`"),
    "auth provider": refused(
        user(auth_provider={"name": "gcp", "config": {"cmd-path": "touch"}}), "`auth-provider`"
    ),
    "token file": refused(user(tokenFile="{canary}", token=None), "`tokenFile`"),
    "token and token file": refused(user(tokenFile="{canary}"), "`tokenFile`"),
    "certificate file": refused(user(client_certificate="{canary}"), "`client-certificate`"),
    "key file": refused(user(client_key="{canary}"), "`client-key`"),
    "authority file": refused(cluster(certificate_authority="{canary}"), "`certificate-authority`"),
    "proxy": refused(cluster(proxy_url="http://127.0.0.1:1"), "`proxy-url`"),
    "socks proxy": refused(cluster(proxy_url="socks5://127.0.0.1:1"), "`proxy-url`"),
    "plain http": refused(cluster(server="http://10.0.0.1:8080"), "server is plain http"),
    "skipped verification": refused(
        cluster(insecure_skip_tls_verify=True), "insecure-skip-tls-verify"
    ),
    "skipped verification as text": refused(
        cluster(insecure_skip_tls_verify="true"), "insecure-skip-tls-verify"
    ),
    "username": refused(user(username="admin"), "`username`"),
    "password": refused(user(password=PASSWORD), "`password`"),
    "username and password": refused(user(username="admin", password=PASSWORD), "`username`"),
    "impersonated user": refused(user(as_="somebody"), "`as`"),
    "impersonated groups": refused(user(as_groups=["system:masters"]), "`as-groups`"),
    "user in the URL": refused(cluster(server=f"https://admin:{PASSWORD}@10.0.0.1"), "server"),
    "empty user in the URL": refused(cluster(server="https://@10.0.0.1"), "server"),
    "query in the URL": refused(cluster(server="https://10.0.0.1/?a=b"), "server"),
    "empty query in the URL": refused(cluster(server="https://10.0.0.1?"), "server"),
    "fragment in the URL": refused(cluster(server="https://10.0.0.1/#a"), "server"),
    # The address.
    "no server": malformed(cluster(server=None), "server"),
    "server of another scheme": malformed(cluster(server="ftp://10.0.0.1"), "server"),
    "server without scheme": malformed(cluster(server="10.0.0.1:6443"), "server"),
    "server without host": malformed(cluster(server="https://"), "server"),
    "server with a strange port": malformed(cluster(server="https://10.0.0.1:port"), "server"),
    "server with a large port": malformed(cluster(server="https://10.0.0.1:99999"), "server"),
    "server with half a bracket": malformed(cluster(server="https://[::1"), "server"),
    "server with a line end": malformed(cluster(server="https://10.0\n.0.1"), "server"),
    "server with a header": malformed(cluster(server="https://a/\r\nHost: b"), "server"),
    "server with a NUL": malformed(cluster(server="https://a\0b"), "server"),
    "server is a number": malformed(cluster(server=7), "server"),
    "server is a list": malformed(cluster(server=["https://10.0.0.1"]), "server"),
    "TLS name is a list": malformed(cluster(tls_server_name=["a"]), "tls-server-name"),
    # The credential.
    "certificate without key": malformed(user(client_key_data=None), "`client-key-data`"),
    "key without certificate": malformed(
        user(client_certificate_data=None), "`client-certificate-data`"
    ),
    "no credential": malformed(
        user(token=None, client_certificate_data=None, client_key_data=None), "`token`"
    ),
    "token with a header": malformed(user(token=f"{TOKEN}\r\nX-Forwarded-For: a"), "token"),
    "token with a line end": malformed(user(token=f"{TOKEN}\n"), "token"),
    "token with a blank": malformed(user(token=f"{TOKEN} {TOKEN}"), "token"),
    "token with a NUL": malformed(user(token=f"{TOKEN}\0"), "token"),
    "token beyond ASCII": malformed(user(token=f"{TOKEN}ü"), "token"),
    "token is a number": malformed(user(token=123456789), "token"),
    "token is a list": malformed(user(token=[TOKEN]), "token"),
    "authority not base64": malformed(
        cluster(certificate_authority_data="§§§"), "`certificate-authority-data`"
    ),
    "authority not PEM": malformed(
        cluster(certificate_authority_data="QUJD"), "`certificate-authority-data`"
    ),
    "certificate not base64": malformed(
        user(client_certificate_data="-----BEGIN CERTIFICATE-----"), "`client-certificate-data`"
    ),
    "key not base64": malformed(user(client_key_data=f"{KEY_LINE}!"), "`client-key-data`"),
    "key not PEM": malformed(
        user(client_key_data=base64.b64encode(KEY_LINE.encode()).decode()), "`client-key-data`"
    ),
    "key is a list": malformed(user(client_key_data=[KEY_LINE]), "`client-key-data`"),
    "key is a mapping": malformed(user(client_key_data={KEY_LINE: 1}), "`client-key-data`"),
    # The structure.
    "no current context": malformed(top(lambda d: d.pop("current-context")), "current-context"),
    "empty current context": malformed(
        top(lambda d: d.update({"current-context": ""})), "current-context"
    ),
    "unknown current context": malformed(
        top(lambda d: d.update({"current-context": "two"})), "contexts"
    ),
    "current context is a number": malformed(
        top(lambda d: d.update({"current-context": 1})), "current-context"
    ),
    "unknown cluster": malformed(
        top(lambda d: d["contexts"][0]["context"].update(cluster="c2")), "clusters"
    ),
    "unknown user": malformed(
        top(lambda d: d["contexts"][0]["context"].update(user="u2")), "users"
    ),
    "no users": malformed(top(lambda d: d.pop("users")), "users"),
    "users are a mapping": malformed(top(lambda d: d.update(users={"u1": {}})), "users"),
    "users are text": malformed(top(lambda d: d.update(users="u1")), "users"),
    "contexts are numbers": malformed(top(lambda d: d.update(contexts=[1, 2])), "contexts"),
    "user is text": malformed(top(lambda d: d["users"][0].update(user=f"token {TOKEN}")), "users"),
    "cluster is a list": malformed(top(lambda d: d["clusters"][0].update(cluster=[])), "clusters"),
    "context is null": malformed(top(lambda d: d["contexts"][0].update(context=None)), "contexts"),
    "empty": malformed("", "empty"),
    "only a comment": malformed("# nothing\n", "empty"),
    "text": malformed(f"token {TOKEN}", "mapping"),
    "list": malformed(f"- {TOKEN}\n", "mapping"),
    "number": malformed("7", "mapping"),
    # The text itself.
    "not YAML": malformed(f"a: [{TOKEN}", "line 2"),
    "tab": malformed(f"a:\n\t{TOKEN}: b", "line 2"),
    "two documents": malformed(f"{dumped(good())}---\n{dumped(good())}", "not YAML"),
    "5 MB": malformed("#" * (5 * 1024 * 1024), str(SIZE_LIMIT_BYTES)),
    "5 MB of a kubeconfig": malformed(
        dumped(good()).replace(TOKEN, TOKEN * 250_000), str(SIZE_LIMIT_BYTES)
    ),
    "NUL": malformed(dumped(good()) + "\0", "NUL"),
    "control character": malformed(dumped(good()) + "\x07", "not YAML"),
    "half a character": malformed(dumped(good()) + "# \ud800", "not YAML"),
    "cycle": malformed(f"a: &a\n  b: *a\ntoken: {TOKEN}", "aliases"),
    "billion laughs": malformed(BOMB, "aliases"),
    "merge of an alias": malformed("a: &a {b: c}\nd: {<<: *a}", "aliases"),
    "deep lists": malformed("[" * 10_000, "deep"),
    "deep mappings": malformed("{a: " * 10_000, "deep"),
    "deep blocks": malformed("- " * 10_000, "deep"),
    "Python object": malformed("!!python/object/apply:os.system ['touch {canary}']", "tags"),
    "unknown tag": malformed(f"!vault {TOKEN}", "tags"),
    "bad number by tag": malformed("a: !!int ''", "tags"),
    "bad truth by tag": malformed("a: !!bool maybe", "tags"),
    "duplicate key": malformed(f"users: []\n{dumped(good())}", "line"),
    "long number": malformed("a: " + "9" * 200_000, "not YAML"),
    "list as a key": malformed("? [a]\n: b", "line 1"),
}

every_bad = pytest.mark.parametrize("case", BAD)


def error_for(text: str, **options: Any) -> MeshbusError:
    with pytest.raises(MeshbusError) as caught:
        parse_kubeconfig(text, **options)
    return caught.value


@every_bad
def test_a_bad_kubeconfig_gets_its_error(case: str) -> None:
    bad = BAD[case]
    began = time.process_time()
    error = error_for(bad.text)
    assert time.process_time() - began < LONGEST_S
    assert type(error) is bad.error
    assert bad.word in error.summary
    assert error.cause
    assert error.remedy
    assert len(str(error)) < 1000


@every_bad
def test_an_error_shows_no_secret(case: str) -> None:
    error = error_for(BAD[case].text)
    for form in (str(error), repr(error), repr(error.__cause__)):
        assert not [canary for canary in CANARIES if canary in form]


AUDITED = """
import json, sys
from services.chassis.errors import MeshbusError
from services.chassis.kube.kubeconfigs import parse_kubeconfig

texts = json.load(sys.stdin)
parse_kubeconfig(texts.pop(0))
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
for text in texts:
    try:
        parse_kubeconfig(text)
    except MeshbusError:
        pass
bad = list(seen)
open("/dev/null").close()
print(json.dumps([bad, seen[len(bad):]]))
"""
HARMLESS = ("object.", "sys._getframe", "code.__new__", "builtins.id", "gc.")


def test_no_bad_kubeconfig_runs_reads_or_reaches_anything(tmp_path: Path) -> None:
    """Under an audit hook, which sees each file, program and socket that Python touches."""
    canary = tmp_path / "canary"
    # No text with half a character: JSON to the child could not carry it.
    texts = [bad.text for case, bad in BAD.items() if case != "half a character"]
    sent = [dumped(good()), *(text.replace("{canary}", str(canary)) for text in texts)]
    child = subprocess.run(
        [sys.executable, "-c", AUDITED],
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    during, control = json.loads(child.stdout)
    assert "open" in control, "the hook sees nothing"
    assert [event for event in during if not event.startswith(HARMLESS)] == []
    assert not canary.exists()


# ---- What is taken -------------------------------------------------------------------------------


def test_a_good_kubeconfig_is_read_whole() -> None:
    config = parse_kubeconfig(cluster(tls_server_name="kubernetes"))
    assert config == Kubeconfig(
        context="one",
        server="https://10.0.0.1:6443",
        ca_pem=base64.b64decode(pem("CERTIFICATE")),
        client_certificate_pem=base64.b64decode(pem("CERTIFICATE")),
        client_key_pem=base64.b64decode(pem("PRIVATE KEY", KEY_LINE)),
        token=TOKEN,
        tls_server_name="kubernetes",
        verify_tls=True,
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(user(client_certificate_data=None, client_key_data=None), id="token"),
        pytest.param(user(token=None), id="certificate"),
        pytest.param(user(exec=None, tokenFile="", client_key=""), id="empty refused fields"),
        pytest.param(cluster(certificate_authority_data=None), id="public authority"),
        pytest.param(cluster(insecure_skip_tls_verify=False), id="verification not skipped"),
        pytest.param(json.dumps(good()), id="JSON"),
        pytest.param("---\r\n" + dumped(good()).replace("\n", "\r\n"), id="CRLF"),
        pytest.param("\ufeff" + dumped(good()), id="byte order mark"),
        pytest.param(
            top(lambda d: d["users"].append({"name": "u2", "user": {"exec": PLUGIN}})),
            id="exec of another user",
        ),
        pytest.param(
            top(lambda d: d.update(preferences={}, extensions=[{"name": "x"}])), id="extensions"
        ),
    ],
)
def test_a_usable_kubeconfig_is_taken(text: str) -> None:
    assert parse_kubeconfig(text).context == "one"


def test_skipping_verification_is_a_setting() -> None:
    text = cluster(insecure_skip_tls_verify=True, certificate_authority_data=None)
    assert "MESHBUS_INSECURE_KUBECONFIGS" in error_for(text).remedy
    assert parse_kubeconfig(text, allow_insecure=True).verify_tls is False
    assert parse_kubeconfig(dumped(good()), allow_insecure=True).verify_tls is True


@pytest.mark.parametrize("case", [case for case, bad in BAD.items() if "skipped" not in case])
def test_the_setting_opens_nothing_else(case: str) -> None:
    assert type(error_for(BAD[case].text, allow_insecure=True)) is BAD[case].error


def test_a_representation_shows_no_secret() -> None:
    config = parse_kubeconfig(dumped(good()))
    assert not [canary for canary in CANARIES if canary in repr(config)]


def test_every_form_of_a_secret_is_known() -> None:
    secrets = parse_kubeconfig(dumped(good())).secrets
    assert {TOKEN, KEY_LINE, pem("PRIVATE KEY", KEY_LINE)} <= set(secrets)
    assert not [text for text in secrets if "-----" in text]


def test_a_cluster_is_its_address_and_authority() -> None:
    first = parse_kubeconfig(dumped(good())).cluster
    assert parse_kubeconfig(user(token="another-token")).cluster == first
    assert parse_kubeconfig(cluster(server="https://10.0.0.1:6443")).cluster == first
    assert parse_kubeconfig(cluster(server="https://10.0.0.2:6443")).cluster != first
    assert parse_kubeconfig(cluster(certificate_authority_data=None)).cluster != first


# ---- One context of several ----------------------------------------------------------------------


def two_contexts() -> dict[str, Any]:
    document = good()
    for section, part in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
        entry = copy.deepcopy(document[section][0])
        entry["name"] = entry["name"].replace("1", "2").replace("one", "two")
        document[section].append(entry)
        if part == "user":
            entry[part]["token"] = "token-of-the-second"
    document["contexts"][1]["context"] = {"cluster": "c2", "user": "u2"}
    return document


def test_a_chosen_context_takes_nothing_of_the_others_along() -> None:
    text = select_context(dumped(two_contexts()), "two")
    config = parse_kubeconfig(text)
    assert (config.context, config.token) == ("two", "token-of-the-second")
    assert TOKEN not in text


@pytest.mark.parametrize("context", ["", "three", "c1"])
def test_a_context_that_is_not_there_cannot_be_chosen(context: str) -> None:
    with pytest.raises(KubeconfigMalformed):
        select_context(dumped(two_contexts()), context)


def test_choosing_a_context_refuses_no_less() -> None:
    document = two_contexts()
    document["users"][1]["user"]["exec"] = PLUGIN
    assert "`exec`" in error_for(select_context(dumped(document), "two")).summary


# ---- Whatever else somebody sends ----------------------------------------------------------------

NAMES = st.sampled_from(
    ["one", "c1", "u1", "current-context", "contexts", "clusters", "users", "token", "exec"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NAMES
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
yaml_text = st.text(alphabet="abz019 \t\n:-?[]{}&*!|>'\"%@#,.<=~\\_eE+\0\r\ufeffü", max_size=200)


def only_our_errors(text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(KubeconfigMalformed, KubeconfigRefused):
        config = parse_kubeconfig(text)
        assert config.server.startswith("https://")
        assert config.token or config.client_key_pem
    with contextlib.suppress(KubeconfigMalformed):
        select_context(text, "one")
    assert time.process_time() - began < LONGEST_S


@given(st.text(max_size=500) | yaml_text)
def test_any_text_is_answered_with_our_errors(text: str) -> None:
    only_our_errors(text)


@given(
    st.sampled_from(
        ["token", "exec", "username", "as", "client-key-data", "tokenFile", "client-key", "x"]
    ),
    values,
)
def test_any_value_in_a_user_is_answered_with_our_errors(name: str, value: Any) -> None:
    document = good()
    document["users"][0]["user"][name] = value
    only_our_errors(dumped(document))


@given(
    st.sampled_from(
        ["server", "certificate-authority-data", "tls-server-name", "insecure-skip-tls-verify"]
    ),
    values | st.text(max_size=20).map("https://".__add__),
)
def test_any_value_in_a_cluster_is_answered_with_our_errors(name: str, value: Any) -> None:
    document = good()
    document["clusters"][0]["cluster"][name] = value
    only_our_errors(dumped(document))


@given(st.sampled_from(["current-context", "contexts", "clusters", "users"]), values)
def test_any_section_is_answered_with_our_errors(name: str, value: Any) -> None:
    only_our_errors(dumped({**good(), name: value}))


@given(st.integers(min_value=0), st.integers(0, 40), st.text(max_size=10))
def test_a_damaged_kubeconfig_is_answered_with_our_errors(
    place: int, length: int, patch: str
) -> None:
    text = dumped(good())
    start = place % len(text)
    only_our_errors(text[:start] + patch + text[start + length :])


SLOW = {
    "base 60": "a: 1" + ":1" * 120_000,
    "base 60 fraction": "a: 1" + ":1" * 120_000 + ".5",
    "long keys": "a" * 250_000,
    "open quotes": "'" * 250_000,
    "question marks": "? " * 100_000,
    "flat list": "a: [" + "1," * 120_000 + "]",
    "flat mapping": "\n".join(f"k{number}: 1" for number in range(20_000)),
    "many anchors": "\n".join(f"k{number}: &a{number} 1" for number in range(10_000)),
    "comments": "#\n" * 120_000,
    "blank lines": "a:\n" + "\n" * 250_000,
    "directives": "%A\n" * 80_000,
    "documents": "---\n" * 60_000,
    "colons": ":" * 250_000,
    "colons and blanks": ": " * 120_000,
    "braces": "{}" * 120_000,
    "literal": "a: |\n" + " x\n" * 80_000,
    "octal": "a: 0" + "7" * 250_000,
    "hexadecimal": "a: 0x" + "f" * 250_000,
}


@pytest.mark.parametrize("case", SLOW)
def test_no_text_within_the_size_limit_is_slow(case: str) -> None:
    assert len(SLOW[case]) <= SIZE_LIMIT_BYTES
    only_our_errors(SLOW[case])


def test_what_a_kubeconfig_says_to_meshbus_is_kept() -> None:
    """Of the context before the cluster; other programs' extensions are theirs."""
    document = good()
    of_cluster = [
        {"name": "meshbus.io/prometheus", "extension": {"service": "a/b"}},
        {"name": "meshbus.io/other", "extension": "text"},
    ]
    of_context = [
        {"name": "context_info", "extension": {"provider": "minikube"}},
        {"name": "meshbus.io/prometheus", "extension": {"service": "c/d"}},
        "anything",
        {"extension": 1},
    ]
    document["clusters"][0]["cluster"]["extensions"] = of_cluster
    document["contexts"][0]["context"]["extensions"] = of_context
    wanted = {"meshbus.io/prometheus": {"service": "c/d"}, "meshbus.io/other": "text"}
    text = yaml.safe_dump(document)
    assert parse_kubeconfig(text).extensions == wanted
    assert parse_kubeconfig(select_context(text, "one")).extensions == wanted
    document["contexts"][0]["context"]["extensions"] = "text"
    document["clusters"][0]["cluster"]["extensions"] = None
    assert parse_kubeconfig(yaml.safe_dump(document)).extensions == {}
