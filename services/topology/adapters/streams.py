"""Server-Sent Events: writes the deltas and snapshots of `feed/following.py` to each client.

Everything that came in one turn of the event loop goes out in one write. A client that does not
read for half a minute is cut off; its browser comes back with the position that it had.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from services.chassis.errors import TooManyStreams
from services.topology.feed.deltas import View
from services.topology.feed.following import Follower, Following, parsed_position

_LONGEST_WRITE_S = 30.0
_RETRY = b"retry: 1000\n\n"
"""A browser tries again after so many milliseconds."""


@dataclass(slots=True, kw_only=True)
class Streams:
    """All open streams of this process."""

    following: Following
    most: int
    ping_every_s: float
    _open: set[asyncio.Transport] = field(default_factory=set)

    async def answer(self, request: web.Request, cluster: str, view: View) -> web.StreamResponse:
        """Sends until the client goes or the service ends."""
        transport = request.transport
        if transport is None:
            return web.Response()
        # What went away without a word still counts until its next ping; here it must not.
        if sum(not one.is_closing() for one in self._open) >= self.most:
            raise TooManyStreams(f"{self.most} clients follow the graph already")
        last = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        self._open.add(transport)
        follower = self.following.follow(cluster, view, after=parsed_position(last))
        try:
            await response.prepare(request)
            await response.write(_RETRY)
            await self._send(response, follower)
        except (ConnectionError, TimeoutError):
            transport.abort()
        finally:
            self.following.unfollow(follower)
            self._open.discard(transport)
        return response

    async def _send(self, response: web.StreamResponse, follower: Follower) -> None:
        while not follower.is_closed:
            try:
                async with asyncio.timeout(self.ping_every_s):
                    await follower.there_is_something.wait()
                text = self.following.take(follower)
            except TimeoutError:
                text = self.following.ping(follower)
            if text:
                async with asyncio.timeout(_LONGEST_WRITE_S):
                    await response.write(text)
