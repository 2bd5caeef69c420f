"""Remote execution: runs of tasks on workers in other processes, decided there and recorded here.

``roads``      what a cluster must be able to carry: the two classes that a runner implements
``session``    the flow's end: sends blocks of runs, takes reports, owns what becomes of each run
``queues``     what waits to be sent; ``blocks`` sizes blocks by measured time
``shipment``   what is pickled: definitions, parameters, references to values that stay on the cluster
``worker``     the worker's end: ``execute_block``; ``permit`` is what the engine's rules find there, ``reporting``
               gathers and sends what they decide
``reports``    records and numbered messages; ``receiving`` is what becomes of them in the flow's process
``values``     where values are: in a report, on the cluster, in a storage
``runner``     the base of runners on clusters; ``calls`` are single calls of anything, for their basic members
``handshake``  what must be the same in both processes
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_engine.remote.calls import run_call
    from core_engine.remote.handshake import differences, versions
    from core_engine.remote.receiving import clock_offset_between
    from core_engine.remote.roads import Block, Road, WorkerLost, WorkerRoad
    from core_engine.remote.runner import RemoteTaskRunner
    from core_engine.remote.session import RemoteSession
    from core_engine.remote.worker import current_road, execute_block, receive_command, this_process

__all__ = [
    "Block",
    "RemoteSession",
    "RemoteTaskRunner",
    "Road",
    "WorkerLost",
    "WorkerRoad",
    "clock_offset_between",
    "current_road",
    "differences",
    "execute_block",
    "receive_command",
    "run_call",
    "this_process",
    "versions",
]

_PLACES = {
    "Block": "roads",
    "RemoteSession": "session",
    "RemoteTaskRunner": "runner",
    "Road": "roads",
    "WorkerLost": "roads",
    "WorkerRoad": "roads",
    "clock_offset_between": "receiving",
    "current_road": "worker",
    "differences": "handshake",
    "execute_block": "worker",
    "receive_command": "worker",
    "run_call": "calls",
    "this_process": "worker",
    "versions": "handshake",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'core_engine.remote' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"core_engine.remote.{place}"), name)
