"""Calls on their way, and the values that they leave on the cluster, which belong to this process (D12)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ray

from runners.ray.worker import Report

Done = Callable[[bytes | None, BaseException | None], None]


class Call:
    """One call of a remote function.

    Parameters:
        name: Its name.
        done: What is called when it is over.
        result: What the remote function returned: references, or a generator of them.
    """

    def __init__(self, name: str, done: Done, result: Any) -> None:
        self.name = name
        self.done = done
        # How many of its values were let go while it ran; guarded by the lock of ``Calls``.
        self.released = 0
        self._result = result

    @property
    def ending(self) -> Any:
        """The reference that is ready when the call is over."""
        return self._result

    def outcome(self, fetch: Callable[[], Any]) -> Report:
        """Returns the report of an ended call, or raises what it ended with; `fetch` returns what ``ending`` has."""
        return Report("", "", 0, 0, [fetch()])

    def value(self, number: int) -> Any:
        """Returns the reference to a value that the call leaves on the cluster.

        Raises:
            LookupError: There is none, since its worker died.
        """
        raise LookupError(f"The call {self.name} leaves no values.")

    def look_at_errors(self) -> None:
        """Looks at what a failed call returned otherwise: Ray prints errors that nobody has looked at."""


class ReportedBlock(Call):
    """A call of ``execute``: there is nothing but its report."""

    def outcome(self, fetch: Callable[[], Any]) -> Report:
        return Report.decode(fetch())


class BlockAtOnce(Call):
    """A call of ``execute_at_once``: its value is there when the call is over."""

    @property
    def ending(self) -> Any:
        return self._result[0]

    def outcome(self, fetch: Callable[[], Any]) -> Report:
        return Report.decode(fetch())

    def value(self, number: int) -> Any:
        return self._result[1]

    def look_at_errors(self) -> None:
        _look_at([self._result[1]])


class BlockByAndBy(Call):
    """A call of ``execute_by_and_by``: values come while it runs, and at last its report.

    ``_lock`` guards the generator and what came out of it.
    """

    def __init__(self, name: str, done: Done, result: Any) -> None:
        super().__init__(name, done, result)
        self._lock = threading.Lock()
        self._given: list[Any] = []

    @property
    def ending(self) -> Any:
        return self._result.completed()

    def outcome(self, fetch: Callable[[], Any]) -> Report:
        fetch()
        with self._lock:
            self._given.extend(self._result)
            return Report.decode(ray.get(self._given.pop()))

    def value(self, number: int) -> Any:
        with self._lock:
            while len(self._given) <= number:
                given = next(self._result, None)
                if given is None:
                    raise LookupError(f"The value {number} of the call {self.name} was lost with its worker.")
                self._given.append(given)
            # Held by whoever asked from now on, and by nobody else: each value goes as soon as it is let go.
            reference, self._given[number] = self._given[number], None
            return reference

    def look_at_errors(self) -> None:
        with self._lock:
            self._given.extend(self._result)
            _look_at([reference for reference in self._given if reference is not None])


def _look_at(references: list[Any]) -> None:
    for reference in references:
        try:
            ray.get(reference, timeout=0)
        except Exception as error:
            forget_frames(error)


def forget_frames(error: BaseException) -> None:
    """Lets go of what an error of Ray's has seen on its way.

    Such an error is a variable of a function that it has come through. So the frames of all these, with the references
    and handles in them, would wait for the garbage collector, and Ray ends a process in which one goes while Ray is
    being left.
    """
    error.__traceback__ = None


class Calls:
    """The calls of one road, and the references to values that are held.

    ``_lock`` guards them: calls come and go in several threads. A call that left values is kept until the last of them
    has been released.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, Call] = {}
        self._leaving: dict[str, tuple[Call, int]] = {}
        self._held: dict[str, Any] = {}

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls[call.name] = call

    def get(self, name: str) -> Call | None:
        with self._lock:
            return self._calls.get(name)

    def end(self, name: str, values: int = 0) -> Call | None:
        """Returns the call that is over, None if it was over before. `values` says how many it leaves."""
        with self._lock:
            call = self._calls.pop(name, None)
            if call is not None and values > call.released:
                self._leaving[name] = (call, values - call.released)
            return call

    def outstanding(self) -> list[Call]:
        with self._lock:
            return list(self._calls.values())

    def reference(self, key: str) -> Any:
        """Returns the reference to a value, held from now on.

        Raises:
            LookupError: There is no such value any more.
        """
        with self._lock:
            held = self._held.get(key)
            name, _, number = key.rpartition("#")
            call = self._calls.get(name) or self._leaving.get(name, (None, 0))[0]
        if held is None:
            if call is None:
                raise LookupError(f"The value {key} is not on the cluster any more.")
            held = call.value(int(number))
            with self._lock:
                self._held[key] = held
        return held

    def key_of(self, reference: str) -> str | None:
        """Returns the key of a value that is held, by the text of Ray's reference to it; None if there is none."""
        with self._lock:
            return next((key for key, held in self._held.items() if held.hex() == reference), None)

    def release(self, key: str) -> None:
        with self._lock:
            self._held.pop(key, None)
            name = key.rpartition("#")[0]
            if name in self._calls:
                self._calls[name].released += 1
            call, values = self._leaving.pop(name, (None, 0))
            if call is not None and values > 1:
                self._leaving[name] = (call, values - 1)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._leaving.clear()
            self._held.clear()
