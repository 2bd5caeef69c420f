"""How a map or stream of a task is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core_engine.option_checks import check_count, check_flag

OnFailure = Literal["continue", "drain", "cancel"]


@dataclass(slots=True, frozen=True)
class MapOptions:
    """Options of a task's `map` and `stream`, given as ``@task(map_options=...)`` or with ``with_options``.

    Parameters:
        batch_size: How many tiny items a worker in another process gets at once; None: sized from measured run times;
            1: never more than one. Runners in the flow's process hand over single items and do not need it.
        window: How many items of a stream are read ahead of what has been yielded; None: 1,000. A map is given whole.
        max_failures: How many runs of a map may fail or crash before `on_failure` acts; None: any number.
        on_failure: What then happens: "continue" goes on, "drain" starts no more, "cancel" also cancels what runs.
            Runs that never start are recorded as Cancelled.
        ordered: Whether a stream yields futures in the order of its input, rather than as they end.

    Raises:
        TypeError: A number is no whole number, or `ordered` neither True nor False.
        ValueError: A number is out of range, or `on_failure` is none of the three.
    """

    batch_size: int | None = None
    window: int | None = None
    max_failures: int | None = None
    on_failure: OnFailure = "drain"
    ordered: bool = True

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("window", 1), ("max_failures", 0)):
            value = getattr(self, name)
            if value is not None:
                check_count(value, f"MapOptions.{name}", least)
        check_flag(self.ordered, "MapOptions.ordered", may_be_none=False)
        if self.on_failure not in ("continue", "drain", "cancel"):
            raise ValueError(f"MapOptions.on_failure must be 'continue', 'drain' or 'cancel', not {self.on_failure!r}.")
