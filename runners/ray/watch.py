"""What watches a Ray: one thread looks for nodes that come and go, another whether it is there at all.

They are two because Ray's own question for its nodes waits for a minute when nobody is there to answer it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from core_engine.exceptions import CoreEngineError
from runners.ray.process import answers

if TYPE_CHECKING:
    from runners.ray.nodes import Nodes

LOOK_SECONDS = 0.5
# A head that does not answer for so long is gone; a connection that is interrupted for ten seconds comes back in time.
# Ray itself ends the whole process after a minute without it.
GONE_SECONDS = 20.0
STOP_SECONDS = 2.0


class Watch:
    """Looks at a Ray in intervals.

    Parameters:
        nodes: What is known of its nodes.
        logger: The runner's.
        address: "host:port" of what answers as long as Ray is there.
        slots_changed: Called when more or fewer calls run there at once.
        gone: Called once, with one line, when Ray is not there any more.
    """

    def __init__(
        self,
        nodes: Nodes,
        logger: logging.Logger,
        address: str,
        slots_changed: Callable[[], None],
        gone: Callable[[str], None],
    ) -> None:
        self._nodes = nodes
        self._logger = logger
        self._slots_changed = slots_changed
        self._gone = gone
        self._is_over = threading.Event()
        self._address = address
        self._threads = [
            threading.Thread(target=self._watch, name="core-engine-ray-watch", daemon=True),
            threading.Thread(target=self._look, name="core-engine-ray-nodes", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the watch. Blocks, but not for a question that Ray does not answer."""
        self._is_over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_SECONDS)

    def _watch(self) -> None:
        last_answer = time.monotonic()
        while not self._is_over.wait(LOOK_SECONDS):
            reason = self._silence()
            if reason is None:
                last_answer = time.monotonic()
            elif time.monotonic() - last_answer > GONE_SECONDS:
                self._gone(f"its head at {self._address} does not answer ({reason}).")
                return

    def _silence(self) -> str | None:
        """Returns why the head does not answer; None if it does, or where it would is not known."""
        if not self._address:
            return None
        host, _, port = self._address.rpartition(":")
        try:
            answers(host, int(port))
        except OSError as error:
            return str(error)
        return None

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            try:
                if self._nodes.look():
                    self._slots_changed()
            except CoreEngineError as error:
                self._logger.error("%s", error)
            except Exception as error:  # Ray is going away, or cannot answer just now
                self._logger.debug("Ray does not say which nodes it has: %s", error)
