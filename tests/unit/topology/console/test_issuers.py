"""What an issuer says of itself, before anybody is sent there."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.addresses import AddressPolicy
from services.chassis.errors import SignInUnavailable
from services.topology.adapters.console.issuers import Issuer, endpoints_of


def told(scheme: str, **changed: Any) -> dict[str, Any]:
    return {
        "authorization_endpoint": f"{scheme}://id.example/authorize",
        "token_endpoint": f"{scheme}://id.example/token",
        **changed,
    }


@pytest.mark.parametrize(("issuer", "scheme"), [("https", "https"), ("http", "http")])
def test_people_and_codes_go_where_the_issuer_says(issuer: str, scheme: str) -> None:
    assert endpoints_of(told(scheme), issuer=f"{issuer}://id.example") == told(scheme)


@pytest.mark.parametrize(
    "description",
    [
        told("https", token_endpoint="http://id.example/token"),
        told("https", authorization_endpoint="http://id.example/authorize"),
        told("https", token_endpoint=["https://id.example/token"]),
        {},
    ],
)
def test_a_code_does_not_leave_in_clear(description: dict[str, Any]) -> None:
    with pytest.raises(SignInUnavailable, match="https://"):
        endpoints_of(description, issuer="https://id.example")


def test_the_clients_secret_is_in_no_description_of_the_issuer() -> None:
    issuer = Issuer(
        name="https://id.example",
        client_id="console",
        client_secret="do-not-tell",
        scopes="openid",
        console_url="https://console.example",
        policy=AddressPolicy(),
    )
    assert "do-not-tell" not in repr(issuer)
