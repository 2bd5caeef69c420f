"""The task runner for Ray: calls run on the workers of a temporary Ray, or of one that is there.

``options``    ``remote_options``: what Ray is told of the tasks that are submitted
``runner``     RayTaskRunner

In the flow's process:
``process``    the one Ray that a process can be connected to: started, shared, ended
``signals``    what Ray changes of the process's signal handlers, put back
``nodes``      which nodes there are, and what is installed on them
``functions``  remote functions, one for each set of options
``calls``      calls on their way, and the values that they leave on the cluster
``road``       how blocks, reports, commands and values travel

``mailbox``    the actor between the flow's process and its workers
``worker``     what Ray calls on a worker

Ray itself is imported when a runner starts.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("ray") is None:
    raise ModuleNotFoundError(
        'The task runner for Ray needs Ray, which is not installed. Install it with: pip install "core-engine[ray]"',
        name="ray",
    )

from runners.ray.options import remote_options
from runners.ray.runner import RayTaskRunner

__all__ = ["RayTaskRunner", "remote_options"]
