"""Task runners: where the calls of a flow's tasks are executed.

One package per runner, each imported only when it is chosen:

- ``runners.sequential``: in order, in the flow's process; the one for debugging.
- ``runners.concurrent``: threads and one event loop in the flow's process; the default.

They use only public names of ``core_engine`` and are registered as entry points of the group
``core_engine.task_runners``, as anybody else's runner would be. This folder itself must never stand on
``sys.path``: its packages would shadow the standard library's and the cluster libraries' own.
"""
