"""Which lines are stored, with what in them, and what happens when one cannot be."""

import asyncio
import logging
import threading
import time
import warnings
from uuid import uuid4

import pytest

from core_engine.client import get_client
from core_engine.concurrency.loops import engine_loop
from core_engine.exceptions import MissingContextError
from core_engine.logging import LogEntry, flow_run_logger, get_run_logger, task_run_logger
from core_engine.logging.handlers import APILogHandler
from core_engine.schemas.records import FlowRun
from core_engine.settings import temporary_settings
from tests.logging.conftest import RecordingSink, Runs

pytestmark = pytest.mark.usefixtures("api_handler")
plain_logger = logging.getLogger("core_engine.flow_runs")


@pytest.mark.behaviour("LOG-API-1")
def test_lines_of_runs_are_stored_with_ids_logger_level_time_and_text(runs: Runs, sink: RecordingSink) -> None:
    before = time.time()
    with runs.flow() as flow_context:
        get_run_logger().info("in the %s", "flow")
        with runs.task(flow_context.flow_run.id) as task_context:
            get_run_logger().error("in the %s", "task")

    of_flow, of_task = sink.entries
    assert of_flow._replace(timestamp=0) == LogEntry(
        flow_context.flow_run.id, None, "core_engine.flow_runs", 20, 0, "in the flow", None
    )
    assert of_task._replace(timestamp=0) == LogEntry(
        flow_context.flow_run.id, task_context.task_run.id, "core_engine.task_runs", 40, 0, "in the task", None
    )
    assert before <= of_flow.timestamp <= of_task.timestamp <= time.time()


@pytest.mark.behaviour("LOG-API-1")
def test_a_lines_time_is_that_of_its_record_or_now(runs: Runs, sink: RecordingSink, api_handler: APILogHandler) -> None:
    record = logging.makeLogRecord({"msg": "text", "created": 1.5})
    with runs.flow():
        api_handler.emit(record)
        del record.created
        api_handler.emit(record)

    assert sink.entries[0].timestamp == 1.5
    assert abs(sink.entries[1].timestamp - time.time()) < 60


@pytest.mark.behaviour("LOG-8", "LOG-API-1")
def test_a_stored_line_holds_the_traceback(runs: Runs, sink: RecordingSink) -> None:
    with runs.flow():
        try:
            raise ValueError("the reason")
        except ValueError:
            get_run_logger().error("it broke", exc_info=True)

    (message,) = sink.messages
    assert message.startswith("it broke\nTraceback (most recent call last):")
    assert 'raise ValueError("the reason")' in message
    assert message.endswith("ValueError: the reason")


@pytest.mark.behaviour("LOG-API-2")
def test_ids_of_a_plain_logger_come_from_the_context(runs: Runs, sink: RecordingSink) -> None:
    with runs.flow() as flow_context:
        plain_logger.info("flow")
        with runs.task(flow_context.flow_run.id) as task_context:
            plain_logger.info("task")

    assert [(entry.flow_run_id, entry.task_run_id) for entry in sink.entries] == [
        (flow_context.flow_run.id, None),
        (flow_context.flow_run.id, task_context.task_run.id),
    ]


@pytest.mark.behaviour("LOG-API-2")
def test_ids_of_the_line_win_over_those_of_the_context(runs: Runs, sink: RecordingSink) -> None:
    flow_run_id, task_run_id = uuid4(), uuid4()
    with runs.flow() as context:
        plain_logger.info("other", extra={"flow_run_id": str(flow_run_id)})
        plain_logger.info("other", extra={"flow_run_id": flow_run_id, "task_run_id": str(task_run_id)})
        plain_logger.info("task of this flow", extra={"task_run_id": str(task_run_id)})

    assert [(entry.flow_run_id, entry.task_run_id) for entry in sink.entries] == [
        (flow_run_id, None),
        (flow_run_id, task_run_id),
        (context.flow_run.id, task_run_id),
    ]


@pytest.mark.behaviour("LOG-API-2")
def test_a_flow_run_id_is_enough_without_a_context_and_a_task_run_id_is_not(runs: Runs, sink: RecordingSink) -> None:
    context = runs.flow()
    task_run = runs.task(context.flow_run.id).task_run
    flow_run_logger(context.flow_run, log_sink=sink).info("flow")
    task_run_logger(task_run, log_sink=sink).info("task")

    assert [(entry.flow_run_id, entry.task_run_id) for entry in sink.entries] == [
        (context.flow_run.id, None),
        (context.flow_run.id, task_run.id),
    ]
    with pytest.warns(UserWarning, match="outside of a flow run"):
        plain_logger.info("nobody's", extra={"task_run_id": str(uuid4())})


@pytest.mark.behaviour("LOG-API-2")
def test_a_line_that_names_its_run_is_stored_without_any_context() -> None:
    client = get_client()
    flow_run = FlowRun(id=uuid4(), name="brave-otter", flow_name="my-flow")
    flow_run_logger(flow_run).info("by its record")
    plain_logger.info("by its id", extra={"flow_run_id": str(flow_run.id)})

    lines = asyncio.run(client.read_logs(flow_run.id))

    assert [line.entry.message for line in lines] == ["by its record", "by its id"]


def test_a_run_logger_stores_also_in_threads_that_know_no_context(runs: Runs, sink: RecordingSink) -> None:
    with runs.flow() as context:
        logger = get_run_logger()
        thread = threading.Thread(target=logger.info, args=("from a thread",))
        thread.start()
        thread.join()

    assert [(entry.flow_run_id, entry.message) for entry in sink.entries] == [(context.flow_run.id, "from a thread")]


@pytest.mark.behaviour("LOG-API-3")
def test_a_line_may_be_kept_local(runs: Runs, sink: RecordingSink) -> None:
    plain_logger.info("outside, without a warning", extra={"send_to_api": False})
    with runs.flow():
        get_run_logger().info("local", extra={"send_to_api": False})
        get_run_logger().info("stored", extra={"send_to_api": True})
        with pytest.warns(DeprecationWarning, match="send_to_api") as caught:
            get_run_logger().info("local", extra={"send_to_orion": False})

    assert caught[0].filename == __file__
    assert sink.messages == ["stored"]


@pytest.mark.behaviour("LOG-API-4")
def test_nothing_is_stored_when_the_setting_says_so(runs: Runs, sink: RecordingSink) -> None:
    with runs.flow(), temporary_settings({"LOGGING_TO_API_ENABLED": False}):
        get_run_logger().info("text")
    with temporary_settings({"LOGGING_TO_API_ENABLED": False}):
        plain_logger.info("outside, without a warning")

    assert not sink.entries


@pytest.mark.behaviour("LOG-API-4")
def test_the_loggers_own_level_filters_first(runs: Runs, sink: RecordingSink) -> None:
    with runs.flow():
        get_run_logger().debug("below INFO")

    assert not sink.entries


@pytest.mark.behaviour("LOG-API-5")
def test_outside_of_runs_the_warning_names_the_logger_and_the_users_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match=r"'core_engine\.flow_runs'") as caught:
        plain_logger.info("text")

    assert caught[0].filename == __file__
    with open(__file__, encoding="utf-8") as file:
        assert file.readlines()[caught[0].lineno - 1].strip() == 'plain_logger.info("text")'
    assert capsys.readouterr().err == ""


@pytest.mark.behaviour("LOG-API-5")
def test_a_line_that_warns_in_a_loop_warns_once_by_default() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            plain_logger.info("text")

    assert len(caught) == 1


@pytest.mark.behaviour("LOG-API-5")
def test_outside_of_runs_may_be_an_error_or_nothing(sink: RecordingSink, capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings({"LOGGING_TO_API_WHEN_MISSING_FLOW": "error"}), pytest.raises(MissingContextError):
        plain_logger.info("text")
    with temporary_settings({"LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore"}):
        plain_logger.info("text")

    assert not sink.entries
    assert capsys.readouterr().err == ""


class BrokenSink(RecordingSink):
    def append_log(self, entry: LogEntry) -> None:
        raise OSError("the disk is full")


@pytest.mark.behaviour("LOG-API-6")
def test_errors_of_sink_and_handler_are_written_to_stderr_and_go_no_further(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("core_engine"), "propagate", False)  # pytest raises for such lines
    with Runs(sink=BrokenSink()).flow():
        get_run_logger().info("text")
        of_sink = capsys.readouterr().err
        get_run_logger().info("%d", "no number")
        of_handler = capsys.readouterr().err
        plain_logger.info("text", extra={"flow_run_id": "no id"})
        of_id = capsys.readouterr().err

    assert of_sink.startswith("--- A log line of core_engine.flow_runs could not be stored ---\n")
    assert "OSError: the disk is full" in of_sink
    assert "TypeError" in of_handler
    assert "ValueError" in of_id


@pytest.mark.behaviour("LOG-API-7")
@pytest.mark.parametrize("character", ["x", "ä", "\N{GRINNING FACE}"])
def test_a_line_that_is_too_large_is_dropped_with_size_and_limit(
    runs: Runs, sink: RecordingSink, capsys: pytest.CaptureFixture[str], character: str
) -> None:
    with temporary_settings({"LOGGING_TO_API_MAX_LOG_SIZE": 3_000}), runs.flow():
        get_run_logger().info(character * 200)
        get_run_logger().info(character * 3_000)

    assert sink.messages == [character * 200]
    message = capsys.readouterr().err
    assert "ValueError" in message
    assert "3,000" in message


class TalkativeSink(RecordingSink):
    def append_log(self, entry: LogEntry) -> None:
        get_run_logger().info("about to store")
        super().append_log(entry)


def test_what_a_sink_logs_is_not_handed_back_to_it(caplog: pytest.LogCaptureFixture) -> None:
    sink = TalkativeSink()
    with Runs(sink=sink).flow():
        get_run_logger().info("text")

    assert sink.messages == ["text"]
    assert caplog.messages == ["about to store", "text"]


def test_a_filter_of_the_handler_decides(runs: Runs, sink: RecordingSink, api_handler: APILogHandler) -> None:
    api_handler.addFilter(lambda record: record.getMessage() != "unwanted")
    with runs.flow():
        get_run_logger().info("unwanted")
        get_run_logger().info("wanted")

    assert sink.messages == ["wanted"]


@pytest.mark.behaviour("LOG-API-8")
def test_lines_of_many_threads_are_all_handed_over_and_those_of_each_in_order(runs: Runs, sink: RecordingSink) -> None:
    def log(thread_number: int) -> None:
        with runs.flow():
            for line_number in range(200):
                get_run_logger().info("%s %s", thread_number, line_number)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(4):
        lines = [message for message in sink.messages if message.startswith(f"{number} ")]
        assert lines == [f"{number} {line_number}" for line_number in range(200)]


@pytest.mark.behaviour("LOG-API-9")
def test_flush_asks_every_sink_that_got_lines_and_waits_five_seconds_at_most(
    runs: Runs, sink: RecordingSink, api_handler: APILogHandler
) -> None:
    other = Runs()
    api_handler.flush()
    with runs.flow():
        get_run_logger().info("text")
        with other.flow():
            get_run_logger().info("text")
    api_handler.flush()

    assert len(sink.flushes) == len(other.sink.flushes) == 1
    assert 4 < sum(sink.flushes + other.sink.flushes) / 2 <= 5


@pytest.mark.behaviour("LOG-API-9")
def test_aflush_waits_without_blocking_the_loop(runs: Runs, sink: RecordingSink, api_handler: APILogHandler) -> None:
    class SlowSink(RecordingSink):
        may_end = threading.Event()

        def flush(self, timeout_seconds: float) -> bool:
            self.may_end.wait(timeout_seconds)
            return super().flush(timeout_seconds)

    slow = SlowSink()

    async def main() -> None:
        with Runs(sink=slow).flow():
            get_run_logger().info("text")
        flushing = asyncio.create_task(api_handler.aflush())
        await asyncio.sleep(0)
        assert not slow.flushes
        slow.may_end.set()
        await flushing
        assert slow.flushes

    asyncio.run(main())


@pytest.mark.behaviour("LOG-API-9")
def test_flush_in_async_code_leaves_the_waiting_to_a_thread(api_handler: APILogHandler) -> None:
    flushing_thread: list[threading.Thread] = []

    class Sink(RecordingSink):
        def flush(self, timeout_seconds: float) -> bool:
            flushing_thread.append(threading.current_thread())
            return True

    sink = Sink()

    async def main() -> None:
        with Runs(sink=sink).flow():
            get_run_logger().info("text")
        api_handler.flush()

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name == "core-engine-log-flush":
            thread.join()
    assert flushing_thread
    assert flushing_thread[0] is not threading.current_thread()


@pytest.mark.behaviour("LOG-API-9")
def test_flush_on_the_engines_own_loop_is_an_error(runs: Runs, api_handler: APILogHandler) -> None:
    with runs.flow():
        get_run_logger().info("text")

    async def flush() -> None:
        api_handler.flush()

    outcome = asyncio.run_coroutine_threadsafe(flush(), engine_loop().loop)
    with pytest.raises(RuntimeError, match="would block"):
        outcome.result(10)


@pytest.mark.behaviour("LOG-API-10")
def test_lines_after_flush_and_close_are_still_handed_over_and_close_does_not_wait(
    runs: Runs, sink: RecordingSink, api_handler: APILogHandler
) -> None:
    with runs.flow():
        get_run_logger().info("before")
        api_handler.close()
        assert not sink.flushes
        get_run_logger().info("after close")
        api_handler.flush()
        get_run_logger().info("after flush")

    assert sink.messages == ["before", "after close", "after flush"]
