"""TASK-MAP: mapping a task over iterables."""

import io
import itertools
import logging
import threading
from typing import Any

import pytest

from core_engine import State, TaskFuture, allow_failure, flow, quote, task, unmapped
from core_engine.engine import task_calls
from core_engine.exceptions import MappingLengthMismatch, MappingMissingIterable
from core_engine.task_runners import BaseTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import input_ids, read_task_run, until_set, wait_until_set


class CustomError(Exception):
    pass


@task
def add(x: Any, y: Any = 10) -> Any:
    return x + y


@task
def show(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


@task
def pair(x: Any, y: Any = None) -> Any:
    return x, y


@task
def give(x: Any) -> Any:
    return x


@task
def fail(x: Any = None) -> None:
    raise CustomError("no")


def results(futures: list[TaskFuture]) -> list[Any]:
    assert type(futures) is list
    return [future.result() for future in futures]


@pytest.mark.behaviour("TASK-MAP-1", "D8")
def test_map_calls_once_per_position_and_returns_futures_in_order(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    def parent():
        futures = add.map([1, 2, 3])
        assert all(isinstance(future, TaskFuture) for future in futures)
        return results(futures)

    assert parent() == [11, 12, 13]


@pytest.mark.behaviour("TASK-MAP-1")
def test_map_with_return_state_gives_states_in_order():
    @flow
    def parent():
        states = add.map([1, 2], return_state=True)
        assert type(states) is list
        assert all(isinstance(state, State) for state in states)
        return [state.result() for state in states]

    assert parent() == [11, 12]


@pytest.mark.behaviour("TASK-MAP-1")
def test_a_large_map_keeps_its_order():
    @flow
    def parent():
        return results(add.map(range(2000)))

    assert parent() == [i + 10 for i in range(2000)]


@pytest.mark.behaviour("TASK-MAP-2")
@pytest.mark.parametrize(
    "make",
    [
        lambda: [1, 2],
        lambda: (1, 2),
        lambda: (i for i in (1, 2)),
        lambda: range(1, 3),
        lambda: {1: "a", 2: "b"}.keys(),
        lambda: give.submit([1, 2]),
        lambda: give([1, 2], return_state=True),
        lambda: allow_failure([1, 2]),
        lambda: quote([1, 2]),
    ],
    ids=["list", "tuple", "generator", "range", "keys", "future", "state", "allow_failure", "quote"],
)
def test_map_takes_any_iterable_and_results_that_are_iterable(make: Any):
    @flow
    def parent():
        return results(add.map(make()))

    assert parent() == [11, 12]


@pytest.mark.behaviour("TASK-MAP-2")
def test_map_takes_the_state_of_a_subflow():
    @flow
    def child():
        return [1, 2]

    @flow
    def parent():
        return results(add.map(child(return_state=True)))

    assert parent() == [11, 12]


@pytest.mark.behaviour("TASK-MAP-2")
def test_a_future_inside_allow_failure_is_not_opened():
    @flow
    def parent():
        return results(pair.map([1, 2], allow_failure(give.submit([7, 8, 9]))))

    assert parent() == [(1, [7, 8, 9]), (2, [7, 8, 9])]


@pytest.mark.behaviour("TASK-MAP-3")
@pytest.mark.parametrize(
    "value", ["text", b"bytes", 5, None, io.StringIO("a file")], ids=["str", "bytes", "int", "none", "file"]
)
def test_texts_files_and_single_values_are_the_same_for_every_child(value: Any):
    @flow
    def parent():
        return results(pair.map([1, 2], value))

    assert parent() == [(1, value), (2, value)]


@pytest.mark.behaviour("TASK-MAP-4")
def test_several_iterables_go_in_step():
    @flow
    def parent():
        return results(add.map([1, 2], (10, 20)))

    assert parent() == [11, 22]


@pytest.mark.behaviour("TASK-MAP-4")
def test_unequal_lengths_are_an_error_with_each_length():
    @flow
    def parent():
        add.map([1, 2], [1, 2, 3])

    with pytest.raises(MappingLengthMismatch, match=r"(?s)x.*2.*y.*3"):
        parent()


@pytest.mark.behaviour("TASK-MAP-5")
def test_a_map_without_an_iterable_is_an_error():
    @flow
    def parent():
        add.map(1, 2)

    with pytest.raises(MappingMissingIterable):
        parent()


@pytest.mark.behaviour("TASK-MAP-6")
@pytest.mark.parametrize("value", [[1, 2, 3], 5, (), "text"], ids=repr)
def test_an_unmapped_value_goes_whole_to_each_child(value: Any):
    @flow
    def parent():
        return results(pair.map([1, 2], unmapped(value)))

    assert parent() == [(1, value), (2, value)]


@pytest.mark.behaviour("TASK-MAP-6")
def test_an_unmapped_future_goes_whole_to_each_child():
    @flow
    def parent():
        return results(pair.map([1, 2], unmapped(give.submit([7, 8, 9]))))

    assert parent() == [(1, [7, 8, 9]), (2, [7, 8, 9])]


@pytest.mark.behaviour("TASK-MAP-7")
def test_defaults_are_never_mapped():
    @task
    def with_default(x, y=(1, 2, 3)):
        return x, y

    @flow
    def parent():
        return results(with_default.map([1, 2]))

    assert parent() == [(1, (1, 2, 3)), (2, (1, 2, 3))]


@pytest.mark.behaviour("TASK-MAP-8")
def test_variadic_keywords_are_mapped_if_iterable_and_repeated_otherwise():
    @flow
    def parent():
        return results(show.map(a=[1, 2], b=5, c=unmapped([7])))

    assert parent() == [((), {"a": 1, "b": 5, "c": [7]}), ((), {"a": 2, "b": 5, "c": [7]})]


@pytest.mark.behaviour("TASK-MAP-9")
def test_an_empty_iterable_gives_an_empty_list():
    @flow
    def parent():
        return [add.map([]), add.map([], return_state=True)]

    assert parent() == [[], []]


@pytest.mark.behaviour("TASK-MAP-9")
def test_quote_does_not_stop_an_iterable_from_being_mapped_and_a_quoted_value_is_repeated():
    @flow
    def parent():
        return results(pair.map(quote([1, 2]), quote(5)))

    assert parent() == [(1, 5), (2, 5)]


@pytest.mark.behaviour("TASK-MAP-10")
def test_a_mapped_future_that_did_not_complete_makes_map_raise():
    reached = []

    @flow
    def parent():
        add.map(fail.submit())
        reached.append("went on")

    state = parent(return_state=True)

    assert state.is_failed()
    assert reached == []


@pytest.mark.behaviour("TASK-MAP-10")
def test_a_mapped_future_is_resolved_one_level_only():
    @flow
    def parent():
        inner = give.submit([7, 8])
        return results(give.map(give.submit([1, 2]))), results(give.map([inner, 5]))

    assert parent() == ([1, 2], [[7, 8], 5])


@pytest.mark.behaviour("TASK-MAP-11")
def test_futures_inside_a_mapped_list_let_children_start_independently():
    slow, quick_done = threading.Event(), threading.Event()

    @task
    def upstream(waits):
        if waits:
            wait_until_set(slow)
        return waits

    @task
    def downstream(waits):
        if not waits:
            quick_done.set()
        return waits

    @flow
    def parent():
        futures = downstream.map([upstream.submit(True), upstream.submit(False)])
        wait_until_set(quick_done)
        slow.set()
        return results(futures)

    assert parent() == [True, False]


@pytest.mark.behaviour("TASK-MAP-11", "UP-4")
def test_a_failed_element_stops_only_its_own_child():
    @flow
    def parent():
        states = give.map([give.submit(1), fail.submit(), give.submit(3)], return_state=True)
        return [state.name for state in states]

    assert parent() == ["Completed", "NotReady", "Completed"]


@pytest.mark.behaviour("TASK-MAP-12")
def test_allow_failure_around_a_list_gives_exceptions_for_failed_elements():
    @task
    def kind(x):
        return type(x).__name__

    @flow
    def parent():
        return results(kind.map(allow_failure([give.submit(1), fail.submit(), give.submit(2)])))

    assert parent() == ["int", "CustomError", "int"]


@pytest.mark.behaviour("TASK-MAP-12")
def test_allow_failure_of_one_failed_upstream_is_repeated_to_all():
    @task
    def kinds(x, y):
        return x, type(y).__name__

    @flow
    def parent():
        return results(kinds.map([1, 2], allow_failure(fail.submit())))

    assert parent() == [(1, "CustomError"), (2, "CustomError")]


@pytest.mark.behaviour("TASK-MAP-13")
def test_children_name_their_upstreams():
    @task
    def child(x, static, listed):
        return 1

    @flow
    def parent():
        whole, static = give.submit([1, 2]), give.submit("s")
        elements = [give.submit("a"), give.submit("b")]
        futures = child.map(whole, static, [elements[0], {"deep": [elements[1]]}])
        return [whole, static, *elements, *futures]

    states = parent(return_state=True).result()
    whole, static, *elements = (state.state_details.task_run_id for state in states[:4])

    for position, state in enumerate(states[4:]):
        inputs = input_ids(read_task_run(state))
        assert inputs["x"] == [whole]
        assert inputs["static"] == [static]
        assert inputs["listed"] == [elements[position]]


@pytest.mark.behaviour("TASK-MAP-14")
def test_wait_for_applies_to_every_child():
    release, order = threading.Event(), []

    @task
    def first():
        wait_until_set(release)
        order.append("upstream")

    @task
    def child(x):
        order.append(x)
        return x

    @flow
    def parent():
        upstream = first.submit()
        futures = child.map([1, 2], wait_for=[upstream])
        release.set()
        return [upstream, *futures]

    upstream, *children = parent(return_state=True).result()

    assert order[0] == "upstream"
    assert sorted(order[1:]) == [1, 2]
    for state in children:
        assert input_ids(read_task_run(state))["wait_for"] == [upstream.state_details.task_run_id]


@pytest.mark.behaviour("TASK-MAP-14")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_children_run_strictly_in_order_on_a_sequential_runner(is_async: bool):
    order = []

    @task
    def child(x):
        order.append(f"{x} starts")
        order.append(f"{x} ends")

    @task
    async def async_child(x):
        import anyio

        order.append(f"{x} starts")
        await anyio.lowlevel.checkpoint()
        order.append(f"{x} ends")

    @flow(task_runner=SequentialTaskRunner())
    def parent():
        (async_child if is_async else child).map(range(3))
        return 1

    parent()

    assert order == [f"{x} {what}" for x in range(3) for what in ("starts", "ends")]


@pytest.mark.behaviour("TASK-MAP-14", "D15")
def test_children_overlap_on_a_concurrent_runner():
    barrier = threading.Barrier(4)

    @task
    def meet(x):
        barrier.wait(10)
        return x

    @flow
    def parent():
        return results(meet.map(range(4)))

    assert parent() == [0, 1, 2, 3]


@pytest.mark.behaviour("TASK-MAP-14")
def test_async_children_overlap_on_a_concurrent_runner():
    events = threading.Event(), threading.Event()

    @task
    async def meet(mine):
        events[mine].set()
        await until_set(*events)
        return mine

    @flow
    def parent():
        return results(meet.map([0, 1]))

    assert parent() == [0, 1]


@pytest.mark.behaviour("D15")
def test_children_that_wait_for_each_other_after_many_tiny_ones_overlap():
    barrier = threading.Barrier(8)

    @task
    def meet(i):
        if i >= 1000:
            barrier.wait(10)
        return i

    @flow
    def parent():
        return sum(results(meet.map(range(1008))))

    assert parent() == sum(range(1008))


@pytest.mark.behaviour("D8")
def test_map_and_submit_leave_all_other_keywords_to_the_users_parameters():
    @task
    def mine(batch_size, window, max_failures, on_failure, ordered, map_options):
        return batch_size, window, max_failures, on_failure, ordered, map_options

    @flow
    def parent():
        names = ["batch_size", "window", "max_failures", "on_failure", "ordered", "map_options"]
        mapped = mine.map(**{name: [i, i] for i, name in enumerate(names)})
        return results(mapped), mine.submit(**{name: i for i, name in enumerate(names)}).result()

    assert parent() == ([tuple(range(6))] * 2, tuple(range(6)))


@pytest.mark.behaviour("D8")
def test_map_options_are_options_of_the_task():
    from core_engine.tasks import MapOptions

    @flow
    def parent():
        return results(add.with_options(map_options=MapOptions(batch_size=1)).map([1, 2]))

    assert parent() == [11, 12]


@pytest.mark.behaviour("D8")
def test_a_stream_yields_finished_futures_in_input_order():
    @flow
    def parent():
        return [(future.state.name, future.result()) for future in add.stream(i for i in range(50))]

    assert parent() == [("Completed", i + 10) for i in range(50)]


@pytest.mark.behaviour("D8")
def test_a_stream_reads_its_input_in_a_window():
    from core_engine.tasks import MapOptions

    read = []

    def endless():
        i = 0
        while True:
            read.append(i)
            yield i
            i += 1

    @flow
    def parent():
        found = []
        for future in add.with_options(map_options=MapOptions(window=10)).stream(endless()):
            found.append(future.result())
            if len(found) == 30:
                return found

    assert parent() == [i + 10 for i in range(30)]
    assert len(read) <= 100


@pytest.mark.behaviour("D9", "TASK-CALL-10")
def test_a_map_reserves_its_indices_and_later_calls_count_on():
    @flow
    def parent():
        return [*add.map([1, 2, 3], return_state=True), add(4, return_state=True)]

    states = parent(return_state=True).result()

    assert [read_task_run(state).dynamic_key for state in states] == ["0", "1", "2", "3"]


@pytest.mark.behaviour("D9", "TASK-CALL-10")
def test_a_stream_counts_for_itself():
    @flow
    def parent():
        streamed = [list(add.stream([1, 2])), list(add.stream([3]))]
        return [*itertools.chain(*streamed), add.submit(4)]

    runs = [read_task_run(state) for state in parent(return_state=True).result()]

    assert [run.dynamic_key for run in runs] == ["0", "1", "0", "0"]
    assert [run.task_key.partition("#")[2] for run in runs] == ["stream-0", "stream-0", "stream-1", ""]


def test_a_map_of_one_is_told_as_one_task_run(log: LogRecords):
    flow(lambda: results(give.map([1])))()

    assert "Created task run 'give-0' for task 'give'" in log.messages()


@pytest.mark.parametrize(
    "endless",
    [itertools.count(), itertools.cycle([1, 2]), itertools.repeat(1)],
    ids=lambda endless: type(endless).__name__,
)
def test_an_iterator_without_an_end_is_an_error_that_names_the_stream(endless: Any):
    @task
    def takes(x):
        raise AssertionError("it must not run")

    @flow
    def parent():
        with pytest.raises(ValueError, match=r"'x'.*task\.stream"):
            takes.map(endless)
        return 1

    assert parent() == 1


def test_a_repeat_with_an_end_is_mapped_over():
    @task
    def takes(x):
        return x

    @flow
    def parent():
        return [future.result() for future in takes.map(itertools.repeat(7, 3))]

    assert parent() == [7, 7, 7]


def test_reading_very_many_values_warns_and_too_many_is_an_error(monkeypatch: pytest.MonkeyPatch, log: LogRecords):
    monkeypatch.setattr(task_calls, "MANY_READ", 10)
    monkeypatch.setattr(task_calls, "MOST_READ", 20)
    read = []

    def numbers(count):
        for number in range(count):
            read.append(number)
            yield number

    @task
    def takes(x):
        return x

    @flow
    def parent():
        assert len(takes.map(numbers(9))) == 9
        assert not any("task.stream" in line for line in log.messages(logging.WARNING))
        assert len(takes.map(numbers(20))) == 20
        assert any("10 values were read from the iterator given for 'x'" in line for line in log.messages())
        read.clear()
        with pytest.raises(ValueError, match=r"'x' has more than 20 values.*task\.stream"):
            takes.map(numbers(1_000))
        return len(read)

    assert parent() == 21
