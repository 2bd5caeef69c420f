"""DaskTaskRunner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from core_engine.remote import RemoteTaskRunner, Road
from core_engine.task_runners import check_count
from runners.dask.options import check_options

if TYPE_CHECKING:
    from runners.dask.road import DaskRoad

__all__ = ["DaskTaskRunner"]


class DaskTaskRunner(RemoteTaskRunner):
    """Runs calls on a Dask cluster.

    Parameters:
        cluster: A cluster object that runs; it is used and not closed.
        address: A running scheduler's address, such as "tcp://10.0.0.1:8786"; it is used and not closed.
        cluster_class: What makes a temporary cluster: a class, a function, or the dotted name of one; None:
            ``distributed.LocalCluster``. It is closed when the flow run ends.
        cluster_kwargs: Arguments for it, such as ``{"n_workers": 4, "threads_per_worker": 1}``.
        adapt_kwargs: Arguments for the cluster's ``adapt``, such as ``{"minimum": 1, "maximum": 10}``; None: it is
            not scaled.
        client_kwargs: Arguments for ``distributed.Client``, such as ``{"security": ...}``.
        performance_report_path: File into which Dask's performance report is written at the end, HTML; None: none.
        worker_loss_retries: How often a task run is executed again whose worker died while it ran, apart from the
            task's own retries.

    Raises:
        ValueError: Options exclude each other; the message names them.
    """

    def __init__(
        self,
        cluster: Any = None,
        address: str | None = None,
        cluster_class: str | Callable[..., Any] | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        performance_report_path: str | None = None,
        worker_loss_retries: int = 0,
    ) -> None:
        super().__init__()
        check_options(cluster, address, cluster_class, cluster_kwargs, adapt_kwargs, client_kwargs)
        self.cluster = cluster
        self.address = address
        self.cluster_class = cluster_class
        self.cluster_kwargs = None if cluster_kwargs is None else dict(cluster_kwargs)
        self.adapt_kwargs = None if adapt_kwargs is None else dict(adapt_kwargs)
        self.client_kwargs = None if client_kwargs is None else dict(client_kwargs)
        self.performance_report_path = performance_report_path
        self.worker_loss_retries = check_count(worker_loss_retries, "worker_loss_retries")

    def duplicate(self) -> Self:
        options: dict[str, Any] = {}
        for name, value in self._options().items():
            options[name] = dict(value) if type(value) is dict else value
        return type(self)(**options)

    def _lost_retries(self, annotations: Any) -> int:
        return self.worker_loss_retries

    @property
    def client(self) -> Any:
        """The started runner's ``distributed.Client``, which is asynchronous; None before the start."""
        road: Any = self._road
        return None if road is None else road.client

    async def _connect(self, exit_stack: AsyncExitStack) -> Road:
        from core_engine.task_runners import run_in_thread
        from runners.dask.cluster import Connection

        connection = Connection(self, self.logger)
        exit_stack.push_async_callback(run_in_thread, connection.close)
        road: DaskRoad = await run_in_thread(connection.open)
        exit_stack.push_async_callback(run_in_thread, connection.leave)
        return road

    def _annotations(self, resources: Mapping[str, float]) -> Any:
        """Dask's annotations; what they say of a resource stands above what the task says of it."""
        from dask.base import get_annotations

        annotations: dict[str, Any] = get_annotations()
        if resources:
            annotations = {**annotations, "resources": {**resources, **(annotations.get("resources") or {})}}
        return annotations or None

    def __eq__(self, other: object) -> bool:
        """A cluster object and its scheduler's address are the same cluster."""
        if type(self) is not type(other):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    __hash__ = object.__hash__

    def __getstate__(self) -> dict[str, Any]:
        """A cluster object stays where it is: what arrives names its scheduler's address."""
        options: dict[str, Any] = super().__getstate__()
        if self.cluster is not None:
            options["cluster"] = None
            options["address"] = getattr(self.cluster, "scheduler_address", None)
        return options
