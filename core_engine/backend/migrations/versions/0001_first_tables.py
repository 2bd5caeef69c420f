"""The first tables.

Revision ID: 0001
Revises: none
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_Type = type[sa.types.TypeEngine[Any]]


def _required(name: str, type: _Type) -> sa.Column[Any]:
    return sa.Column(name, type(), nullable=False)


def _optional(name: str, type: _Type) -> sa.Column[Any]:
    return sa.Column(name, type(), nullable=True)


def _key(*names: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*names)


def upgrade() -> None:
    """Creates what ``core_engine.backend.schema`` creates."""
    _create_flow_runs()
    _create_task_runs()
    _create_logs_and_cache()
    _create_coordination()
    op.execute(sa.text("INSERT INTO counter (id, seq, next_key) VALUES (1, 0, 1)"))
    if op.get_bind().dialect.name == "sqlite":
        op.execute(sa.text(f"PRAGMA application_id = {0x436F4531}"))


def _create_flow_runs() -> None:
    op.create_table(
        "counter",
        _required("id", sa.Integer),
        _required("seq", sa.Integer),
        _required("next_key", sa.Integer),
        _optional("cleaned", sa.REAL),
        _key("id"),
    )
    op.create_table(
        "flow_run",
        _required("key", sa.Integer),
        _required("id", sa.LargeBinary),
        _required("name", sa.Text),
        _required("flow_name", sa.Text),
        _optional("flow_version", sa.Text),
        _required("parameters", sa.Text),
        _required("tags", sa.Text),
        _required("ordinal", sa.Integer),
        _optional("state_id", sa.LargeBinary),
        _optional("state_type", sa.Integer),
        _optional("state_name", sa.Text),
        _optional("state_message", sa.Text),
        _optional("state_time", sa.REAL),
        _optional("state_data", sa.Text),
        _optional("state_details", sa.Text),
        _required("run_count", sa.Integer),
        _optional("retries", sa.Integer),
        _optional("retry_delay_seconds", sa.REAL),
        _required("created", sa.REAL),
        _optional("expected_start_time", sa.REAL),
        _optional("next_scheduled_start_time", sa.REAL),
        _optional("start_time", sa.REAL),
        _optional("end_time", sa.REAL),
        _required("total_run_time", sa.REAL),
        _optional("parent_task_run_id", sa.LargeBinary),
        _optional("deployment_id", sa.LargeBinary),
        _optional("task_runner", sa.Text),
        _optional("owner", sa.Text),
        _optional("entrypoint", sa.Text),
        _required("execution", sa.Integer),
        _required("pause_keys", sa.Text),
        _required("resuming", sa.Integer),
        _key("key"),
    )
    op.create_index("flow_run_by_id", "flow_run", ["id"], unique=True)
    op.create_index("flow_run_by_created", "flow_run", ["created"])
    op.create_index("flow_run_by_name", "flow_run", ["name"])
    op.create_index("flow_run_unfinished", "flow_run", ["owner"], sqlite_where=sa.text("state_type < 5"))
    op.create_index(
        "flow_run_by_parent",
        "flow_run",
        ["parent_task_run_id"],
        sqlite_where=sa.text("parent_task_run_id IS NOT NULL"),
    )
    op.create_table(
        "flow_run_state",
        _required("flow_key", sa.Integer),
        _required("ordinal", sa.Integer),
        _required("execution", sa.Integer),
        _required("seq", sa.Integer),
        _required("id", sa.LargeBinary),
        _required("type", sa.Integer),
        _optional("name", sa.Text),
        _optional("message", sa.Text),
        _required("time", sa.REAL),
        _optional("data", sa.Text),
        _optional("details", sa.Text),
        _key("flow_key", "ordinal"),
        sqlite_with_rowid=False,
    )


def _create_task_runs() -> None:
    op.create_table(
        "task",
        _required("key", sa.Integer),
        _required("flow_key", sa.Integer),
        _required("task_key", sa.Text),
        _required("name", sa.Text),
        _optional("version", sa.Text),
        _required("tags", sa.Text),
        _required("policy", sa.Text),
        _key("key"),
    )
    op.create_index("task_by_flow", "task", ["flow_key"])
    op.create_table(
        "task_run_group",
        _required("flow_key", sa.Integer),
        _required("task", sa.Integer),
        _required("first_index", sa.Integer),
        _required("key", sa.Integer),
        _required("prefix", sa.LargeBinary),
        _required("count", sa.Integer),
        _required("seq", sa.Integer),
        _required("is_map", sa.Integer),
        _optional("kind", sa.Text),
        _required("created", sa.REAL),
        _optional("task_inputs", sa.Text),
        _key("flow_key", "task", "first_index", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("task_run_group_by_prefix", "task_run_group", ["prefix"], unique=True)
    op.create_table(
        "task_run",
        _required("group_key", sa.Integer),
        _required("idx", sa.Integer),
        _required("ordinal", sa.Integer),
        _required("execution", sa.Integer),
        _required("seq", sa.Integer),
        _optional("start_seq", sa.Integer),
        _required("state_type", sa.Integer),
        _optional("state_name", sa.Text),
        _optional("state_message", sa.Text),
        _optional("state_time", sa.REAL),
        _optional("state_data", sa.Text),
        _optional("state_details", sa.Text),
        _required("run_count", sa.Integer),
        _required("flow_run_count", sa.Integer),
        _optional("start_time", sa.REAL),
        _optional("end_time", sa.REAL),
        _required("total_run_time", sa.REAL),
        _optional("worker", sa.Text),
        _key("group_key", "idx"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "flow_commit",
        _required("flow_key", sa.Integer),
        _required("seq", sa.Integer),
        _required("runs", sa.Integer),
        _required("first_group", sa.Integer),
        _required("last_group", sa.Integer),
        _required("first_idx", sa.Integer),
        _required("last_idx", sa.Integer),
        _key("flow_key", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "past_state",
        _required("group_key", sa.Integer),
        _required("idx", sa.Integer),
        _required("ordinal", sa.Integer),
        _required("execution", sa.Integer),
        _required("seq", sa.Integer),
        _required("type", sa.Integer),
        _optional("name", sa.Text),
        _optional("message", sa.Text),
        _required("time", sa.REAL),
        _optional("data", sa.Text),
        _optional("details", sa.Text),
        _key("group_key", "idx", "ordinal"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "task_run_extra",
        _required("group_key", sa.Integer),
        _required("idx", sa.Integer),
        _optional("name", sa.Text),
        _optional("task_inputs", sa.Text),
        _optional("child_flow_run_id", sa.LargeBinary),
        _key("group_key", "idx"),
        sqlite_with_rowid=False,
    )


def _create_logs_and_cache() -> None:
    op.create_table(
        "input_digest",
        _required("group_key", sa.Integer),
        _required("first_idx", sa.Integer),
        _required("execution", sa.Integer),
        _required("seq", sa.Integer),
        _required("digests", sa.LargeBinary),
        _key("group_key", "first_idx", "execution", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log",
        _required("flow_key", sa.Integer),
        _required("cursor", sa.Integer),
        _optional("flow_run_id", sa.LargeBinary),
        _optional("task_run_id", sa.LargeBinary),
        _required("name", sa.Text),
        _required("level", sa.Integer),
        _required("time", sa.REAL),
        _required("message", sa.Text),
        _optional("worker", sa.Text),
        _key("flow_key", "cursor"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cache_entry",
        _required("key", sa.Text),
        _required("number", sa.Integer),
        _optional("expires", sa.REAL),
        _required("flow_key", sa.Integer),
        _required("flow_run_id", sa.LargeBinary),
        _required("state_id", sa.LargeBinary),
        _optional("name", sa.Text),
        _optional("message", sa.Text),
        _required("time", sa.REAL),
        _optional("data", sa.Text),
        _optional("details", sa.Text),
        _key("key", "number"),
        sqlite_with_rowid=False,
    )
    op.create_index("cache_entry_by_flow", "cache_entry", ["flow_key"])
    op.create_table(
        "result_file",
        _required("flow_key", sa.Integer),
        _required("file", sa.Text),
        _key("flow_key", "file"),
        sqlite_with_rowid=False,
    )
    op.create_index("result_file_by_file", "result_file", ["file"])
    op.create_table(
        "unreferenced_file",
        _required("file", sa.Text),
        _required("removable", sa.REAL),
        _key("file"),
        sqlite_with_rowid=False,
    )
    op.create_table("deleted_flow_run", _required("key", sa.Integer), _key("key"))


def _create_coordination() -> None:
    op.create_table("concurrency_limit", _required("tag", sa.Text), _required("slots", sa.Integer), _key("tag"))
    op.create_table(
        "slot",
        _required("tag", sa.Text),
        _required("task_run_id", sa.LargeBinary),
        _required("owner", sa.Text),
        _key("tag", "task_run_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "request",
        _required("id", sa.Integer),
        _required("kind", sa.Text),
        _required("run_id", sa.LargeBinary),
        _required("flow_run_id", sa.LargeBinary),
        _required("payload", sa.Text),
        _required("created", sa.REAL),
        _optional("answer", sa.Text),
        _key("id"),
    )
    op.create_index("request_by_flow_run", "request", ["flow_run_id"])
    op.create_table(
        "deployment",
        _required("id", sa.LargeBinary),
        _required("name", sa.Text),
        _required("flow_name", sa.Text),
        _required("entrypoint", sa.Text),
        _required("parameters", sa.Text),
        _optional("created", sa.REAL),
        _key("id"),
    )
    op.create_index("deployment_by_name", "deployment", ["name"], unique=True)


def downgrade() -> None:
    """Refuses."""
    raise RuntimeError("There is nothing before the first tables; `core-engine db reset` removes the database.")
