"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Plan:
    """Sizes and numbers of rounds.

    Attributes:
        name: What the results are called.
        rounds: Rounds of each contender that count, after one that warms up.
        map_sizes: Mapped tasks in a flow.
        calls: Single submits in a round of latency.
        tasks: Tasks of each feature.
        runners: Task runners on which features are measured.
        chain, fan_in: Links of a chain and futures of a fan-in, each in two sizes, to see whether they are linear.
        nested: Subflows of a flow, with a task each, in two sizes.
        streams: Items of a stream, in several sizes, to see whether its memory is constant.
        lines: Log lines in a round, a multiple of 100.
        memory_tasks: Mapped tasks whose resident memory is measured.
        traced_tasks: Mapped tasks whose memory is traced, which is slow.
        processes, commits: Flow processes on one file, and commits of each.
        cluster_items, cluster_single: Mapped no-ops on a cluster, and of those that travel singly.
        cluster_milliseconds: How long the best schedule of tasks that sleep takes.
        cluster_chain: Values of 1 MB that three maps go through.
        all_cluster_cases: Whether every workload is measured on clusters, or one of each kind.
    """

    name: str
    rounds: int
    map_sizes: tuple[int, ...]
    calls: int
    tasks: int
    runners: tuple[str, ...]
    chain: tuple[int, int]
    fan_in: tuple[int, int]
    nested: tuple[int, int]
    streams: tuple[int, ...]
    lines: int
    memory_tasks: int
    traced_tasks: int
    processes: int
    commits: int
    cluster_items: int
    cluster_single: int
    cluster_milliseconds: int
    cluster_chain: int
    all_cluster_cases: bool = True


FULL = Plan(
    name="full",
    rounds=5,
    map_sizes=(1_000, 10_000, 100_000),
    calls=500,
    tasks=1_000,
    runners=("sequential", "concurrent"),
    chain=(1_000, 10_000),
    fan_in=(10_000, 100_000),
    nested=(100, 1_000),
    streams=(10_000, 100_000, 1_000_000),
    lines=10_000,
    memory_tasks=100_000,
    traced_tasks=20_000,
    processes=20,
    commits=100,
    cluster_items=10_000,
    cluster_single=3_000,
    cluster_milliseconds=2_000,
    cluster_chain=1_000,
)

QUICK = Plan(
    name="quick",
    rounds=2,
    map_sizes=(1_000, 10_000),
    calls=100,
    tasks=300,
    runners=("sequential", "concurrent"),
    chain=(200, 1_000),
    fan_in=(1_000, 5_000),
    nested=(50, 200),
    streams=(10_000, 50_000),
    lines=1_000,
    memory_tasks=20_000,
    traced_tasks=5_000,
    processes=6,
    commits=20,
    cluster_items=10_000,
    cluster_single=500,
    cluster_milliseconds=1_000,
    cluster_chain=200,
)

MINIATURE = Plan(
    name="miniature",
    rounds=1,
    map_sizes=(20,),
    calls=5,
    tasks=5,
    runners=("concurrent",),
    chain=(2, 4),
    fan_in=(2, 4),
    nested=(2, 4),
    streams=(20, 40),
    lines=100,
    memory_tasks=200,
    traced_tasks=100,
    processes=2,
    commits=3,
    cluster_items=20,
    cluster_single=5,
    cluster_milliseconds=100,
    cluster_chain=4,
    all_cluster_cases=False,
)

PLANS = {plan.name: plan for plan in (FULL, QUICK, MINIATURE)}
