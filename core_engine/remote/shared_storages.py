"""Result storages that workers may not share with the flow's process (D27): found out, and written for such workers.

A token is written for each storage when the first run set that persists is sent; workers read it, and write one of
theirs, which is read here.
"""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from core_engine.concurrency.threads import service_threads
from core_engine.exceptions import MissingResult
from core_engine.remote.commands import APART, SHARED
from core_engine.remote.values import dumps
from core_engine.results.portable import portable_exception
from core_engine.schemas.states import CRASHED

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.remote.commands import Commands
    from core_engine.remote.reports import Record, Transition
    from core_engine.remote.shipments import Shipment
    from core_engine.results.storage import ResultStorage

_logger = logging.getLogger("core_engine.remote")


class SharedStorages:
    """The result storages of one session, in its thread.

    Parameters:
        commands: Takes answers to workers.
        post: Has something called in the session's thread.
    """

    def __init__(self, commands: Commands, post: Callable[[Callable[[], None]], None]) -> None:
        self._commands = commands
        self._post = post
        self._tokens: dict[ResultStorage, str | None] = {}
        # By the worker's token: None while its storage is being looked at.
        self._answers: dict[str, str | None] = {}
        self._warned: set[ResultStorage] = set()

    def token_of(self, storage: ResultStorage) -> str | None:
        """Returns the key of a token in a storage; None where this process cannot write one: then nothing is compared,
        since only workers can store anything there."""
        if storage not in self._tokens:
            token: str | None = f".core-engine-token-{uuid.uuid4().hex}"
            assert token is not None
            try:
                storage.write(token, token.encode())
            except Exception as error:  # a storage may be the user's own, and raise anything
                _logger.debug("Whether workers share a result storage is not known: %s", error)
                token = None
            self._tokens[storage] = token
        return self._tokens[storage]

    def answer(self, shipment: Shipment, record: Record) -> None:
        """Answers a worker that looked for a token: the storage is shared if its own token is found here."""
        _, _, theirs, reason = record
        if theirs in self._answers:
            known = self._answers[theirs]
            if known is not None:
                self._commands.answer(shipment, known)
            return
        self._answers[theirs] = None
        storage = shipment.run_set.result_factory.storage
        service_threads.run(lambda: self._look(shipment, storage, theirs, reason))

    def store(self, run_set: RunSet, change: Transition) -> Transition:
        """Stores a value that came with its run's state; returns the state as it is recorded.

        A value that cannot be stored crashes its run.
        """
        assert change.data is not None
        _, record, content = change.data
        try:
            run_set.result_factory.storage.write(pickle.loads(record).storage_key, content)
        except Exception as error:
            message = f"The result came back from a worker and could not be stored: {error}"
            data = ("raw", dumps(portable_exception(error)))
            return change._replace(type=CRASHED.value, name=None, message=message, data=data)
        return change._replace(data=("record", record))

    def remove_tokens(self) -> None:
        """Removes what was written. Blocks."""
        for storage, token in self._tokens.items():
            if token is not None:
                _remove(storage, token)

    # A service thread -------------------------------------------------------------------------------------------------

    def _look(self, shipment: Shipment, storage: ResultStorage, theirs: str, reason: str) -> None:
        if not reason:
            reason = _reason_against(storage, theirs)
        self._post(lambda: self._has_looked(shipment, storage, theirs, reason))

    # The session's thread again ---------------------------------------------------------------------------------------

    def _has_looked(self, shipment: Shipment, storage: ResultStorage, theirs: str, reason: str) -> None:
        answer = self._answers[theirs] = APART if reason else SHARED
        self._commands.answer(shipment, answer)
        if reason and storage not in self._warned:
            self._warned.add(storage)
            _logger.warning(
                "Worker %s does not share the result storage %s with the flow's process: %s Its results come back and "
                "are stored from here, each up to the setting results_return_limit_bytes. A result_storage that all "
                "can reach, such as 's3://bucket/results' or a network directory, avoids the detour.",
                shipment.worker,
                storage.base_path,
                reason,
            )


def _reason_against(storage: ResultStorage, theirs: str) -> str:
    try:
        content = storage.read(theirs)
    except MissingResult:
        return "what the worker wrote there is not found from here."
    except Exception as error:
        return str(error) or type(error).__name__
    finally:
        _remove(storage, theirs)
    return "" if content == theirs.encode() else "what the worker wrote there has other content here."


def _remove(storage: ResultStorage, token: str) -> None:
    try:
        storage.delete(token)
    except Exception as error:
        _logger.debug("A token in a result storage could not be removed: %s", error)
