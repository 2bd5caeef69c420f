"""Remote execution: runs of tasks on workers in other processes, decided there and recorded here.

``roads``       what a cluster must be able to carry: the two classes that a runner implements
``runner``      the base of runners on clusters; ``calls`` are single calls of anything, for their basic members
``handshake``   what must be the same in both processes

What travels:
``payloads``    a block as plain values; ``shipment`` pickles definitions, parameters, references to large values;
                ``captured`` is what definitions take along, ``flow_facts`` what tasks can ask of their flow run
``reports``     records in numbered messages
``commands``    what goes down to a worker
``values``      where values are: in a report, on the cluster, in a storage

In the flow's process:
``preflight``   can a call be sent? asked where the user calls
``session``     its thread, and the parts that do the work in it:
``queues``      what waits to be sent; ``blocks`` sizes blocks by measured time
``sending``     blocks go out; ``sharing`` puts what many have in common on the cluster, ``shipments`` are on their way
``arrivals``    messages come in: ``receiving`` records states and lines, ``questions`` are answered
``losses``      what becomes of a block that does not come back; ``endings`` of a run that no worker ended
``kept_values`` values on the cluster, fetched before it goes away
``shared_storages``  result storages, and values stored from here for workers that do not share them

On a worker:
``worker``      what the cluster calls: ``execute_block``, ``receive_command``
``loading``     unpickles what travelled
``asking``      questions that a worker waits for an answer to; ``storage_sight`` asks whether the storage is shared
``execution``   a block while it is executed; ``async_items`` side by side, on a loop
``item_runs``   its items as task runs; ``permit`` is what the engine's rules find there, ``worker_results`` what
                becomes of their values
``reporting``   gathers and sends what they decide
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_engine.remote.calls import run_call
    from core_engine.remote.handshake import by_value, check_worker, versions
    from core_engine.remote.loading import Pickled, Values, unpacked
    from core_engine.remote.payloads import this_process
    from core_engine.remote.receiving import clock_offset_between
    from core_engine.remote.roads import Block, Road, WorkerLost, WorkerRoad
    from core_engine.remote.runner import RemoteTaskRunner
    from core_engine.remote.session import RemoteSession
    from core_engine.remote.worker import current_road, execute_block, execute_in_turns, is_stuck, receive_command

__all__ = [
    "Block",
    "Pickled",
    "RemoteSession",
    "RemoteTaskRunner",
    "Road",
    "Values",
    "WorkerLost",
    "WorkerRoad",
    "by_value",
    "check_worker",
    "clock_offset_between",
    "current_road",
    "execute_block",
    "execute_in_turns",
    "is_stuck",
    "receive_command",
    "run_call",
    "this_process",
    "unpacked",
    "versions",
]

_PLACES = {
    "Block": "roads",
    "Pickled": "loading",
    "RemoteSession": "session",
    "RemoteTaskRunner": "runner",
    "Road": "roads",
    "Values": "loading",
    "WorkerLost": "roads",
    "WorkerRoad": "roads",
    "by_value": "handshake",
    "check_worker": "handshake",
    "clock_offset_between": "receiving",
    "current_road": "worker",
    "execute_block": "worker",
    "execute_in_turns": "worker",
    "is_stuck": "worker",
    "receive_command": "worker",
    "run_call": "calls",
    "this_process": "payloads",
    "unpacked": "loading",
    "versions": "handshake",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'core_engine.remote' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"core_engine.remote.{place}"), name)
