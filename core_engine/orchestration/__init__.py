"""The rules of orchestration: pure functions of (run, proposed state, policy, facts), without I/O, clock or threads.

The same functions decide in the flow's process, on a worker and on a server (invariant I3).

- ``decisions``     Answer and Decision: what comes back
- ``facts``         TaskFacts, FlowFacts, SlotAnswer: what a decision needs to know, gathered by whoever asks
- ``progress``      TaskRunProgress, FlowRunProgress: where a run stands; recording a state in it
- ``task_rules``    the table of a task run's moves and ``decide_task_run``
- ``flow_rules``    the table of a flow run's moves and ``decide_flow_run``
- ``common_rules``  rules that both tables use
- ``state_names``   the names that rules give to states
- ``aggregate``     the common outcome of many runs
"""
