"""STATE: states as values, and what their results are."""

import datetime
import inspect
import warnings
from typing import Any

import pytest

from core_engine import State, allow_failure, flow, quote, states, task
from core_engine.exceptions import CancelledRun, CrashedRun, FailedRun, MissingResult, PausedRun, UnfinishedRun
from core_engine.schemas.states import StateDetails, StateType
from core_engine.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
)
from tests.behaviours.helpers import read_states, setting, stored_flow_state, stored_task_state

NOW = datetime.datetime.now(datetime.UTC)


class CustomError(Exception):
    pass


class CustomBaseError(BaseException):
    pass


@pytest.mark.behaviour("STATE-1")
def test_there_are_nine_types():
    assert {type_.value for type_ in StateType} == {
        "SCHEDULED",
        "PENDING",
        "RUNNING",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "CRASHED",
        "PAUSED",
        "CANCELLING",
    }


@pytest.mark.behaviour("STATE-2")
@pytest.mark.parametrize("type_", StateType)
def test_each_test_of_a_state_is_about_its_type(type_: StateType):
    state = State(type=type_, name="Any name")
    true = {other.value.lower() for other in StateType if getattr(state, f"is_{other.value.lower()}")()}

    assert true == {type_.value.lower()}
    assert state.is_final() is (type_.value in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})


@pytest.mark.behaviour("STATE-3")
def test_the_name_defaults_to_the_capitalised_type_and_a_custom_one_keeps_the_type():
    assert State(type=StateType.RUNNING).name == "Running"
    custom = State(type=StateType.RUNNING, name="Walking")
    assert custom.name == "Walking"
    assert custom.is_running()


@pytest.mark.behaviour("STATE-4")
@pytest.mark.parametrize(
    ("make", "type_", "name"),
    [
        (Scheduled, "SCHEDULED", "Scheduled"),
        (Pending, "PENDING", "Pending"),
        (Running, "RUNNING", "Running"),
        (Completed, "COMPLETED", "Completed"),
        (Failed, "FAILED", "Failed"),
        (Crashed, "CRASHED", "Crashed"),
        (Cancelling, "CANCELLING", "Cancelling"),
        (Cancelled, "CANCELLED", "Cancelled"),
        (Paused, "PAUSED", "Paused"),
        (AwaitingRetry, "SCHEDULED", "AwaitingRetry"),
        (Late, "SCHEDULED", "Late"),
        (Retrying, "RUNNING", "Retrying"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_constructor_makes_its_type_and_takes_the_common_arguments(make: Any, type_: str, name: str):
    details = StateDetails(cache_key="key")
    full = make(message="words", data="data", name="Own", state_details=details)

    assert isinstance(make(), State)
    assert (make().type.value, make().name) == (type_, name)
    assert (full.type.value, full.name, full.message, full.data) == (type_, "Own", "words", "data")
    assert full.state_details.cache_key == "key"


@pytest.mark.behaviour("STATE-5")
def test_a_scheduled_state_without_a_time_is_due_now():
    due = Scheduled().state_details.scheduled_time

    assert abs(due - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=10)
    assert Scheduled(scheduled_time=NOW).state_details.scheduled_time == NOW


@pytest.mark.behaviour("STATE-5")
def test_a_scheduled_time_given_twice_is_a_value_error():
    with pytest.raises(ValueError, match="scheduled_time"):
        Scheduled(scheduled_time=NOW, state_details=StateDetails(scheduled_time=NOW))


@pytest.mark.behaviour("STATE-5")
def test_a_paused_state_takes_a_limit_a_mode_and_a_key():
    state = Paused(timeout_seconds=60, reschedule=True, pause_key="key")
    at = Paused(pause_expiration_time=NOW)

    limit = state.state_details.pause_timeout - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(seconds=50) < limit <= datetime.timedelta(seconds=60)
    assert state.state_details.pause_reschedule is True
    assert state.state_details.pause_key == "key"
    assert at.state_details.pause_timeout == NOW


@pytest.mark.behaviour("STATE-5")
def test_contradicting_limits_of_a_pause_are_a_value_error():
    with pytest.raises(ValueError, match="timeout|expiration"):
        Paused(timeout_seconds=60, pause_expiration_time=NOW)
    with pytest.raises(ValueError, match="timeout"):
        Paused(state_details=StateDetails(pause_timeout=NOW))


@pytest.mark.behaviour("STATE-6")
def test_the_details_have_their_fields():
    details = StateDetails()
    expected = ["flow_run_id", "task_run_id", "child_flow_run_id", "scheduled_time", "cache_key", "cache_expiration"]

    assert [getattr(details, name) for name in [*expected, "refresh_cache", "pause_timeout", "pause_key"]] == [None] * 9
    assert (details.untrackable_result, details.pause_reschedule) == (False, False)


@pytest.mark.behaviour("STATE-7")
def test_the_result_of_a_completed_state_is_its_data():
    assert Completed(data="x").result() == "x"
    assert Completed(data="x").result(raise_on_failure=False) == "x"


@pytest.mark.behaviour("STATE-7", "STATE-10")
@pytest.mark.parametrize("make", [Failed, Crashed, Cancelled])
@pytest.mark.parametrize("exception", [CustomError("a"), CustomBaseError("b")], ids=["exception", "base exception"])
def test_the_result_of_a_bad_state_is_raised_or_returned(make: Any, exception: BaseException):
    state = make(data=exception)

    with pytest.raises(type(exception)) as caught:
        state.result()
    assert caught.value is exception
    assert state.result(raise_on_failure=False) is exception


@pytest.mark.behaviour("STATE-8")
@pytest.mark.parametrize("make", [Pending, Running, Scheduled, Cancelling])
@pytest.mark.parametrize("raise_on_failure", [True, False])
@pytest.mark.parametrize("data", [None, "data"])
def test_the_result_of_an_unfinished_state_raises_unfinished_run(make: Any, raise_on_failure: bool, data: Any):
    state = make(data=data)

    with pytest.raises(UnfinishedRun, match=state.type.value):
        state.result(raise_on_failure=raise_on_failure)


@pytest.mark.behaviour("STATE-8")
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_the_result_of_a_paused_state_raises_paused_run(raise_on_failure: bool):
    with pytest.raises(PausedRun, match="result"):
        Paused(data="data").result(raise_on_failure=raise_on_failure)


@pytest.mark.behaviour("STATE-9")
def test_a_completed_state_without_data_raises_missing_result_that_mentions_persistence():
    @task
    def give():
        return "x"

    @flow
    def parent():
        return give(return_state=True)

    state = parent(return_state=True)

    for stored in (stored_flow_state(state), stored_task_state(state.result())):
        with pytest.raises(MissingResult, match="persist"):
            stored.result()


WRAPPERS = [(Failed, FailedRun), (Crashed, CrashedRun), (Cancelled, CancelledRun)]


@pytest.mark.behaviour("STATE-10")
@pytest.mark.parametrize(("make", "wrapper"), WRAPPERS)
def test_text_as_data_of_a_bad_state_is_wrapped(make: Any, wrapper: type[Exception]):
    with pytest.raises(wrapper, match="my text"):
        make(data="my text").result()


@pytest.mark.behaviour("STATE-10")
@pytest.mark.parametrize(("make", "wrapper"), WRAPPERS)
def test_a_bad_state_without_data_raises_its_message_or_a_default_text(make: Any, wrapper: type[Exception]):
    with pytest.raises(wrapper, match="my message"):
        make(message="my message").result()
    with pytest.raises(wrapper) as caught:
        make().result()
    assert str(caught.value)


@pytest.mark.behaviour("STATE-11")
def test_a_state_as_data_gives_the_exception_of_that_state():
    with pytest.raises(CustomError, match="inner"):
        Failed(data=Failed(data=CustomError("inner"))).result()
    with pytest.raises(ValueError, match=r"(?i)completed"):
        Failed(data=Completed(data=1)).result()


@pytest.mark.behaviour("STATE-11")
@pytest.mark.parametrize("container", [list, tuple, set])
def test_states_as_data_give_the_exception_of_a_bad_one(container: Any):
    with pytest.raises(CustomError, match="inner"):
        Failed(data=container([Completed(data=1), Failed(data=CustomError("inner"))])).result()
    with pytest.raises(ValueError, match="."):
        Failed(data=container([Completed(data=1)])).result()


@pytest.mark.behaviour("STATE-11")
def test_the_first_bad_state_decides():
    with pytest.raises(CustomError, match="first"):
        Failed(data=[Failed(data=CustomError("first")), Failed(data=CustomError("second"))]).result()


@pytest.mark.behaviour("STATE-12")
def test_other_data_of_a_bad_state_is_a_type_error_that_names_its_type():
    with pytest.raises(TypeError, match="int"):
        Failed(data=5).result()


@pytest.mark.behaviour("STATE-13")
def test_raise_state_exception_raises_for_bad_states_only():
    for good in (Completed(data=1), Running(), Pending()):
        assert states.raise_state_exception(good) is None
    with pytest.raises(CustomError):
        states.raise_state_exception(Failed(data=CustomError("x")))


@pytest.mark.behaviour("STATE-13")
@pytest.mark.anyio
async def test_raise_state_exception_works_in_async_code():
    async def call(state: State) -> Any:
        answer = states.raise_state_exception(state)
        return await answer if inspect.isawaitable(answer) else answer

    assert await call(Completed(data=1)) is None
    with pytest.raises(CustomError):
        await call(Failed(data=CustomError("x")))


@flow
async def gives_a_value() -> str:
    return "x"


@flow
async def gives_nothing_good() -> str:
    raise CustomError("no")


@pytest.mark.behaviour("STATE-14")
@pytest.mark.anyio
async def test_async_code_awaits_the_result():
    good, bad = await gives_a_value(return_state=True), await gives_nothing_good(return_state=True)

    assert await good.result(fetch=True) == "x"
    with pytest.raises(CustomError):
        await bad.result(fetch=True)
    assert isinstance(await bad.result(raise_on_failure=False, fetch=True), CustomError)


@pytest.mark.behaviour("STATE-14")
@pytest.mark.anyio
async def test_async_code_that_forgets_to_await_gets_the_record_and_a_warning():
    state = await gives_a_value(return_state=True)

    with pytest.warns(DeprecationWarning, match="await"):
        record = state.result()
    assert record is state.data
    assert record != "x"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert state.result(fetch=False) is state.data


@pytest.mark.behaviour("STATE-14")
@pytest.mark.anyio
async def test_a_setting_makes_fetching_the_default_in_async_code():
    with setting(ASYNC_FETCH_STATE_RESULT=True):
        state = await gives_a_value(return_state=True)
        assert await state.result() == "x"


@pytest.mark.behaviour("STATE-14")
@pytest.mark.anyio
async def test_sync_code_of_an_async_program_always_fetches():
    @task
    def inside(state):
        return state.result()

    @flow
    async def parent():
        state = await gives_a_value(return_state=True)
        return inside(quote(state))

    assert await parent() == "x"


@pytest.mark.behaviour("STATE-15")
def test_is_state_knows_instances_only():
    assert states.is_state(Completed())
    assert not states.is_state(State)
    assert not states.is_state("Completed")


@pytest.mark.behaviour("STATE-15")
def test_is_state_iterable_knows_collections_of_states_only():
    for good in ([Completed()], (Completed(), Failed()), {Completed()}):
        assert states.is_state_iterable(good)
    for bad in (
        [],
        (),
        set(),
        [Completed(), 1],
        {"a": Completed()},
        quote([Completed()]),
        allow_failure([Completed()]),
        1,
    ):
        assert not states.is_state_iterable(bad)


@pytest.mark.behaviour("STATE-16")
def test_a_group_of_states_counts():
    group = states.StateGroup([Completed(), Failed(), Crashed(), Running()])

    assert group.fail_count == 2
    assert group.any_failed()
    assert not group.any_cancelled()
    assert not group.any_paused()
    assert not group.all_completed()
    assert not group.all_final()
    for part in ("total=4", "not_final=1"):
        name, count = part.split("=")
        assert name.replace("_", " ") in group.counts_message().replace("_", " ").lower()
        assert count in group.counts_message()
    assert states.StateGroup([Completed(), Completed()]).all_completed()
    assert states.StateGroup([Completed(), Cancelled()]).all_final()
    assert states.StateGroup([Cancelled()]).any_cancelled()
    assert states.StateGroup([Paused()]).any_paused()


@pytest.mark.behaviour("STATE-17")
def test_a_state_as_text_shows_name_message_and_an_unusual_type():
    assert str(Completed(message="words")).startswith("Completed")
    assert "words" in str(Completed(message="words"))
    assert "COMPLETED" not in str(Completed(message="words"))
    assert "COMPLETED" in str(Completed(name="Done"))
    assert "my data" in repr(Completed(data="my data"))


@pytest.mark.behaviour("STATE-18")
def test_a_copy_has_a_new_timestamp():
    state = State(type=StateType.COMPLETED, timestamp=NOW - datetime.timedelta(days=1))

    assert state.copy().timestamp > state.timestamp
    assert state.copy().id != state.id


@pytest.mark.behaviour("STATE-18", "PROP-1")
def test_an_accepted_state_has_the_stored_id_timestamp_and_details():
    @task
    def give():
        return 1

    @flow
    def parent():
        return give(return_state=True)

    state = parent(return_state=True)

    for seen, stored in [
        (state, stored_flow_state(state)),
        (state.result(), stored_task_state(state.result())),
    ]:
        assert stored.id == seen.id
        assert stored.timestamp == seen.timestamp
        assert stored.state_details.flow_run_id == seen.state_details.flow_run_id == state.state_details.flow_run_id
        assert stored.state_details.task_run_id == seen.state_details.task_run_id


@pytest.mark.behaviour("STATE-18", "I2")
def test_all_states_of_a_run_have_ids_of_their_own_and_times_in_order():
    @task(retries=1)
    def fails():
        raise CustomError("no")

    @flow
    def parent():
        return fails(return_state=True)

    state = parent(return_state=True).result(raise_on_failure=False)
    history = read_states(state.state_details.task_run_id)

    assert len({one.id for one in history}) == len(history) == 5
    assert [one.timestamp for one in history] == sorted(one.timestamp for one in history)
    assert history[-1].id == state.id


@pytest.mark.behaviour("STATE-19")
def test_the_message_of_a_failed_run_has_type_and_text_of_the_exception():
    @flow
    def parent():
        raise CustomError("what went wrong")

    assert "CustomError: what went wrong" in parent(return_state=True).message
