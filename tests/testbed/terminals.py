"""A person's shell: commands are typed into it, and what it prints is read line by line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

WITHIN_S = 240.0


class Terminal:
    """One bash in a folder. It keeps its jobs and variables from one command to the next."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A session of its own, whose processes are all that it ever started.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    def type(self, commands: str) -> None:
        """Sends lines, and does not wait."""
        assert self._bash.stdin is not None
        # Nothing that runs there may read the commands after it.
        self._bash.stdin.write(f"{{\n{commands.rstrip()}\n}} </dev/null\n")
        self._bash.stdin.flush()

    def run(self, commands: str) -> tuple[list[str], int]:
        """What the commands print, and the last one's exit status."""
        mark, begin = f"end-{uuid.uuid4()}", len(self.lines)
        self.type(f"{commands.rstrip()}\necho {mark} $?")
        line = self.hear(mark)
        end = self.lines.index(line)
        before, _, status = line.rpartition(mark)
        return [*self.lines[begin:end], *([before] if before else [])], int(status)

    def hear(self, words: str) -> str:
        """The first line with these words, now or later."""
        with self._said:
            while True:
                for line in self.lines:
                    if words in line:
                        return line
                if not self._reader.is_alive() or not self._said.wait(WITHIN_S):
                    raise AssertionError(f"never said {words!r}:\n" + "\n".join(self.lines))

    def press(self, number: signal.Signals) -> None:
        """A signal to what runs in the foreground, as by a key; the shell itself lives on."""
        for child in self._children():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(child) == self._bash.pid:
                    os.kill(child, number)

    def close(self) -> None:
        """Ends the shell and everything that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        self._reader.join()
        for pipe in (self._bash.stdin, self._bash.stdout):
            if pipe is not None:
                pipe.close()

    def _children(self) -> list[int]:
        """All processes below the shell."""
        found, waiting = [], [self._bash.pid]
        while waiting:
            parent = waiting.pop()
            try:
                listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            except FileNotFoundError:
                continue
            children = [int(one) for one in listed.split()]
            found += children
            waiting += children
        return found

    def _read(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            with self._said:
                self.lines.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._said.notify_all()
