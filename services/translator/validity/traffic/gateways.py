"""Gateways: their servers, ports and certificates."""

from __future__ import annotations

from services.translator.istio.objects import name_of
from services.translator.validity.names import check_full_host, check_placed_host, is_label
from services.translator.validity.parts import Part
from services.translator.validity.values import (
    SOCKET,
    check_address,
    check_port,
    check_socket,
    is_address,
)

_PROTOCOLS = frozenset(
    {
        *("GRPC", "GRPC-WEB", "HTTP", "HTTP_PROXY", "HTTP2", "HTTPS", "TCP", "TLS", "UDP"),
        *("MONGO", "REDIS", "MYSQL", "HBONE"),
    }
)
_ENCRYPTED = frozenset({"HTTPS", "TLS"})
_UNUSED = frozenset({"", "PASSTHROUGH", "AUTO_PASSTHROUGH"})
_PLAIN_HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"})
_CERTIFICATES = ("credentialName", "credentialNames", "serverCertificate", "tlsCertificates")
_NAMESPACES = frozenset({"*", "."})
_OWN_CERTIFICATES = frozenset({"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"})
_MOST_CERTIFICATES = 2
_CIPHERS = frozenset(
    {
        *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
        *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        *("ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA"),
        *("ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA"),
        *("AES256-SHA", "DES-CBC3-SHA"),
    }
)


def check_gateway(obj: Part) -> None:
    """Its name, which others refer to, and its servers."""
    name = name_of(obj.value)
    if name and not is_label(name):
        obj["metadata"]["name"].tell("gateway-name", name=name)
    servers = obj["spec"]["servers"]
    if not servers.has_items:
        servers.tell("servers-missing")
    names: set[str] = set()
    for server in servers:
        _check_server(server)
        port_name = server["port"]["name"]
        if port_name.text in names:
            port_name.tell("port-name-twice", name=port_name.text)
        names.add(port_name.text)
        names.discard("")


def _check_server(server: Part) -> None:
    bind = server["bind"].text
    _check_server_port(server["port"], is_socket=bind.startswith(SOCKET))
    check_bind(server["bind"])
    if not server["hosts"].has_items:
        server["hosts"].tell("hosts-missing")
    for host in server["hosts"]:
        name = host.text.partition("/")[2] or host.text
        if is_address(name) and "." in name:
            continue
        if "/" in host.text:
            check_placed_host(host, rule="gateway-host-namespace", namespaces=_NAMESPACES)
        else:
            check_full_host(host, host.text)
    check_server_tls(server, is_gateway=True)


def check_bind(bind: Part) -> None:
    """The address or socket that a listener has."""
    if bind.text.startswith(SOCKET):
        check_socket(bind)
    elif bind.text:
        check_address(bind)


def _check_server_port(port: Part, *, is_socket: bool) -> None:
    if not port:
        port.tell("port-missing")
        return
    check_protocol(port["protocol"], is_required=True)
    if not is_socket:
        check_port(port["number"])
    elif port["number"].number:
        port["number"].tell("port-of-socket")
    if not port["name"].text:
        port["name"].tell("port-unnamed")
    if port["targetPort"].number:
        port["targetPort"].tell("target-port-ignored")


def check_protocol(protocol: Part, *, is_required: bool = False) -> None:
    """A protocol by name, of any case; without one Istio finds out where that is allowed."""
    name = protocol.text.upper()
    if (name or is_required) and name not in _PROTOCOLS:
        protocol.tell("protocol-unknown", name=protocol.text or '""')


def check_server_tls(server: Part, *, is_gateway: bool) -> None:
    """Whether there is TLS where the protocol is encrypted, and only there."""
    tls, protocol = server["tls"], server["port"]["protocol"].text.upper()
    if not tls:
        if protocol in _ENCRYPTED and is_gateway:
            tls.tell("tls-missing", protocol=protocol)
        return
    if protocol in _ENCRYPTED:
        if tls["httpsRedirect"].is_true and is_gateway:
            tls["httpsRedirect"].tell("redirect-of-https")
    elif not is_gateway or protocol not in _PLAIN_HTTP or _is_in_use(tls):
        tls.tell("tls-of-plain", protocol=protocol or "no protocol")
    check_certificates(tls)


def _is_in_use(tls: Part) -> bool:
    """Whether a server with these settings would do TLS."""
    files = ("serverCertificate", "privateKey", "caCertificates")
    return tls["mode"].text not in _UNUSED or any(tls[name].text for name in files)


def check_certificates(tls: Part) -> None:
    """The certificates that a server's mode needs, each from one place."""
    mode = tls["mode"].text
    has_key = bool(tls["privateKey"].text)
    given = [
        name
        for name in _CERTIFICATES
        if tls[name].has_items or (tls[name].text and (has_key or name == "credentialName"))
    ]
    if mode == "ISTIO_MUTUAL":
        for name in ("serverCertificate", "privateKey", "caCertificates", *_CERTIFICATES[:2]):
            if tls[name].text or tls[name].has_items:
                tls[name].tell("certificate-of-istio")
        return
    has_any = bool(given) or any(tls[name].text for name in ("caCertificates", "caCrl"))
    if mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH") and has_any:
        tls.tell("certificate-ignored", mode=mode)
    has_credential = tls["credentialName"].text or tls["credentialNames"].has_items
    if has_credential and tls["caCrl"].text and mode not in _OWN_CERTIFICATES:
        tls["caCrl"].tell("certificate-twice", one="credentialName", other="caCrl")
    if len(given) > 1:
        tls[given[1]].tell("certificate-twice", one=given[0], other=given[1])
        return
    if mode in _OWN_CERTIFICATES:
        _check_needed(tls, mode)
    _check_ciphers(tls)
    if tls["minProtocolVersion"].text in ("TLSV1_0", "TLSV1_1") and not tls["cipherSuites"]:
        tls["minProtocolVersion"].tell("tls-version-old")


def _check_needed(tls: Part, mode: str) -> None:
    if tls["credentialName"].text or tls["credentialNames"].has_items:
        return
    pairs = list(tls["tlsCertificates"])
    if len(pairs) > _MOST_CERTIFICATES:
        tls["tlsCertificates"].tell("certificates-too-many")
    for pair in pairs or [tls]:
        for name in ("serverCertificate", "privateKey"):
            if not pair[name].text:
                pair[name].tell("certificate-missing", mode=mode)
    if mode != "SIMPLE" and not tls["caCertificates"].text:
        tls["caCertificates"].tell("certificate-missing", mode=mode)


def _check_ciphers(tls: Part) -> None:
    known: set[str] = set()
    for suite in tls["cipherSuites"]:
        if suite.text not in _CIPHERS:
            suite.tell("cipher-unknown", name=suite.text)
        elif suite.text in known:
            suite.tell("cipher-twice")
        known.add(suite.text)
