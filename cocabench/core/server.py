"""The first module that the server of data workers imports, before others take seconds: on Linux it ends with us.

The server looks whether we live only when its imports are done. This is the one module at whose import something
happens; elsewhere than in that server nothing does.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux" and (
    server := re.search(r"multiprocessing\.forkserver .*main\(\d+, (\d+)", sys.orig_argv[-1])
):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([int(server[1])], [], [], 0)[0]:  # the pipe from us is closed: we ended before that
        os._exit(1)
