"""RayTaskRunner."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from core_engine.remote import RemoteTaskRunner, Road
from core_engine.task_runners import check_count
from runners.ray.options import merged, options_in_force, options_of

if TYPE_CHECKING:
    from runners.ray.road import RayRoad

__all__ = ["RayTaskRunner"]


class RayTaskRunner(RemoteTaskRunner):
    """Runs calls on Ray.

    A Ray that this process is connected to is used and left running. Otherwise the runner connects to one that runs,
    or starts a temporary one, which ends with the flow run.

    Parameters:
        address: Of a Ray that runs: "auto" for one on this machine, or "host:port" of its head; None: the one that the
            variable RAY_ADDRESS names, or a temporary one.
        init_kwargs: Arguments for ``ray.init``, such as ``{"num_cpus": 8, "runtime_env": {...}}``.
        worker_loss_retries: How often a task run is executed again whose worker died while it ran, apart from the
            task's own retries; ``remote_options(max_retries=...)`` says otherwise for some tasks.

    Raises:
        ValueError: An option is the runner's own to set, or contradicts another; the message names it.
    """

    def __init__(
        self,
        address: str | None = None,
        init_kwargs: Mapping[str, Any] | None = None,
        worker_loss_retries: int = 0,
    ) -> None:
        super().__init__()
        if init_kwargs and "address" in init_kwargs:
            raise ValueError("`address` in init_kwargs is an option of the runner: RayTaskRunner(address=...).")
        self.address = address
        self.init_kwargs = None if init_kwargs is None else dict(init_kwargs)
        self.worker_loss_retries = check_count(worker_loss_retries, "worker_loss_retries")

    def duplicate(self) -> Self:
        return type(self)(self.address, self.init_kwargs, self.worker_loss_retries)

    def _lost_retries(self, annotations: Any) -> int:
        most: int = (annotations or {}).get("max_retries", self.worker_loss_retries)
        return most

    def _annotations(self, resources: Mapping[str, float]) -> Any:
        options = options_in_force()
        return merged(options_of(resources), options) if resources else options

    async def _connect(self, exit_stack: AsyncExitStack) -> Road:
        from core_engine.task_runners import run_in_thread
        from runners.ray.connection import Connection

        connection = Connection(self, self.logger)
        exit_stack.push_async_callback(run_in_thread, connection.close)
        road: RayRoad = await run_in_thread(connection.open)
        exit_stack.push_async_callback(run_in_thread, road.leave)
        return road
