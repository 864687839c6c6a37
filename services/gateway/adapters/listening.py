"""The gRPC port: its bounds, and TLS whose certificates are replaced while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from services.chassis.connections import affordable
from services.chassis.files import Followed
from services.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# Go's gRPC, with which Meshery is built, takes answers of 4 MiB.
_LARGEST_ANSWER_BYTES = 4 * 1024 * 1024
# A thousand streams may come at once when Meshery restarts; the default sheds them.
_MOST_PENDING = 10_000


def options(settings: GatewaySettings) -> list[tuple[str, Any]]:
    """gRPC's settings of the port and its connections."""
    silence_ms = _ms(settings.keepalive.total_seconds())
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", _LARGEST_ANSWER_BYTES),
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
        # Two gateways on one port by mistake must be an error, not a lottery.
        ("grpc.so_reuseport", 0),
        # Idle connections cost a file each: a bound in all, and an end for those that say nothing.
        ("grpc.max_allowed_incoming_connections", most_connections(settings)),
        ("grpc.server_handshake_timeout_ms", _ms(settings.handshake_timeout.total_seconds())),
        ("grpc.max_connection_idle_ms", _ms(settings.connection_idle.total_seconds())),
        # A peer that vanished (half-open TCP) is noticed and its stream ends.
        ("grpc.keepalive_time_ms", silence_ms),
        ("grpc.keepalive_timeout_ms", silence_ms // 3),
        # The answer to the ping itself has a timeout of its own, a minute by default.
        ("grpc.http2.ping_timeout_ms", silence_ms // 3),
        ("grpc.keepalive_permit_without_calls", 1),
        # Go's clients may ping every 10 s, also while they have no call.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def most_connections(settings: GatewaySettings) -> int:
    """In all."""
    return affordable(settings.max_connections)


def most_per_address(settings: GatewaySettings) -> int:
    """Less than all: one address must leave room for others."""
    return max(1, min(settings.max_connections_per_address, most_connections(settings) * 3 // 4))


def listen(server: grpc.aio.Server, settings: GatewaySettings, port: int) -> None:
    """Binds the port; raises `OSError` when it cannot, `SettingsError` for unusable files."""
    address = f"{settings.host}:{port}"
    try:
        if settings.tls_certificate is None or settings.tls_key is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, _credentials(settings))
    except RuntimeError as error:
        # Without its cause: gRPC's text has file names and lines of its C++ sources.
        raise OSError(f"cannot listen on {address}; is the port taken?") from error


def _credentials(settings: GatewaySettings) -> grpc.ServerCredentials:
    """They are asked for at each handshake, so a new connection gets a new certificate."""
    files = [settings.tls_certificate, settings.tls_key, settings.tls_client_ca]
    followed = Followed(
        "MESHBUS_GATEWAY_TLS_CERTIFICATE",
        *(file for file in files if file is not None),
        read=_configuration,
    )
    return grpc.dynamic_ssl_server_credentials(
        followed.current(),
        # None says that nothing has changed; the stubs do not know.
        followed.renewed,  # type: ignore[arg-type]
        require_client_authentication=settings.tls_client_ca is not None,
    )


def _configuration(
    certificate: bytes, key: bytes, authorities: bytes | None = None
) -> grpc.ServerCertificateConfiguration:
    _check(certificate, key, authorities)
    return grpc.ssl_server_certificate_configuration(
        [(key, certificate)], root_certificates=authorities
    )


def _check(certificate: bytes, key: bytes, authorities: bytes | None) -> None:
    """Raises `ValueError` for files that do not fit; gRPC would fail each handshake instead."""
    # A tenth of the start, for who serves by TLS.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    chain = x509.load_pem_x509_certificates(certificate)
    private = load_pem_private_key(key, password=None)
    if _public(chain[0].public_key()) != _public(private.public_key()):
        raise ValueError("the key is not the one of the certificate")
    if authorities is not None:
        x509.load_pem_x509_certificates(authorities)


def _public(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
