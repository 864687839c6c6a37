"""Traffic policies: pools, balancers, localities, outliers and certificates of clients."""

from __future__ import annotations

from services.translator.validity.names import is_host
from services.translator.validity.parts import Part
from services.translator.validity.values import (
    check_not_negative,
    check_percent,
    check_port,
    check_readable_time,
    check_time,
    is_address,
    is_time_of_a_millisecond,
)

_SETTINGS = (
    *("connectionPool", "loadBalancer", "outlierDetection", "tls", "portLevelSettings"),
    *("tunnel", "proxyProtocol", "retryBudget"),
)
_LARGEST_MAGLEV = 5_000_011


def check_traffic_policy(policy: Part) -> None:
    """The settings for all ports and those for single ones."""
    if not policy:
        return
    if not any(policy[name].has_items or _is_empty_object(policy[name]) for name in _SETTINGS):
        policy.tell("policy-empty")
    _check_settings(policy)
    for settings in policy["portLevelSettings"]:
        if not settings["port"]:
            settings["port"].tell("policy-port-missing")
        if not any(settings[name] for name in _SETTINGS[:4]):
            settings.tell("policy-empty")
        _check_settings(settings)
    _check_tunnel(policy["tunnel"])
    policy.tell_if_both("settings-excluded", "tunnel", "proxyProtocol")


def _is_empty_object(part: Part) -> bool:
    return isinstance(part.value, dict)


def _check_settings(policy: Part) -> None:
    check_pool(policy["connectionPool"])
    _check_balancer(policy["loadBalancer"], outliers=policy["outlierDetection"])
    _check_outliers(policy["outlierDetection"])
    _check_client_tls(policy["tls"])


def check_pool(pool: Part) -> None:
    """Bounds on connections and requests."""
    if not pool:
        return
    tcp, http = pool["tcp"], pool["http"]
    if not tcp and not http:
        pool.tell("pool-empty")
    check_not_negative(tcp, "maxConnections")
    check_time(tcp["connectTimeout"])
    check_time(tcp["maxConnectionDuration"])
    if is_time_of_a_millisecond(tcp["idleTimeout"].text):
        check_time(tcp["idleTimeout"])
    else:
        check_readable_time(tcp["idleTimeout"])
    for name in ("time", "interval"):
        check_time(tcp["tcpKeepalive"][name])
    check_not_negative(
        http,
        *("http1MaxPendingRequests", "http2MaxRequests", "maxRequestsPerConnection"),
        *("maxRetries", "maxConcurrentStreams"),
    )
    check_time(http["idleTimeout"])
    if http["useClientProtocol"].is_true and http["h2UpgradePolicy"].text == "UPGRADE":
        http["useClientProtocol"].tell("client-protocol-and-upgrade")


def _check_balancer(balancer: Part, *, outliers: Part) -> None:
    if not balancer:
        return
    hashing = balancer["consistentHash"]
    _check_cookie(hashing["httpCookie"])
    if hashing["minimumRingSize"]:
        hashing["minimumRingSize"].tell("ring-size-former")
        for name in ("maglev", "ringHash"):
            if hashing[name]:
                hashing[name].tell("settings-excluded", one="minimumRingSize", other=name)
    if hashing["maglev"]:
        _check_maglev(hashing["maglev"]["tableSize"])
    _check_warmup(balancer["warmup"])
    check_readable_time(balancer["warmupDurationSecs"])
    _check_locality(balancer["localityLbSetting"], outliers=outliers)


def _check_cookie(cookie: Part) -> None:
    if not cookie:
        return
    if not cookie["name"].text:
        cookie["name"].tell("cookie-unnamed")
    check_readable_time(cookie["ttl"])
    known: set[str] = set()
    for attribute in cookie["attributes"]:
        name = attribute["name"]
        if not name.text:
            name.tell("cookie-unnamed")
        elif name.text in known:
            name.tell("cookie-attribute-twice", name=name.text)
        known.add(name.text)


def _check_maglev(size: Part) -> None:
    number = int(size.number)
    if number <= 0:
        size.tell("maglev-not-prime")
    elif number >= _LARGEST_MAGLEV:
        size.tell("maglev-too-large", limit=_LARGEST_MAGLEV)
    elif any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        size.tell("maglev-not-prime")


def _check_warmup(warmup: Part) -> None:
    if not warmup:
        return
    if not warmup["duration"]:
        warmup["duration"].tell("warmup-without-duration")
    check_time(warmup["duration"])
    check_percent(warmup["minimumPercent"])
    if warmup["aggression"] and warmup["aggression"].number < 1:
        warmup["aggression"].tell("aggression-below-one")


def _check_locality(setting: Part, *, outliers: Part) -> None:
    if not setting:
        return
    shares, failovers = setting["distribute"], setting["failover"]
    if shares.has_items and failovers.has_items:
        failovers.tell("settings-excluded", one="distribute", other="failover")
        return
    _check_localities([(share["from"], share["from"].text) for share in shares])
    for share in shares:
        targets = list(share["to"].fields())
        _check_localities([(part, name) for name, part in targets])
        for _, part in targets:
            if not 1 <= part.number <= 100:
                part.tell("locality-weight")
        total = sum(part.number for _, part in targets)
        if total != 100:
            share["to"].tell("locality-sum", total=f"{total:g}")
    for failover in failovers:
        _check_failover(failover)
    if (failovers.has_items or setting["failoverPriority"].has_items) and not outliers:
        setting.tell("failover-without-outliers")


def _check_failover(failover: Part) -> None:
    start, end = failover["from"].text, failover["to"].text
    if start == end:
        failover["to"].tell("failover-to-itself")
    for name in ("from", "to"):
        if "/" in failover[name].text:
            failover[name].tell("failover-of-zones")
        elif "*" in failover[name].text:
            failover[name].tell("failover-wildcard")


def _check_localities(places: list[tuple[Part, str]]) -> None:
    """Localities such as `region/zone/*`: none below or equal to another."""
    known: set[str] = set()
    above: set[str] = set()
    for part, locality in places:
        names = locality.split("/")
        if "*" in locality and (locality.count("*") > 1 or not locality.endswith("*")):
            part.tell("locality-wildcard", name=locality)
            continue
        if "" in names:
            part.tell("locality-empty-part", name=locality)
            continue
        if names[-1] == "*":
            names.pop()
        tops = ["/".join(names[:length]) for length in range(len(names) + 1)]
        if any(top in known for top in tops) or tops[-1] in above:
            part.tell("locality-overlaps", name=locality)
        known.add(tops[-1])
        above.update(tops)


def _check_outliers(outliers: Part) -> None:
    if not outliers:
        return
    for name in ("interval", "baseEjectionTime"):
        check_time(outliers[name])
    for name in ("maxEjectionPercent", "minHealthPercent"):
        check_percent(outliers[name])
    if outliers["consecutiveErrors"]:
        outliers["consecutiveErrors"].tell("errors-former")
    is_split = outliers["splitExternalLocalOriginErrors"].is_true
    if outliers["consecutiveLocalOriginFailures"].number and not is_split:
        outliers["consecutiveLocalOriginFailures"].tell("local-errors-not-split")


def _check_client_tls(tls: Part) -> None:
    if not tls:
        return
    files = [
        name
        for name in ("clientCertificate", "privateKey", "caCertificates", "caCrl")
        if tls[name].text
    ]
    mode = tls["mode"].text
    if mode in ("SIMPLE", "MUTUAL") and tls["credentialName"].text:
        if files:
            tls[files[0]].tell("certificate-twice", one="credentialName", other=files[0])
    elif mode == "MUTUAL":
        for name in ("clientCertificate", "privateKey"):
            if not tls[name].text:
                tls[name].tell("certificate-missing", mode=mode)
    trusted = [
        name
        for name in ("caCertificates", "credentialName", "subjectAltNames")
        if (tls[name].text or tls[name].has_items)
        and not (mode == "MUTUAL" and name == "credentialName")
    ]
    is_ours = mode in ("SIMPLE", "MUTUAL")
    if tls["insecureSkipVerify"].is_true and trusted and is_ours:
        tls[trusted[0]].tell("unverified-but-trusted", field=trusted[0])


def _check_tunnel(tunnel: Part) -> None:
    if not tunnel:
        return
    if tunnel["protocol"].text not in ("", "CONNECT", "POST"):
        tunnel["protocol"].tell("tunnel-protocol")
    host = tunnel["targetHost"]
    if not is_host(host.text) and not is_address(host.text):
        host.tell("host-malformed", host=host.text or '""')
    check_port(tunnel["targetPort"])
