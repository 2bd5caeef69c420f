"""The statements of the journal's writer, each over many rows."""

from __future__ import annotations

from core_engine.backend.encoding import FIRST_FINAL_CODE, RUNNING_CODE
from core_engine.backend.statements import ManyRows

STATE_COLUMNS = "state_type, state_name, state_message, state_time, state_data, state_details"
RUN_COLUMNS = (
    f"group_key, idx, ordinal, execution, seq, {STATE_COLUMNS}, "
    "run_count, flow_run_count, start_time, end_time, total_run_time, worker"
)
PAST_COLUMNS = "group_key, idx, ordinal, execution, seq, type, name, message, time, data, details"

# Whether the row `task_run` of a run may be changed to an entry with this ordinal and execution: ``folding.follows``.
ACCEPTS = (
    "{ordinal} > task_run.ordinal AND ({execution} > task_run.execution"
    f" OR ({{execution}} = task_run.execution AND task_run.state_type < {FIRST_FINAL_CODE}))"
)

UPSERT_RUNS = ManyRows(
    f"INSERT INTO task_run ({RUN_COLUMNS}) VALUES {{rows}} ON CONFLICT (group_key, idx) DO UPDATE SET "
    # The commit in which the run started is kept: a plain Running is told from it.
    "start_seq = coalesce(task_run.start_seq, task_run.seq), "
    # So is when: a sender that read it back has it in microseconds.
    "start_time = coalesce(task_run.start_time, excluded.start_time), "
    + ", ".join(f"{column} = excluded.{column}" for column in RUN_COLUMNS.split(", ")[2:] if column != "start_time")
    + " WHERE "
    + ACCEPTS.format(ordinal="excluded.ordinal", execution="excluded.execution"),
    columns=17,
)

IS_IMPLIED = (
    f"(task_run.ordinal = 2 AND state_type = {RUNNING_CODE} AND state_time = start_time"
    " AND state_name IS NULL AND state_message IS NULL AND state_data IS NULL AND state_details IS NULL)"
)
"""Whether the state in a row of ``task_run`` is the plain first Running that reading puts back."""

COPY_TO_PAST = (
    f"INSERT OR IGNORE INTO past_state ({PAST_COLUMNS}) SELECT task_run.group_key, task_run.idx, task_run.ordinal, "
    "task_run.execution, task_run.seq, state_type, state_name, state_message, coalesce(state_time, end_time), "
    "state_data, state_details"
)
"""Keeps the state in a row of ``task_run`` that is about to be left."""

KEEP_PAST = ManyRows(
    "WITH coming (group_key, idx, ordinal, execution) AS (VALUES {rows}) "
    f"{COPY_TO_PAST} FROM coming CROSS JOIN task_run "
    "ON task_run.group_key = coming.group_key AND task_run.idx = coming.idx "
    f"WHERE {ACCEPTS.format(ordinal='coming.ordinal', execution='coming.execution')} AND NOT {IS_IMPLIED}",
    columns=4,
)

# A state that was entered and left within the batch, unless its run has gone on without it already.
INSERT_PAST = ManyRows(
    f"""
    WITH left_state ({PAST_COLUMNS}) AS (VALUES {{rows}})
    INSERT OR IGNORE INTO past_state ({PAST_COLUMNS}) SELECT {PAST_COLUMNS} FROM left_state
    WHERE NOT EXISTS (
        SELECT 1 FROM task_run
        WHERE task_run.group_key = left_state.group_key AND task_run.idx = left_state.idx AND (
            task_run.ordinal > left_state.ordinal OR task_run.execution > left_state.execution
            OR (task_run.ordinal < left_state.ordinal AND task_run.execution = left_state.execution
                AND task_run.state_type >= {FIRST_FINAL_CODE})
        )
    )
    """,
    columns=11,
)

INSERT_COMMITS = ManyRows(
    "INSERT INTO flow_commit (flow_key, seq, runs, first_group, last_group, first_idx, last_idx) VALUES {rows}",
    columns=7,
)

INSERT_TASKS = ManyRows(
    "INSERT INTO task (key, flow_key, task_key, name, version, tags, policy) VALUES {rows}", columns=7
)

INSERT_GROUPS = ManyRows(
    "INSERT INTO task_run_group "
    "(flow_key, task, first_index, key, prefix, count, seq, is_map, kind, created, task_inputs) "
    "VALUES {rows} ON CONFLICT (prefix) DO NOTHING",
    columns=11,
)

UPSERT_EXTRAS = ManyRows(
    "INSERT INTO task_run_extra (group_key, idx, name, task_inputs, child_flow_run_id) VALUES {rows} "
    "ON CONFLICT (group_key, idx) DO UPDATE SET name = coalesce(excluded.name, name), "
    "task_inputs = coalesce(excluded.task_inputs, task_inputs), "
    "child_flow_run_id = coalesce(excluded.child_flow_run_id, child_flow_run_id)",
    columns=5,
)

INSERT_DIGESTS = ManyRows(
    "INSERT OR REPLACE INTO input_digest (group_key, first_idx, execution, seq, digests) VALUES {rows}", columns=5
)

INSERT_LOGS = ManyRows(
    "INSERT INTO log (flow_key, cursor, flow_run_id, task_run_id, name, level, time, message, worker) VALUES {rows}",
    columns=9,
)

# An entry that the new one outlives will never be the newest valid one again.
DROP_OUTLIVED = ManyRows(
    """
    WITH coming (key, time, expires) AS (VALUES {rows})
    DELETE FROM cache_entry WHERE (key, number) IN (
        SELECT old.key, old.number FROM coming CROSS JOIN cache_entry AS old ON old.key = coming.key
        WHERE old.time <= coming.time AND (coming.expires IS NULL OR old.expires <= coming.expires)
    )
    """,
    columns=3,
)

INSERT_CACHED = ManyRows(
    "INSERT INTO cache_entry "
    "(key, number, expires, flow_key, flow_run_id, state_id, name, message, time, data, details) VALUES {rows}",
    columns=11,
)

INSERT_FILES = ManyRows("INSERT OR IGNORE INTO result_file (flow_key, file) VALUES {rows}", columns=2)
"""Says which stored results a flow run refers to: rows of (flow key, ``encoding.file_column``)."""
