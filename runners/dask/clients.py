"""Dask clients inside tasks: the worker's own, so that a task may use Dask as any code on a worker can."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any


@contextmanager
def get_dask_client(timeout: float | None = None, separate_thread: bool = True) -> Iterator[Any]:
    """Gives a ``distributed.Client`` of the cluster that this task runs on.

    While it is used the task's thread counts as none of the worker's, so that what is submitted finds a place. (A task
    with a time limit keeps its place.)

    Parameters:
        timeout: Seconds to connect; None: Dask's own limit.
        separate_thread: False keeps the task's place on the worker.

    Raises:
        RuntimeError: Not inside a task that runs on Dask.
    """
    import distributed.worker
    from distributed import worker_client

    worker = _worker_here()
    if getattr(vars(distributed.worker)["thread_state"], "execution_state", None) is None:
        # A helper thread, as calls with a time limit have: it cannot give the place of the task's own thread away.
        yield worker._get_client(timeout=timeout)
        return
    with worker_client(timeout=timeout, separate_thread=separate_thread) as client:
        yield client


@asynccontextmanager
async def get_async_dask_client(timeout: float | None = None) -> AsyncIterator[Any]:
    """Gives an asynchronous ``distributed.Client`` of the cluster that this task runs on, closed at the end.

    Parameters:
        timeout: Seconds to connect; None: Dask's own limit.

    Raises:
        RuntimeError: Not inside a task that runs on Dask.
    """
    import distributed

    worker = _worker_here()
    options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    make_client: Any = distributed.Client
    async with make_client(
        worker.scheduler.address, asynchronous=True, set_as_default=False, security=_client_security(worker), **options
    ) as client:
        yield client


def _client_security(worker: Any) -> Any:
    """A worker that was started by command has a certificate for its own part only, which serves a client as well."""
    security = worker.security
    if security.tls_client_cert is not None or security.tls_worker_cert is None:
        return security
    client = copy.copy(security)
    client.tls_client_cert, client.tls_client_key = security.tls_worker_cert, security.tls_worker_key
    return client


def _worker_here() -> Any:
    from core_engine.remote import current_road

    road = current_road()
    worker = getattr(road, "dask_worker", None)
    if worker is None:
        raise RuntimeError(
            "There is a Dask client only inside tasks that run on Dask: submit the task to a DaskTaskRunner."
        )
    return worker
