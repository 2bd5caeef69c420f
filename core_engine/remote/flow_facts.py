"""What tasks on workers can read of their flow run (``core_engine.runtime.flow_run``): it travels with definitions."""

from __future__ import annotations

import io
import pickle
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from core_engine.context import FlowRunContext

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet

# Parameters that take more bytes stay in the flow's process: most tasks never ask for them.
LARGEST_PARAMETERS = 64 * 1024


class FlowRunFacts(NamedTuple):
    """What is known of a flow run on workers, beside its id and names.

    ``parameters`` are pickled, and unpickled when somebody asks; a text says why they stayed in the flow's process.
    """

    tags: tuple[str, ...]
    scheduled_start_time: datetime | None
    parent_flow_run_id: str | None
    parent_deployment_id: str | None
    parameters: bytes | str

    @classmethod
    def of(cls, run_set: RunSet) -> FlowRunFacts:
        """Takes down what there is to know of the flow run of a run set."""
        run = run_set.flow_run
        record = run.record
        context = run_set.context.get(FlowRunContext._variable)
        return cls(
            tuple(sorted(record.tags)),
            run.snapshot().expected_start_time,
            None if run.parent is None else str(run.parent.id),
            None if record.deployment_id is None else str(record.deployment_id),
            _small(record.parameters if context is None else context.parameters),
        )

    def read_parameters(self) -> dict[str, Any]:
        """Returns the flow run's parameters, a copy.

        Raises:
            RuntimeError: They did not travel; the message says why, and what to do.
        """
        if isinstance(self.parameters, str):
            raise RuntimeError(
                f"The parameters of the flow run are not known on this worker: {self.parameters}. "
                "Pass what the task needs of them as a parameter of its own."
            )
        parameters: dict[str, Any] = pickle.loads(self.parameters)
        return parameters


class _TooLarge(Exception):
    """More was written than may travel."""


class _SmallFile(io.BytesIO):
    def write(self, content: Any, /) -> int:
        if self.tell() + memoryview(content).nbytes > LARGEST_PARAMETERS:
            raise _TooLarge
        return super().write(content)


def _small(parameters: dict[str, Any]) -> bytes | str:
    """Returns parameters pickled, or why they cannot travel; what is large is not pickled to its end."""
    file = _SmallFile()
    try:
        cloudpickle.Pickler(file, protocol=5).dump(dict(parameters))
    except _TooLarge:
        return f"they take more than {LARGEST_PARAMETERS // 1024} KiB"
    except Exception as error:
        return f"they cannot be pickled ({type(error).__name__}: {error})"
    return file.getvalue()
