"""How records are said in rows: numbers for types, JSON for structure, nothing for what follows from the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from core_engine.results.records import LiteralResult, PersistedResult, record_from_json
from core_engine.schemas.records import FlowRun, TaskInputs, TaskPolicy, TaskRunResult
from core_engine.schemas.states import DEFAULT_NAMES, State, StateDetails, StateType

# Final types come last, so that one comparison tells them. The numbers are in databases: append, never change.
_TYPES = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
    StateType.COMPLETED,
    StateType.FAILED,
    StateType.CANCELLED,
    StateType.CRASHED,
)
TYPE_CODES: dict[StateType, int] = {type: code for code, type in enumerate(_TYPES)}
TYPES: tuple[StateType, ...] = _TYPES
FIRST_FINAL_CODE = 5
PENDING_CODE = 1
RUNNING_CODE = 2
CRASHED_CODE = 8

_PREFIX_BYTES = 10
_PREFIX_SHIFT = 128 - 8 * _PREFIX_BYTES


def _placeholder(value: Any) -> Any:
    """What stands in JSON for a value that JSON cannot say."""
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return f"<{type(value).__name__}>"


_encode = json.JSONEncoder(separators=(",", ":"), default=_placeholder).encode


def to_json(value: Any) -> str:
    """Returns `value` as JSON text, with ``<TypeName>`` where JSON has no word for it."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError):
        # Keys that are no text, or a value that holds itself.
        return _encode(_plain(value, depth=20))


def _plain(value: Any, depth: int) -> Any:
    if depth == 0:
        return _placeholder(value)
    if isinstance(value, dict):
        return {str(key): _plain(part, depth - 1) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part, depth - 1) for part in value]
    return value


def from_json(text: str | None) -> Any:
    """Returns what ``to_json`` wrote; None for None."""
    return None if text is None else json.loads(text)


def to_seconds(when: datetime | None) -> float | None:
    """Returns a time in seconds since the epoch; None for None."""
    return None if when is None else when.timestamp()


def to_datetime(seconds: float | None) -> datetime | None:
    """Returns an aware datetime in UTC; None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def prefix_bytes(prefix: int) -> bytes:
    """Returns the part of a group's prefix that is not zero by construction."""
    return (prefix >> _PREFIX_SHIFT).to_bytes(_PREFIX_BYTES, "big")


def prefix_from_bytes(stored: bytes) -> int:
    """Reads what ``prefix_bytes`` wrote."""
    return int.from_bytes(stored, "big") << _PREFIX_SHIFT


def name_column(state: State) -> str | None:
    """Returns the state's name, None where the type says it."""
    name = state._name
    return None if name == DEFAULT_NAMES[state._type] else name


# Half of all task runs return None: its record is worth a short word.
_LITERALS = {None: "null", True: "true", False: "false"}
_LITERAL_TEXTS = {text: value for value, text in _LITERALS.items()}


def data_column(data: Any) -> str | None:
    """Returns a result record as JSON; None for what is not stored: other values, exceptions, unpersisted results."""
    kind = type(data)
    if kind is LiteralResult:
        return _LITERALS[data.value]
    # Asked of the class: a user's object may answer to any attribute.
    if getattr(kind, "stored", False) is not True:
        return None
    record = data.to_json()
    return None if record is None else to_json(record)


def read_data(text: str | None) -> Any:
    """Returns the result record that ``data_column`` wrote."""
    if text is None:
        return None
    if text in _LITERAL_TEXTS:
        return LiteralResult(_LITERAL_TEXTS[text])
    return record_from_json(json.loads(text))


def file_column(data: Any) -> str | None:
    """Returns what tells the stored file of a result record from others, None when the record has no file."""
    if type(data) is not PersistedResult:
        return None
    return to_json([data.storage_path, data.storage_key, data.storage_name])


def read_file(text: str) -> dict[str, Any]:
    """Returns a result record, as JSON, with the file that ``file_column`` wrote: enough to delete it by."""
    path, key, name = json.loads(text)
    reference = {"type": "reference", "storage_path": path, "storage_key": key, "serializer_type": "", "value_type": ""}
    return reference if name is None else {**reference, "storage_name": name}


def details_column(details: StateDetails | None) -> str | None:
    """Returns a task run's state's details as JSON, without the ids of its run, which its row knows; None when nothing
    is left."""
    return _details_json(details, ("flow_run_id", "task_run_id"))


def flow_details_column(details: StateDetails | None) -> str | None:
    """``details_column`` for a flow run's state, whose task run is the one that stands for it in its parent."""
    return _details_json(details, ("flow_run_id",))


def _details_json(details: StateDetails | None, known: tuple[str, ...]) -> str | None:
    if details is None:
        return None
    values = {name: value for name, value in details.to_dict().items() if name not in known}
    return to_json(values) if values else None


def read_details(text: str | None) -> StateDetails | None:
    """Returns what ``details_column`` wrote."""
    return None if text is None else StateDetails.from_dict(json.loads(text))


def policy_column(policy: TaskPolicy) -> str:
    """Returns a policy as JSON, only what differs from the default."""
    values = {name: getattr(policy, name) for name in TaskPolicy.__slots__}
    return to_json({name: value for name, value in values.items() if value != getattr(_DEFAULT_POLICY, name)})


_DEFAULT_POLICY = TaskPolicy()


def read_policy(text: str) -> TaskPolicy:
    """Returns what ``policy_column`` wrote."""
    values = json.loads(text)
    if not values:
        return _DEFAULT_POLICY
    if "retry_delays" in values:
        values["retry_delays"] = tuple(values["retry_delays"])
    return TaskPolicy(**values)


def inputs_column(task_inputs: TaskInputs | None) -> str | None:
    """Returns a run's inputs as JSON, {parameter: [id, ...]} (or [id, type] for inputs that are no task runs)."""
    if not task_inputs:
        return None
    return to_json(
        {
            name: [str(part.id) if part.input_type == "task_run" else [str(part.id), part.input_type] for part in parts]
            for name, parts in task_inputs.items()
        }
    )


def read_inputs(text: str | None) -> TaskInputs:
    """Returns what ``inputs_column`` wrote."""
    if text is None:
        return {}
    return {name: [_read_input(part) for part in parts] for name, parts in json.loads(text).items()}


def _read_input(part: str | list[str]) -> TaskRunResult:
    if isinstance(part, str):
        return TaskRunResult(UUID(part))
    return TaskRunResult(UUID(part[0]), part[1])


FLOW_RUN_FIELDS = (
    "name",
    "flow_name",
    "flow_version",
    "parameters",
    "tags",
    "run_count",
    "retries",
    "retry_delay_seconds",
    "created",
    "expected_start_time",
    "next_scheduled_start_time",
    "start_time",
    "end_time",
    "total_run_time",
    "parent_task_run_id",
    "deployment_id",
    "task_runner",
    "owner",
    "entrypoint",
    "execution",
    "pause_keys",
    "resuming",
)
"""Fields of a FlowRun that have a column of their name, in the order of ``flow_run_columns``."""

_TIMES = {"created", "expected_start_time", "next_scheduled_start_time", "start_time", "end_time"}
_IDS = {"parent_task_run_id", "deployment_id"}
_SETS = {"tags", "pause_keys"}


def flow_run_column(field: str, value: Any) -> Any:
    """Returns what stands in the column `field` of a flow run."""
    if field in _TIMES:
        return to_seconds(value)
    if field in _IDS:
        return None if value is None else value.bytes
    if field in _SETS:
        return to_json(sorted(map(str, value)))
    if field == "parameters":
        return to_json(value)
    if field == "resuming":
        return int(value)
    return value


def flow_run_columns(flow_run: FlowRun) -> list[Any]:
    """Returns the columns ``FLOW_RUN_FIELDS`` of a flow run."""
    return [flow_run_column(field, getattr(flow_run, field)) for field in FLOW_RUN_FIELDS]


def read_flow_run_field(field: str, stored: Any) -> Any:
    """Reads what ``flow_run_column`` wrote."""
    if field in _TIMES:
        return to_datetime(stored)
    if field in _IDS:
        return None if stored is None else UUID(bytes=stored)
    if field in _SETS:
        return set(json.loads(stored))
    if field == "parameters":
        return json.loads(stored)
    if field == "resuming":
        return bool(stored)
    return stored
