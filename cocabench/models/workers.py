"""How data-loading workers are started. They are no copies of the running process, of which a thread may hold any lock.

(It builds the next model, or moves the progress bar.) They are copies of a server that has imported what they need.
"""

from __future__ import annotations

import os
from multiprocessing import forkserver, get_all_start_methods, get_context
from multiprocessing.context import BaseContext

NEEDED = "cocabench.models.batches"
SPARE_CORES = 4
"""Of so many cores one is free while a model is loaded."""


def clean_processes() -> BaseContext:
    """Return the context that starts workers from the server; it is started with the first."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([NEEDED])
    return context


def start_ahead(workers: int | None) -> None:
    """Start the server, which takes seconds, where there is a core to spare. workers: None where not known yet."""
    if workers != 0 and (os.cpu_count() or 1) >= SPARE_CORES and "forkserver" in get_all_start_methods():
        clean_processes()
        forkserver.ensure_running()
