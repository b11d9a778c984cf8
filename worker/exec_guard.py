"""Child processes that die with their parent, be it by SIGKILL.

`python -I -S exec_guard.py PARENT_PID COMMAND ARGUMENT...` becomes the command. The kernel's parent-death signal is asked
for here, in a process of its own just before `exec`, because a `preexec_fn` would run Python between fork and exec of a
parent with many threads. It holds through `exec`. Standard library only: it runs without site-packages.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def guarded(command: Sequence[str]) -> list[str]:
    """The command, killed when the thread that forks it ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Becomes the command; ends with 127 when the parent is gone already or the command cannot be run."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the request above: no signal would ever come
        sys.exit(127)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
