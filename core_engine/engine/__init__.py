"""The engine: how calls of flows and tasks become runs that are orchestrated to their end.

The main path, in the order in which a call takes it:

- ``flow_calls``   a flow is called: which thread, root or subflow          - ``subflows``
- ``later``        or it was created for later, and is executed now (``__main__``)
- ``resuming``     or one that had ended goes on                              - ``resumption``, ``digests``
- ``flow_runs``    created, begun, orchestrated              - ``flow_functions``, ``overdue``, ``outcomes``
- ``task_calls``   a task is called, submitted (``maps``: mapped)           - ``inputs``
- ``run_sets``     the runs of one call, submit or map                      - ``active``: runs of this process
- ``dispatch``     to a runner, when inputs are final                       - ``calls``, ``runners``, ``slots``
- ``task_loops``   async ones on a loop that they share                     - ``held_loops``, ``async_calls``
- ``task_runs``    executed: through its states                             - ``caching``, ``timeouts``, ``run_names``
- ``proposals``    facts, the pure rules' decision, the journal             - ``outside``
- ``hooks``, ``crashes``, ``cancellation``, ``signals``, ``requests``, ``store_care``   what may happen beside it
- ``pauses``, ``holds``                                                     - and in between
- ``waits``        why a task run has not started
- ``progress``, ``previous``, ``loading``, ``stored_parameters``, ``reachable``
- ``runner_import``, ``tracebacks``, ``main_guard``, ``run_logs``, ``failure_policy``, ``signalled_end``, ``forks``
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "enter_flow_run_engine_from_flow_call": "flow_calls",
    "create_then_begin_flow_run": "flow_runs",
    "begin_flow_run": "flow_runs",
    "enter_flow_run_engine_from_subprocess": "later",
    "retrieve_flow_then_begin_flow_run": "later",
    "orchestrate_flow_run": "flow_runs",
    "create_and_begin_subflow_run": "subflows",
    "enter_task_run_engine": "task_calls",
    "get_task_call_return_value": "task_calls",
    "create_task_run_future": "task_calls",
    "create_task_run_then_submit": "task_calls",
    "begin_task_map": "maps",
    "begin_task_run": "task_runs",
    "orchestrate_task_run": "task_runs",
    "collect_task_run_inputs": "inputs",
    "resolve_inputs": "inputs",
    "link_state_to_result": "inputs",
    "get_state_for_result": "inputs",
    "propose_state": "proposals",
    "pause_flow_run": "pauses",
    "resume_flow_run": "pauses",
    "report_flow_run_crashes": "crashes",
    "report_task_run_crashes": "crashes",
    "check_api_reachable": "reachable",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
