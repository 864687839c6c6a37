"""JSON Web Tokens (RFC 7519), as far as a door needs them: signed by a known key, for us, in time.

Signed tokens only (RFC 7515, compact form) with RS256, ES256 or EdDSA; the algorithm has to be the
one of the key, so that neither `none` nor a public key taken for a shared secret gets in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from services.chassis.reading.jsons import read_json

_LONGEST = 16 * 1024
# Between the clocks of the issuer and this machine.
_LEEWAY_S = 60.0
_SMALLEST_RSA_BITS = 2048

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class TokenRefused(ValueError):
    """Says why, without the token."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a JSON Web Key Set (RFC 7517), by their ids."""

    by_id: Mapping[str, Key]


def read_keys(text: bytes) -> Keys:
    """The signing keys of a JWKS file; raises `ValueError`. Keys of other kinds are left out."""
    document = read_json(text)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the file is not a JSON Web Key Set")
    found = {
        str(entry.get("kid", "")): key
        for entry in entries
        if isinstance(entry, dict) and (key := _key(entry)) is not None
    }
    if not found:
        raise ValueError("the key set has no RSA, P-256 or Ed25519 key")
    return Keys(found)


def claims(token: str, keys: Keys, *, issuer: str, audience: str, now: float) -> dict[str, Any]:
    """The token's claims; raises `TokenRefused` unless all of it holds at `now` (Unix time)."""
    if len(token) > _LONGEST:
        raise TokenRefused("the token is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRefused("it is no signed JSON Web Token")
    header, signature = _mapping(parts[0]), _bytes(parts[2])
    key = _chosen(keys, header.get("kid"))
    if header.get("alg") != _algorithm(key) or "crit" in header:
        raise TokenRefused("its algorithm is not the one of the key")
    if not _is_signed(key, signature, f"{parts[0]}.{parts[1]}".encode()):
        raise TokenRefused("its signature is wrong")
    told = _mapping(parts[1])
    _check(told, issuer=issuer, audience=audience, now=now)
    return told


def _check(told: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> None:
    if told.get("iss") != issuer:
        raise TokenRefused("another issuer made it")
    audiences = told.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise TokenRefused("it is for another audience")
    expires, begins = _time(told.get("exp")), _time(told.get("nbf", 0))
    if now > expires + _LEEWAY_S:
        raise TokenRefused("it has expired")
    if now < begins - _LEEWAY_S:
        raise TokenRefused("it does not hold yet")


def _time(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TokenRefused("it does not say until when it holds")
    return float(value)


def _chosen(keys: Keys, key_id: Any) -> Key:
    if key_id is None and len(keys.by_id) == 1:
        return next(iter(keys.by_id.values()))
    key = keys.by_id.get(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise TokenRefused("no known key signed it")
    return key


def _algorithm(key: Key) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256"
    return "ES256" if isinstance(key, ec.EllipticCurvePublicKey) else "EdDSA"


def _is_signed(key: Key, signature: bytes, signed: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if len(signature) != 64:
                return False
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _key(entry: Mapping[str, Any]) -> Key | None:
    if entry.get("use", "sig") != "sig":
        return None
    match entry:
        case {"kty": "RSA", "n": str(n), "e": str(e)}:
            key = rsa.RSAPublicNumbers(_number(e), _number(n)).public_key()
            if key.key_size < _SMALLEST_RSA_BITS:
                raise ValueError(f"an RSA key has {key.key_size} bits; 2048 is the least")
            return key
        case {"kty": "EC", "crv": "P-256", "x": str(x), "y": str(y)}:
            numbers = ec.EllipticCurvePublicNumbers(_number(x), _number(y), ec.SECP256R1())
            return numbers.public_key()
        case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(x))
    return None


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


def _mapping(part: str) -> dict[str, Any]:
    try:
        value = read_json(_bytes(part))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TokenRefused("a part of it is no JSON object")
    return value


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenRefused("a part of it is not base64url") from None
