"""The task runner for Dask: calls run on the workers of a temporary cluster, or of one that is there.

``options``        what the runner takes, and which options exclude each other
``cluster``        starting or finding a cluster, and the client of it
``worker_process`` keeps Ctrl-C off the worker processes of our own clusters
``road``           how blocks, reports, commands and values travel over Dask's own connections; ``worker_road`` is its
                   other end
``link``           the connection to the scheduler: what is set up on it, and again when it was lost
``workers``        what is known of workers: the handshake with each, and what calls wait for that none has
``single_starts``  a plugin of the scheduler: each call starts once
``clients``        Dask clients inside tasks
"""

from __future__ import annotations

from runners.dask.clients import get_async_dask_client, get_dask_client
from runners.dask.runner import DaskTaskRunner

__all__ = ["DaskTaskRunner", "get_async_dask_client", "get_dask_client"]
