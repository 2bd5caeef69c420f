"""The nodes of a Ray: how many calls run there at once, and what is installed on them (D21)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from core_engine.remote import by_value, check_worker, clock_offset_between, versions
from runners.ray.functions import remote_introduction

ANSWER_SECONDS = 30.0


@dataclass(slots=True, frozen=True)
class Node:
    """A node that has answered.

    Attributes:
        name: Its address.
        clock_offset: Seconds by which its clock is ahead of ours.
    """

    name: str
    clock_offset: float


class Nodes:
    """The nodes, as far as they are known.

    Parameters:
        logger: The runner's.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._ours = versions("ray")
        self._known: dict[str, Node] = {}
        self._resources: list[Mapping[str, float]] = []
        self._said: set[str] = set()
        self.slots = 1

    @property
    def count(self) -> int:
        return len(self._known)

    def clock_offset(self, node: str) -> float:
        """Returns by how many seconds a node's clock is ahead; 0.0 for one that has not answered."""
        known = self._known.get(node)
        return 0.0 if known is None else known.clock_offset

    def look(self) -> bool:
        """Asks Ray which nodes there are, and new ones what they have; returns whether the number of slots changed.

        Raises:
            CoreEngineError: A new node lacks core_engine.
        """
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        slots = max(1, int(sum(node["Resources"].get("CPU", 0) for node in alive.values())))
        changed, self.slots = slots != self.slots, slots
        self._resources = [node["Resources"] for node in alive.values()]
        for id in self._known.keys() - alive.keys():
            del self._known[id]
        new = [(id, node["NodeManagerAddress"]) for id, node in alive.items() if id not in self._known]
        before = time.time()
        for (id, name), answer in zip(new, [_ask(id) for id, _ in new], strict=True):
            self._meet(id, name, before, answer)
        return changed

    def say_if_none_suits(self, task_name: str, options: Mapping[str, Any]) -> None:
        """Warns, once for each wish, when no node has what a task needs: Ray lets it wait for one."""
        wanted = _wanted(options)
        if not wanted or any(
            all(has.get(name, 0) >= least for name, least in wanted.items()) for has in self._resources
        ):
            return
        what = ", ".join(f"{least:g} {name}" for name, least in wanted.items())
        if what not in self._said:
            self._said.add(what)
            self._logger.warning(
                "Task %r waits for %s. No node of this Ray has as much; the task starts when one joins.",
                task_name,
                what,
            )

    def _meet(self, id: str, name: str, before: float, answer: Any) -> None:
        self._known[id] = Node(name, 0.0)
        try:
            found, theirs = ray.get(answer, timeout=ANSWER_SECONDS)
        except RayError as error:
            self._logger.warning("The Ray node %s does not answer: %s", name, error)
            return
        self._known[id] = Node(name, clock_offset_between(before, theirs, time.time()))
        for warning in check_worker(f"Ray node {name}", self._ours, found):
            self._logger.warning(warning)


def _wanted(options: Mapping[str, Any]) -> dict[str, float]:
    """Returns how much of which resource a call with these options takes."""
    named = {"CPU": options.get("num_cpus"), "GPU": options.get("num_gpus"), "memory": options.get("memory")}
    wanted = {**named, **(options.get("resources") or {})}
    return {name: float(least) for name, least in wanted.items() if least}


def _ask(node: str) -> Any:
    """Has a node say what it has."""
    place = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    function = remote_introduction().options(name="core-engine-handshake", scheduling_strategy=place)
    return function.remote(by_value(versions), "ray")
