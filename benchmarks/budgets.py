"""What the figures are held against: the budgets that the design set, before anything was built."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Budget:
    """A bound for one figure.

    Attributes:
        figure: Its name.
        target: Where it should be.
        unacceptable: Above this the figure is a defect.
        floor: What is practically possible; None: not known.
        least_size: With fewer tasks, calls or lines the figure says nothing: what a flow costs once outweighs them.
    """

    figure: str
    target: float
    unacceptable: float
    floor: float | None = None
    least_size: int = 0

    def verdict(self, value: float) -> str:
        """Says how far `value` is from the target."""
        if value > self.unacceptable:
            return f"UNACCEPTABLE, {value / self.target:.1f} x target"
        if value <= self.target:
            return "met"
        return f"{value / self.target:.1f} x target"


_SUBMIT = (Budget("p50_x", 1.0, 5.0, least_size=100), Budget("p99_x", 1.0, 5.0, least_size=500))
_MEMORY = (
    Budget("resident_bytes", 500, 2_000, floor=260, least_size=10_000),
    Budget("traced_bytes", 500, 2_000, floor=260, least_size=10_000),
)


def _on_clusters(row: str, *budgets: Budget) -> dict[tuple[str, str], tuple[Budget, ...]]:
    return {("dask", row): budgets, ("ray", row): budgets}


# By section and row.
BUDGETS: dict[tuple[str, str], tuple[Budget, ...]] = {
    ("mapped", "sequential"): (Budget("cpu_us", 25, 100, floor=9, least_size=1_000),),
    ("mapped", "concurrent, threads"): (Budget("cpu_us", 35, 150, floor=20, least_size=1_000),),
    ("mapped", "concurrent, async"): (Budget("cpu_us", 40, 150, floor=14, least_size=1_000),),
    ("latency", "sequential"): _SUBMIT,
    ("latency", "concurrent, threads"): _SUBMIT,
    ("latency", "concurrent, async"): _SUBMIT,
    ("logs", "stored"): (Budget("cpu_us", 15, 50, floor=10, least_size=1_000),),
    ("memory", "pending, futures held"): _MEMORY,
    ("memory", "finished, futures held"): _MEMORY,
    ("memory", "finished, futures dropped"): _MEMORY,
    # Tiny tasks: three times the bare engine's rate; never slower than it.
    **_on_clusters("identities: recorded", Budget("x_bare", 0.33, 1.0, least_size=1_000)),
    **_on_clusters("identities, singly: recorded", Budget("x_bare", 1.5, 1.5, least_size=500)),
    **_on_clusters("100 ms: recorded", Budget("x_bare", 1.02, 1.1, least_size=20)),
    **{
        key: budgets
        for kind in ("log-normal, 20 ms", "2 ms, one in a hundred 100 ms")
        for key, budgets in _on_clusters(f"{kind}: recorded", Budget("x_unpacked", 1.05, 1.1, least_size=50)).items()
    },
    **_on_clusters("chain of maps: recorded", Budget("share_received", 1.0, 5.0, least_size=100)),
    ("start", "import core_engine"): (Budget("seconds", 0.15, 0.3),),
    ("start", "core-engine --help"): (Budget("seconds", 0.25, 0.5),),
    ("start", "trivial flow"): (Budget("seconds", 0.5, 1.5),),
}


def budgets_of(section: str, row: str, size: int | None) -> tuple[Budget, ...]:
    """Returns the budgets of a row; none where no target was set, or where the size is too small for one."""
    budgets = BUDGETS.get((section, row), ())
    return tuple(budget for budget in budgets if size is None or size >= budget.least_size)
