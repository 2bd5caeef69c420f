"""Before a call is recorded: can its task and its first run be sent? If not, the error is raised where the user calls.

Later runs of a map are pickled when they are sent; one that cannot be then is Crashed with the same error.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core_engine.engine.inputs import HANDLES, holds_handles
from core_engine.remote.shipment import PLAIN, Pickler, register_scripts
from core_engine.remote.values import unpicklable

if TYPE_CHECKING:
    from core_engine.tasks import Task


class Preflight:
    """Checks the calls of one runner. Any thread may use it: a task that is checked twice is only checked twice."""

    def __init__(self) -> None:
        # By id, with a reference that tells whether it is still the same object: tasks are compared by what they hold.
        self._checked: dict[int, weakref.ref[Any]] = {}

    def check(self, task: Task[..., Any], parameters: Mapping[str, Any]) -> None:
        """Checks a task, once, and the parameters of a run.

        Raises:
            SerializationError: One cannot be pickled; the message names it, and the part that cannot.
        """
        known = self._checked.get(id(task))
        if known is None or known() is not task:
            _check(task, f"task {task.name!r}")
            self._remember(task)
        for name, value in parameters.items():
            if type(value) not in PLAIN:
                _check(value, f"parameter {name!r}")

    def _remember(self, task: Task[..., Any]) -> None:
        key = id(task)

        def forget(reference: weakref.ref[Any]) -> None:
            if self._checked.get(key) is reference:
                del self._checked[key]

        self._checked[key] = weakref.ref(task, forget)


def _check(value: Any, name: str) -> None:
    has_handles = holds_handles(value)
    try:
        pickler = _HandlePickler(_Nowhere()) if has_handles else pickle.Pickler(_Nowhere(), 5, buffer_callback=_drop)
        pickler.dump(value)
        return
    except Exception:  # what plain pickle cannot do cloudpickle may; user code may raise anything while it is pickled
        register_scripts()
    try:
        _ByValuePickler(_Nowhere()).dump(value)
    except Exception as error:
        raise unpicklable(_without_handles(value) if has_handles else value, name, error) from error


def _drop(buffer: pickle.PickleBuffer) -> None:
    """Large buffers are not copied, since nobody reads them."""


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, content: bytes) -> int:
        return len(content)


class _HandlePickler(pickle.Pickler):
    """Passes over futures and states, which are replaced by values when a run is sent."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, 5, buffer_callback=_drop)

    def persistent_id(self, obj: Any) -> Any:
        return "handle" if isinstance(obj, HANDLES) else None


class _ByValuePickler(Pickler):
    """The pickler of what is sent, passing over futures and states."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)

    def persistent_id(self, obj: Any) -> Any:
        return "handle" if isinstance(obj, HANDLES) else super().persistent_id(obj)


def _without_handles(value: Any) -> Any:
    from core_engine.utilities.handles import resolve

    return resolve(value, HANDLES, lambda handle, annotations: None)
