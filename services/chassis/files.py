"""Files that are replaced while a service runs: certificates, keys, tokens, the policy.

Kubernetes swaps a Secret's folder by a symbolic link, people use `mv`; both change what `stat`
says, which costs some microseconds and so is asked at each use: no watcher can be late or lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from services.chassis.settings import SettingsError

T = TypeVar("T")

log = structlog.get_logger(__name__)

_Signature = tuple[tuple[int, int, int], ...]


class Followed(Generic[T]):
    """What files say, as they are now. Threads may share it.

    A replacement that cannot be read (half copied, a key without its certificate) changes nothing:
    the last good content stays, and the log says so once.
    """

    def __init__(self, what: str, *paths: Path, read: Callable[..., T]) -> None:
        """`read` gets the bytes of each path; raises `SettingsError` when it cannot read now.

        `what` names the setting in errors and logs. `read` says with a `ValueError` what is wrong.
        """
        self._what = what
        self._paths = paths
        self._read = read
        self._lock = threading.Lock()
        try:
            self._signature = self._seen()
            self._content = self._loaded()
        except (OSError, ValueError) as error:
            raise SettingsError(f"{what}: {_told(error)}") from None

    def current(self) -> T:
        """The content; reads again when a file is another one than the last time."""
        self.renewed()
        return self._content

    def renewed(self) -> T | None:
        """The content where it has changed since the last look, else None."""
        with self._lock:
            try:
                seen = self._seen()
                if seen == self._signature:
                    return None
                self._signature = seen
                self._content = self._loaded()
            except (OSError, ValueError) as error:
                log.warning("file_not_taken", file=self._what, reason=_told(error))
                return None
            log.info("file_taken", file=self._what)
            return self._content

    def _loaded(self) -> T:
        return self._read(*(path.read_bytes() for path in self._paths))

    def _seen(self) -> _Signature:
        states = [path.stat() for path in self._paths]
        return tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)


def _told(error: OSError | ValueError) -> str:
    """Without the content, which may be a key."""
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
