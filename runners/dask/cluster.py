"""A cluster and the client of it, on an event loop of the runner's own.

Dask's client is used asynchronously, so that no thread of ours ever waits for its loop by accident.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from core_engine.task_runners import LoopThread
from runners.dask.options import import_class
from runners.dask.road import DaskRoad
from runners.dask.worker_process import PRELOAD, shield_children

if TYPE_CHECKING:
    from runners.dask.runner import DaskTaskRunner

CONNECT_SECONDS = 10
# On one machine, a worker that cannot be connected to for so long is dead: what the scheduler tries with it ends then.
LOCAL_CONNECT_SECONDS = 3


class Connection:
    """What a started runner holds: its loop, its cluster if that is a temporary one, and its client.

    Parameters:
        runner: Has the options.
        logger: The runner's.
    """

    def __init__(self, runner: DaskTaskRunner, logger: logging.Logger) -> None:
        self._runner = runner
        self._logger = logger
        self._loop = LoopThread("core-engine-dask")
        self._stack = AsyncExitStack()
        self._road: DaskRoad | None = None

    def open(self) -> DaskRoad:
        """Starts or finds the cluster, and compares versions. Blocks.

        Raises:
            Exception: What the cluster or client raised; it is logged.
        """
        return self._loop.submit(self._open).wait_result()

    def leave(self) -> None:
        """Stops watching the cluster. Blocks."""
        if self._road is not None:
            self._loop.submit(self._road.leave).wait_result()

    def close(self) -> None:
        """Closes what was opened. Blocks."""
        try:
            self._loop.submit(self._stack.aclose).wait_result()
        finally:
            self._loop.stop()

    # On the loop ------------------------------------------------------------------------------------------------------

    async def _open(self) -> DaskRoad:
        runner = self._runner
        self._stack.enter_context(_quiet_library())
        try:
            cluster, address = await self._cluster()
            if runner.adapt_kwargs is not None and cluster is not None:
                adapted = cluster.adapt(**runner.adapt_kwargs)
                if inspect.isawaitable(adapted):
                    await adapted
            client = await self._client(cluster, address)
        except Exception:
            self._logger.exception("The Dask cluster could not be started or reached.")
            raise
        most = (runner.adapt_kwargs or {}).get("maximum")
        self._road = road = DaskRoad(client, self._loop, self._logger, int(most) if most else 1)
        await road.open()
        if runner.performance_report_path is not None:
            await self._report(client, runner.performance_report_path)
        if client.dashboard_link:
            self._logger.info("The Dask dashboard is available at %s", client.dashboard_link)
        return road

    async def _cluster(self) -> tuple[Any, Any]:
        """Returns the cluster object, None where there is only an address, and what the client connects to."""
        runner = self._runner
        if runner.address is not None:
            self._logger.info("Connecting to an existing Dask cluster at %s", runner.address)
            return None, runner.address
        if runner.cluster is not None:
            self._logger.info("Using the existing Dask cluster %s", runner.cluster.scheduler_address)
            return runner.cluster, runner.cluster.scheduler_address
        made = self._make_cluster()
        self._stack.push_async_callback(_close, made)
        cluster = await made if inspect.isawaitable(made) else made
        return cluster, cluster

    def _make_cluster(self) -> Any:
        import dask
        from distributed import LocalCluster

        runner = self._runner
        cluster_class = runner.cluster_class or LocalCluster
        if isinstance(cluster_class, str):
            cluster_class = import_class(cluster_class)
        options = dict(runner.cluster_kwargs or {})
        if inspect.isclass(cluster_class) and issubclass(cluster_class, LocalCluster):
            # Port 0: several flows at once have a dashboard each.
            options.setdefault("dashboard_address", ":0")
            options["scheduler_kwargs"] = {"timeout": LOCAL_CONNECT_SECONDS, **(options.get("scheduler_kwargs") or {})}
            options["preload"] = [PRELOAD, *_as_list(options.get("preload"))]
            shield_children()
        name = getattr(cluster_class, "__qualname__", repr(cluster_class))
        self._logger.info("Creating a temporary Dask cluster with %s.%s", cluster_class.__module__, name)
        # Starts are counted by us (D22): a call whose worker died is not started elsewhere behind our back.
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            return cluster_class(asynchronous=True, **options)

    async def _client(self, cluster: Any, address: Any) -> Any:
        import distributed

        make_client: Any = distributed.Client
        options = {"set_as_default": False, "timeout": CONNECT_SECONDS, **(self._runner.client_kwargs or {})}
        if cluster is not None and "security" not in options and address is not cluster:
            options["security"] = getattr(cluster, "security", None)
        try:
            client = await make_client(address, asynchronous=True, **options)
        except OSError as error:
            raise ConnectionError(
                f"No Dask scheduler answers at {address} within {options['timeout']} seconds: {error}"
            ) from error
        self._stack.push_async_callback(client.close)
        return client

    async def _report(self, client: Any, path: str) -> None:
        import distributed

        make_report: Any = distributed.performance_report
        with client.as_current():
            report = make_report(filename=path)
            await self._stack.enter_async_context(_Current(client, report))


class _Current:
    """Writes the performance report with the client that it is about, which nobody else sees as the current one."""

    def __init__(self, client: Any, report: Any) -> None:
        self._client = client
        self._report = report

    async def __aenter__(self) -> None:
        with self._client.as_current():
            await self._report.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        with self._client.as_current():
            await self._report.__aexit__(*exc_info)


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keeps Dask's lines below WARNING off the flow's console, unless somebody has chosen another level than Dask's."""
    import distributed  # sets its levels

    library = logging.getLogger(distributed.__name__)
    level = library.level
    if level == logging.INFO:
        library.setLevel(logging.WARNING)
    try:
        yield
    finally:
        library.setLevel(level)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


async def _close(cluster: Any) -> None:
    closed = cluster.close()
    if inspect.isawaitable(closed):
        await closed
