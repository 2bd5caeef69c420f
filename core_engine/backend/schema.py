"""The tables, as they are created at first start.

Alembic's revisions in ``migrations`` lead to the same tables; a test compares the two. What is hot is laid out so that
an insert touches one b-tree: rows of a flow run lie together by their primary key, without secondary indexes.

- A *group* of task runs stands once. A child has no row until it first leaves Pending.
- ``task_run`` holds a child's current state; ``past_state`` those that it has left, except two that follow from the
  rest: ordinal 1, Pending since the group was created, and ordinal 2, a plain Running since ``start_time``.
- ``seq`` numbers commits over the whole store, and is what events are ordered by. ``flow_commit`` says where to look
  for the task runs that a commit changed: in groups from first to last, and where it was one group, at which indexes.
- ``input_digest`` has what resumable runs were made of: digests of consecutive runs of a group, one after the other.
- ``result_file`` says which flow runs refer to a stored result, so that deleting knows the last reference;
  ``unreferenced_file`` which have none, and from when on their files may be removed.
- Times are seconds since the epoch. Types of states are the numbers of ``encoding.TYPE_CODES``: final ones from 5 on.
"""

from __future__ import annotations

REVISIONS = ("0001",)
"""The Alembic revisions that this version can read or migrate, in order."""

REVISION = REVISIONS[-1]
"""The one that these statements amount to."""

APPLICATION_ID = 0x436F4531
"""Marks a file as ours (``PRAGMA application_id``): "CoE1"."""

TABLES = (
    """
    CREATE TABLE counter (
        id INTEGER NOT NULL PRIMARY KEY,
        seq INTEGER NOT NULL,
        next_key INTEGER NOT NULL,
        cleaned REAL
    )
    """,
    """
    CREATE TABLE flow_run (
        key INTEGER NOT NULL PRIMARY KEY,
        id BLOB NOT NULL,
        name TEXT NOT NULL,
        flow_name TEXT NOT NULL,
        flow_version TEXT,
        parameters TEXT NOT NULL,
        tags TEXT NOT NULL,
        ordinal INTEGER NOT NULL,
        state_id BLOB,
        state_type INTEGER,
        state_name TEXT,
        state_message TEXT,
        state_time REAL,
        state_data TEXT,
        state_details TEXT,
        run_count INTEGER NOT NULL,
        retries INTEGER,
        retry_delay_seconds REAL,
        created REAL NOT NULL,
        expected_start_time REAL,
        next_scheduled_start_time REAL,
        start_time REAL,
        end_time REAL,
        total_run_time REAL NOT NULL,
        parent_task_run_id BLOB,
        deployment_id BLOB,
        task_runner TEXT,
        owner TEXT,
        entrypoint TEXT,
        execution INTEGER NOT NULL,
        pause_keys TEXT NOT NULL,
        resuming INTEGER NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX flow_run_by_id ON flow_run (id)",
    "CREATE INDEX flow_run_by_created ON flow_run (created)",
    "CREATE INDEX flow_run_by_name ON flow_run (name)",
    "CREATE INDEX flow_run_unfinished ON flow_run (owner) WHERE state_type < 5",
    "CREATE INDEX flow_run_by_parent ON flow_run (parent_task_run_id) WHERE parent_task_run_id IS NOT NULL",
    """
    CREATE TABLE flow_run_state (
        flow_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        execution INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        id BLOB NOT NULL,
        type INTEGER NOT NULL,
        name TEXT,
        message TEXT,
        time REAL NOT NULL,
        data TEXT,
        details TEXT,
        PRIMARY KEY (flow_key, ordinal)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE task (
        key INTEGER NOT NULL PRIMARY KEY,
        flow_key INTEGER NOT NULL,
        task_key TEXT NOT NULL,
        name TEXT NOT NULL,
        version TEXT,
        tags TEXT NOT NULL,
        policy TEXT NOT NULL
    )
    """,
    "CREATE INDEX task_by_flow ON task (flow_key)",
    """
    CREATE TABLE task_run_group (
        flow_key INTEGER NOT NULL,
        task INTEGER NOT NULL,
        first_index INTEGER NOT NULL,
        key INTEGER NOT NULL,
        prefix BLOB NOT NULL,
        count INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        is_map INTEGER NOT NULL,
        kind TEXT,
        created REAL NOT NULL,
        task_inputs TEXT,
        PRIMARY KEY (flow_key, task, first_index, key)
    ) WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX task_run_group_by_prefix ON task_run_group (prefix)",
    """
    CREATE TABLE task_run (
        group_key INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        execution INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        start_seq INTEGER,
        state_type INTEGER NOT NULL,
        state_name TEXT,
        state_message TEXT,
        state_time REAL,
        state_data TEXT,
        state_details TEXT,
        run_count INTEGER NOT NULL,
        flow_run_count INTEGER NOT NULL,
        start_time REAL,
        end_time REAL,
        total_run_time REAL NOT NULL,
        worker TEXT,
        PRIMARY KEY (group_key, idx)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE flow_commit (
        flow_key INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        runs INTEGER NOT NULL,
        first_group INTEGER NOT NULL,
        last_group INTEGER NOT NULL,
        first_idx INTEGER NOT NULL,
        last_idx INTEGER NOT NULL,
        PRIMARY KEY (flow_key, seq)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE past_state (
        group_key INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        execution INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        type INTEGER NOT NULL,
        name TEXT,
        message TEXT,
        time REAL NOT NULL,
        data TEXT,
        details TEXT,
        PRIMARY KEY (group_key, idx, ordinal)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE task_run_extra (
        group_key INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        name TEXT,
        task_inputs TEXT,
        child_flow_run_id BLOB,
        PRIMARY KEY (group_key, idx)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE input_digest (
        group_key INTEGER NOT NULL,
        first_idx INTEGER NOT NULL,
        execution INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        digests BLOB NOT NULL,
        PRIMARY KEY (group_key, first_idx, execution, seq)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE log (
        flow_key INTEGER NOT NULL,
        cursor INTEGER NOT NULL,
        flow_run_id BLOB,
        task_run_id BLOB,
        name TEXT NOT NULL,
        level INTEGER NOT NULL,
        time REAL NOT NULL,
        message TEXT NOT NULL,
        worker TEXT,
        PRIMARY KEY (flow_key, cursor)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE cache_entry (
        key TEXT NOT NULL,
        number INTEGER NOT NULL,
        expires REAL,
        flow_key INTEGER NOT NULL,
        flow_run_id BLOB NOT NULL,
        state_id BLOB NOT NULL,
        name TEXT,
        message TEXT,
        time REAL NOT NULL,
        data TEXT,
        details TEXT,
        PRIMARY KEY (key, number)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX cache_entry_by_flow ON cache_entry (flow_key)",
    """
    CREATE TABLE result_file (
        flow_key INTEGER NOT NULL,
        file TEXT NOT NULL,
        PRIMARY KEY (flow_key, file)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX result_file_by_file ON result_file (file)",
    "CREATE TABLE unreferenced_file (file TEXT NOT NULL PRIMARY KEY, removable REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE deleted_flow_run (key INTEGER NOT NULL PRIMARY KEY)",
    """
    CREATE TABLE concurrency_limit (
        tag TEXT NOT NULL PRIMARY KEY,
        slots INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE slot (
        tag TEXT NOT NULL,
        task_run_id BLOB NOT NULL,
        owner TEXT NOT NULL,
        PRIMARY KEY (tag, task_run_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE request (
        id INTEGER NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        run_id BLOB NOT NULL,
        flow_run_id BLOB NOT NULL,
        payload TEXT NOT NULL,
        created REAL NOT NULL,
        answer TEXT
    )
    """,
    "CREATE INDEX request_by_flow_run ON request (flow_run_id)",
    """
    CREATE TABLE deployment (
        id BLOB NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        flow_name TEXT NOT NULL,
        entrypoint TEXT NOT NULL,
        parameters TEXT NOT NULL,
        created REAL
    )
    """,
    "CREATE UNIQUE INDEX deployment_by_name ON deployment (name)",
)
