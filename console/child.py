"""Entry of a child process: have the kernel end it with its parent, then become the program that was asked for.

``python -m console.child PARENT_PID PROGRAM ARGUMENT...``
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""prctl(2); kept over execve(2)."""


def main() -> None:
    """Bind to the parent and execute the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the kernel knew of us
        sys.exit(0)
    os.execv(program[0], program)  # noqa: S606  the purpose: no shell is started


if __name__ == "__main__":
    main()
