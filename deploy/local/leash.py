"""Ties a program to the process that started it: the kernel kills it when that process dies.

Run as a script: `python -I -S leash.py <pid of the parent> <program> [arguments]`. It becomes the
program (exec), so the program keeps the pid that the parent knows. A test run that is killed with
SIGKILL runs no cleanup of its own; only the kernel can be trusted to do it (PR_SET_PDEATHSIG).
A preexec_fn would do the same, but it runs Python between fork and exec, which can deadlock in a
process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Puts this process on the leash of its parent and becomes the given program."""
    parent, command = int(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"leash: prctl failed: {os.strerror(ctypes.get_errno())}")
    # The parent may have died before prctl took effect; then no signal will ever come.
    if os.getppid() != parent:
        sys.exit(f"leash: the parent {parent} is gone; {command[0]} is not started")
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"leash: {command[0]} cannot be started: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
