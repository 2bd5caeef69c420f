"""What a task takes of its worker reaches the runner, which gives it to the cluster."""

from typing import Any

import pytest

from core_engine import flow, task
from core_engine.remote import Block
from tests.support.loopback import LoopbackCluster, LoopbackRunner


class Noting(LoopbackRunner):
    """Gives the resources of tasks as the annotations of blocks."""

    def _annotations(self, resources: Any) -> Any:
        return dict(resources)


def test_each_block_is_given_the_resources_of_its_task(cluster: LoopbackCluster, monkeypatch: Any) -> None:
    given = []
    send = cluster.send

    def note(block: Block, done: Any) -> None:
        given.append((block.name.partition("-")[0], block.annotations))
        send(block, done)

    monkeypatch.setattr(cluster, "send", note)

    @task(resources={"GPU": 1, "licence": 0.5})
    def needs() -> int:
        return 1

    @task
    def takes_nothing() -> int:
        return 2

    @flow(task_runner=Noting.of(cluster))
    def outer() -> int:
        less = needs.with_options(resources=None)
        return sum(future.result() for future in (needs.submit(), takes_nothing.submit(), less.submit()))

    assert outer() == 4
    expected = [("needs", {}), ("needs", {"GPU": 1, "licence": 0.5}), ("takes_nothing", {})]
    assert sorted(given, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_runners_in_the_flows_process_take_no_notice(runner: str) -> None:
    @task(resources={"GPU": 1_000})
    def needs() -> int:
        return 1

    @flow(task_runner=runner)
    def outer() -> int:
        return needs.submit().result()

    assert outer() == 1


@pytest.mark.parametrize(
    ("resources", "error", "message"),
    [
        (["GPU"], TypeError, "mapping such as .*not list"),
        ({1: 1}, TypeError, "named by a string, not 1"),
        ({"": 1}, TypeError, "named by a string"),
        ({"GPU": "1"}, TypeError, "'GPU' must be a number, not '1'"),
        ({"GPU": True}, TypeError, "'GPU' must be a number, not True"),
        ({"GPU": 0}, ValueError, "'GPU' must be above 0, not 0"),
        ({"GPU": float("inf")}, ValueError, "'GPU' must be above 0"),
    ],
)
def test_resources_are_checked_where_the_task_is_defined(resources: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):

        @task(resources=resources)
        def needs() -> None: ...


def test_options_keep_resources_that_are_not_given() -> None:
    @task(resources={"GPU": 1})
    def needs() -> None: ...

    assert needs.with_options(retries=1).resources == {"GPU": 1}
    assert needs.with_options(resources={"GPU": 2}).resources == {"GPU": 2}
    assert needs.with_options(resources={}).resources is None
