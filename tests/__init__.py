"""One thread per test process: in tiny operations, two that share two cores wait ten times longer than they work.

A shell starts what runs in its background with interrupts ignored; the tests of Ctrl-C need them, here and in children.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
