"""Requests to what runs on this machine, which no proxy setting can divert."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

HOST = "127.0.0.1"
_WITHIN_S = 2.0
_MOST_BYTES = 1024 * 1024


def fetch(url: str) -> bytes:
    """Body of the answer to a GET; raises an OSError when there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_WITHIN_S) as response:
            content: bytes = response.read(_MOST_BYTES)
            return content
    except urllib.error.HTTPError as error:
        # Who only waits for a server drops the error; the socket must not hang on it.
        error.close()
        raise


def is_taken(port: int, host: str = HOST) -> bool:
    """Whether somebody listens there already."""
    with socket.socket() as probe:
        # As servers have it: a port whose last connections still close is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
