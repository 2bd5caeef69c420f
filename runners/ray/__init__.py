"""The task runner for Ray: calls run on the workers of a temporary Ray, or of one that is there.

``options``    ``remote_options``: what Ray is told of the tasks that are submitted
``runner``     RayTaskRunner

In the flow's process:
``process``    the one Ray that a process can be connected to: started, shared, ended
``signals``    what Ray changes of the process's signal handlers, put back
``nodes``      which nodes there are, and what is installed on them
``functions``  remote functions, one for each set of options
``habits``     which tasks leave values on the cluster
``pace``       how quickly calls end, since those that are ending must not be cancelled
``calls``      calls on their way, and the values that they leave on the cluster
``waiting``    waiting for calls to end
``mail``       messages of workers and commands to them
``watch``      what becomes of the nodes and of the head
``road``       how blocks, reports, commands and values travel

``mailbox``    the actor between the flow's process and its workers
``head``       what both leave for each other with Ray's head, before there is a mailbox
``worker``     what Ray calls on a worker

Ray itself is imported when a runner starts. Workers import none of what only the flow's process needs.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("ray") is None:
    raise ModuleNotFoundError(
        'The task runner for Ray needs Ray, which is not installed. Install it with: pip install "core-engine[ray]"',
        name="ray",
    )

if TYPE_CHECKING:
    from runners.ray.options import remote_options
    from runners.ray.runner import RayTaskRunner

__all__ = ["RayTaskRunner", "remote_options"]

_PLACES = {"RayTaskRunner": "runner", "remote_options": "options"}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'runners.ray' has no attribute {name!r}")
    return getattr(import_module(f"runners.ray.{place}"), name)
