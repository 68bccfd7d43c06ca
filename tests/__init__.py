"""One thread per test process: in tiny operations, two that share two cores wait ten times longer than they work."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
