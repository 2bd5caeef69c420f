"""Results: where a run's value is, and how it gets there and back.

    records.py      UnpersistedResult, LiteralResult, PersistedResult: what a state holds as its data
    factory.py      ResultFactory: makes records of values by the policy of one flow or task
    policy.py       whether, where and how the results of a flow or task are kept
    keys.py         the names of stored results: random, fixed, or from a template
    storage.py      LocalStorage, FsspecStorage: directories and what fsspec knows, by key
    saved.py        storages saved under a name
    files.py        what stands in a stored file, and deleting it
    removal.py      removing the results of deleted runs
    json_values.py  Python values as JSON and back
    unpicklable.py  which part of a value cannot be pickled
    portable.py     exceptions that can be sent and stored, whatever they hold

Importing this package loads the records only; the rest comes when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from core_engine.results.records import (
    BaseResult,
    LiteralResult,
    PersistedResult,
    UnpersistedResult,
    record_from_json,
)

if TYPE_CHECKING:
    from core_engine.results.factory import ResultFactory
    from core_engine.results.files import delete_result
    from core_engine.results.policy import flow_factory, task_factory
    from core_engine.results.portable import portable_exception
    from core_engine.results.removal import remove_results
    from core_engine.results.storage import FsspecStorage, LocalStorage, ResultStorage
    from core_engine.results.unpicklable import find_unpicklable

__all__ = [
    "BaseResult",
    "FsspecStorage",
    "LiteralResult",
    "LocalStorage",
    "PersistedResult",
    "ResultFactory",
    "ResultStorage",
    "UnpersistedResult",
    "delete_result",
    "find_unpicklable",
    "flow_factory",
    "portable_exception",
    "record_from_json",
    "remove_results",
    "task_factory",
]

_LOADED_WHEN_ASKED_FOR = {
    "FsspecStorage": "storage",
    "LocalStorage": "storage",
    "ResultFactory": "factory",
    "ResultStorage": "storage",
    "delete_result": "files",
    "find_unpicklable": "unpicklable",
    "flow_factory": "policy",
    "portable_exception": "portable",
    "remove_results": "removal",
    "task_factory": "policy",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_ASKED_FOR:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
    value = getattr(import_module(f"{__name__}.{_LOADED_WHEN_ASKED_FOR[name]}"), name)
    globals()[name] = value
    return value
