"""What code can read of the run that it is part of: ``runtime.flow_run.id``, ``runtime.task_run.name``, ...

Outside of a run the attributes have empty values; there, environment variables named
``CORE_ENGINE__RUNTIME__FLOW_RUN__NAME`` (module and attribute in capitals) can set them, for tests.
"""

from core_engine.runtime import flow_run, task_run

__all__ = ["flow_run", "task_run"]
