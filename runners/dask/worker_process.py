"""Worker processes of our own clusters have nothing to do with the terminal (D25).

They would be part of the flow's process group, where Ctrl-C reaches them first. So they are started with the signal
blocked, and as soon as they run Python they leave for a session of their own, and take the signal again.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

# What Dask is told to import in each worker process; it calls `dask_setup` there.
PRELOAD = __name__


def shield_children() -> None:
    """Has processes that this thread starts, and threads that it starts, begin with SIGINT blocked."""
    from multiprocessing import resource_tracker

    # Its first start would unblock the signal again.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def dask_setup(worker: Any) -> None:
    """Dask calls this in a worker process as it starts, in its main thread; a worker that is a thread has no share."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
