"""The door: whom a token, a certificate or nothing at all makes of a call."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from services.chassis.errors import NotAuthenticated
from services.chassis.files import Followed
from services.chassis.policy import LOCAL, Identity
from services.chassis.settings import SettingsError
from services.gateway.door import tokens
from services.gateway.door.identities import Door, Evidence, Issuer
from services.gateway.door.jwt import read_keys
from services.gateway.settings import GatewaySettings
from tests.testbed.pki import Authority

NOW = 1_800_000_000.0
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
GOOD = {"iss": "https://issuer", "aud": "meshbus", "sub": "ana", "groups": ["sre"], "exp": NOW + 60}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8))


def key_set() -> bytes:
    public, point = RSA.public_key().public_numbers(), P256.public_key().public_numbers()
    return orjson.dumps(
        {
            "keys": [
                {"kid": "rsa", "kty": "RSA", "n": number(public.n), "e": number(public.e)},
                {
                    "kid": "ec",
                    "kty": "EC",
                    "crv": "P-256",
                    "x": number(point.x),
                    "y": number(point.y),
                },
                {
                    "kid": "ed",
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": b64(ED.public_key().public_bytes_raw()),
                },
                {"kid": "secret", "kty": "oct", "k": b64(b"shared")},
            ]
        }
    )


def _by_rsa(data: bytes) -> bytes:
    return RSA.sign(data, padding.PKCS1v15(), hashes.SHA256())


def _by_p256(data: bytes) -> bytes:
    r, s = decode_dss_signature(P256.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


SIGNERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "RS256": ("rsa", _by_rsa),
    "ES256": ("ec", _by_p256),
    "EdDSA": ("ed", ED.sign),
}


def signed(algorithm: str = "EdDSA", *, header: Any = None, **changed: Any) -> str:
    key, sign = SIGNERS[algorithm]
    told = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    head = {"alg": algorithm, "kid": key, **(header or {})}
    text = f"{b64(orjson.dumps(head))}.{b64(orjson.dumps(told))}"
    return f"{text}.{b64(sign(text.encode()))}"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    (tmp_path / "keys").write_bytes(key_set())
    (tmp_path / "tokens").write_text(tokens.entry("ben", ["devs"], "a-token"))
    return Door(
        now=lambda: NOW,
        tokens=Followed("TOKENS", tmp_path / "tokens", read=tokens.read_tokens),
        issuer=Issuer(
            keys=Followed("KEYS", tmp_path / "keys", read=read_keys),
            name="https://issuer",
            audience="meshbus",
            identity_claim="sub",
            groups_claim="groups",
        ),
    )


def bearer(token: str) -> Evidence:
    return Evidence(authorization=f"Bearer {token}")


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_signed_token_names_its_identity(door: Door, algorithm: str) -> None:
    admitted = door.admit(bearer(signed(algorithm)))
    assert admitted.identity == Identity("ana", frozenset({"sre"}))
    assert admitted.by == "jwt"


UNSIGNED = ".".join([b64(orjson.dumps({"alg": "none"})), b64(orjson.dumps(GOOD)), ""])
FORGED = {
    "no signature": UNSIGNED,
    "algorithm none": signed(header={"alg": "none"}),
    "another algorithm than the key's": signed(header={"alg": "HS256", "kid": "rsa"}),
    "another key": signed(header={"kid": "rsa"}),
    "a shared secret as a key": signed(header={"kid": "secret"}),
    "an unknown key": signed(header={"kid": "../ed"}),
    "no key": signed(header={"kid": None}),
    "extensions that we do not know": signed(header={"crit": ["b64"]}),
    "another issuer": signed(iss="https://other"),
    "another audience": signed(aud="other"),
    "other audiences": signed(aud=["other"]),
    "expired": signed(exp=NOW - 61),
    "no expiry": signed(exp=None),
    "expiry of another type": signed(exp="2100"),
    "not yet": signed(nbf=NOW + 61),
    "no subject": signed(sub=None),
    "a subject that is no text": signed(sub=["ana"]),
    "the local user's name": signed(sub="local"),
    "the operator's name": signed(sub="operator"),
    "control characters": signed(sub="a\nb"),
    "changed claims": ".".join(
        [signed().split(".")[0], signed(sub="root").split(".")[1], signed().split(".")[2]]
    ),
    "nonsense": "nonsense",
    "empty": "",
    "long": "a." * 20_000,
}


@pytest.mark.parametrize("case", FORGED)
def test_a_token_that_does_not_hold_is_refused(door: Door, case: str) -> None:
    with pytest.raises(NotAuthenticated):
        door.admit(bearer(FORGED[case]))


def test_tokens_are_known_by_their_hashes(door: Door, tmp_path: Path) -> None:
    assert door.admit(bearer("a-token")).identity == Identity("ben", frozenset({"devs"}))
    assert "a-token" not in (tmp_path / "tokens").read_text()


def test_a_renewed_file_counts_at_once(door: Door, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.write_text("nonsense: [")
    os.replace(fresh, tmp_path / "tokens")
    assert door.admit(bearer("a-token")).identity.name == "ben", (
        "what cannot be read changes nothing"
    )
    fresh.write_text(tokens.entry("eve", [], "another"))
    os.replace(fresh, tmp_path / "tokens")
    assert door.admit(bearer("another")).identity.name == "eve"
    with pytest.raises(NotAuthenticated):
        door.admit(bearer("a-token"))


def test_a_file_that_cannot_be_read_at_the_start_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TOKENS"):
        Followed("TOKENS", tmp_path / "missing", read=tokens.read_tokens)


def test_a_certificate_names_its_identity(door: Door) -> None:
    authority = Authority("clients")
    person = authority.issue_client("ana", groups=["sre", "devs"]).public_pem
    workload = authority.issue_workload(
        trust_domain="cluster.local", namespace="meshery", account="meshery"
    ).public_pem
    assert door.admit(Evidence(certificate=person)).identity == Identity(
        "ana", frozenset({"sre", "devs"})
    )
    found = door.admit(Evidence(certificate=workload)).identity.name
    assert found == "spiffe://cluster.local/ns/meshery/sa/meshery"
    for name in ("local", "operator"):
        with pytest.raises(NotAuthenticated):
            door.admit(Evidence(certificate=authority.issue_client(name).public_pem))


def test_a_bad_token_is_refused_beside_a_good_certificate(door: Door) -> None:
    certificate = Authority("clients").issue_client("ana").public_pem
    with pytest.raises(NotAuthenticated):
        door.admit(Evidence(authorization="Bearer wrong", certificate=certificate))


def test_nothing_is_the_local_user_only_where_the_door_is_open(door: Door) -> None:
    with pytest.raises(NotAuthenticated):
        door.admit(Evidence())
    assert Door(now=lambda: NOW, is_open=True).admit(Evidence()).identity == LOCAL


def settings(**fields: Any) -> GatewaySettings:
    return GatewaySettings.model_validate(fields)


def test_the_default_is_one_local_user_on_loopback() -> None:
    assert settings().lets_anyone_in
    assert settings(host="::1").lets_anyone_in
    assert settings().keeps_peers


def test_an_open_port_needs_a_proof_or_a_word() -> None:
    for host in ("0.0.0.0", "::", "gateway.example"):
        with pytest.raises(ValueError, match="anonymous"):
            settings(host=host)
    trusting = settings(host="0.0.0.0", anonymous=True)
    assert trusting.lets_anyone_in
    assert not trusting.keeps_peers
    proving = settings(host="0.0.0.0", tokens="/tokens")
    assert not proving.lets_anyone_in
    assert proving.keeps_peers
    assert not settings(tokens="/tokens").lets_anyone_in, "not even on loopback"
