"""The first module that the server of data workers imports, before others take seconds: on Linux it ends with us.

The server looks whether we live only when its imports are done. This is the one module at whose import something
happens; elsewhere than in that server nothing does.
"""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux" and any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
