"""What a started runner holds: a use of this process's Ray, and the road to its workers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from runners.ray.process import CLIENT, process_ray

if TYPE_CHECKING:
    from runners.ray.road import RayRoad
    from runners.ray.runner import RayTaskRunner


class Connection:
    """Connects to Ray, and leaves it.

    Parameters:
        runner: Has the options.
        logger: The runner's.
    """

    def __init__(self, runner: RayTaskRunner, logger: logging.Logger) -> None:
        self._runner = runner
        self._logger = logger
        self._is_held = False

    def open(self) -> RayRoad:
        """Starts or finds Ray, and compares versions. Blocks.

        Raises:
            Exception: Ray cannot be started or reached, or lacks something; it is logged.
        """
        try:
            address = process_ray.acquire(self._runner.address, self._runner.init_kwargs or {}, self._logger)
            self._is_held = True
            return self._road(address)
        except Exception:
            self._logger.exception("Ray could not be started or reached.")
            raise

    def close(self) -> None:
        """Leaves Ray, which ends if it was started for this runner and no other uses it. Blocks."""
        if self._is_held:
            self._is_held = False
            process_ray.release()

    def _road(self, address: str) -> RayRoad:
        from runners.ray.nodes import Nodes
        from runners.ray.road import RayRoad

        nodes = Nodes(self._logger)
        nodes.look()
        self._logger.info("Connected to Ray. Nodes: %d, calls at once: %d", nodes.count, nodes.slots)
        is_client = address.startswith(CLIENT)
        return RayRoad(nodes, self._logger, address.removeprefix(CLIENT), has_streams=not is_client)
