"""Lines on the console, and as JSON."""

import io
import json
import logging
import re
from collections.abc import Callable
from uuid import uuid4

import pytest

from core_engine.logging import flow_run_logger, task_run_logger
from core_engine.logging.console import ConsoleHandler
from core_engine.logging.formatters import ConsoleFormatter, JsonFormatter
from core_engine.schemas.records import FlowRun, TaskRun

FORMAT = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(run_label)s - %(message)s"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Callable[[logging.Handler], None]:
    """Sends the lines of some loggers to one handler alone, on a terminal that has colours if it is one."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(variable, raising=False)

    def attach_alone(handler: logging.Handler) -> None:
        handler.setFormatter(handler.formatter or ConsoleFormatter(FORMAT, "%H:%M:%S"))
        for name in ("core_engine.flow_runs", "core_engine.task_runs", "other"):
            logger = logging.getLogger(name)
            for attribute, value in (("handlers", [handler]), ("propagate", False), ("level", 10), ("_cache", {})):
                monkeypatch.setattr(logger, attribute, value)

    return attach_alone


@pytest.fixture
def flow_run() -> FlowRun:
    return FlowRun(id=uuid4(), name="brave-otter", flow_name="my-flow")


@pytest.fixture
def task_run(flow_run: FlowRun) -> TaskRun:
    return TaskRun(id=uuid4(), name="load-0", flow_run_id=flow_run.id, task_key="k", task_name="load", dynamic_key="0")


@pytest.mark.behaviour("LOG-11")
def test_a_line_has_time_level_who_and_message(
    attach: Callable[[logging.Handler], None], flow_run: FlowRun, task_run: TaskRun
) -> None:
    stream = io.StringIO()
    attach(ConsoleHandler(stream))

    flow_run_logger(flow_run).info("from the flow")
    task_run_logger(task_run, flow_run=flow_run).warning("from the task")
    logging.getLogger("other").error("from elsewhere")

    lines = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \| INFO    \| Flow run 'brave-otter' - from the flow", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \| WARNING \| Task run 'load-0' - from the task", lines[1])
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \| ERROR   \| other - from elsewhere", lines[2])


@pytest.mark.behaviour("LOG-11")
def test_each_line_has_the_time_of_its_own_record() -> None:
    formatter = ConsoleFormatter("%(asctime)s.%(msecs)03d", "%H:%M:%S")
    times = [1_000_000_000.25, 1_000_000_000.5, 1_000_000_001.75]
    records = [logging.makeLogRecord({"created": time, "msecs": time % 1 * 1000}) for time in times]

    assert [formatter.format(record) for record in records] == [
        logging.Formatter("%(asctime)s.%(msecs)03d", "%H:%M:%S").format(record) for record in records
    ]


@pytest.mark.behaviour("LOG-12")
def test_lines_go_to_stderr_unless_a_stream_is_given(
    attach: Callable[[logging.Handler], None], flow_run: FlowRun, capsys: pytest.CaptureFixture[str]
) -> None:
    attach(ConsoleHandler())
    flow_run_logger(flow_run).info("to stderr")

    assert "to stderr" in capsys.readouterr().err


@pytest.mark.behaviour("LOG-12")
@pytest.mark.parametrize("stream_type", [io.StringIO, Terminal])
def test_long_messages_with_brackets_are_written_as_they_are(
    attach: Callable[[logging.Handler], None], flow_run: FlowRun, stream_type: type[io.StringIO]
) -> None:
    stream, message = stream_type(), "[red]word[/red] [1, 2] [/]" * 100
    attach(ConsoleHandler(stream))

    flow_run_logger(flow_run).info(message)

    assert stream.getvalue().endswith(f" - {message}\n")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.behaviour("LOG-12")
def test_lines_are_coloured_on_a_terminal_only(
    attach: Callable[[logging.Handler], None], flow_run: FlowRun, task_run: TaskRun
) -> None:
    terminal, file = Terminal(), io.StringIO()
    attach(ConsoleHandler(terminal))
    flow_run_logger(flow_run).info("text")
    task_run_logger(task_run).error("text")
    attach(ConsoleHandler(file))
    flow_run_logger(flow_run).info("text")

    plain = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert "\x1b[" in terminal.getvalue()
    assert re.search(r"\| INFO    \| Flow run 'brave-otter' - text\n", plain)
    assert re.search(r"\| ERROR   \| Task run 'load-0' - text\n", plain)
    assert "\x1b[" not in file.getvalue()


@pytest.mark.behaviour("LOG-12")
@pytest.mark.parametrize(("colors", "variable"), [(False, "UNRELATED"), (True, "NO_COLOR")])
def test_colours_can_be_turned_off(
    attach: Callable[[logging.Handler], None],
    flow_run: FlowRun,
    monkeypatch: pytest.MonkeyPatch,
    colors: bool,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, "1")
    terminal = Terminal()
    attach(ConsoleHandler(terminal, colors=colors))

    flow_run_logger(flow_run).error("text")

    assert "\x1b" not in terminal.getvalue()


@pytest.mark.behaviour("LOG-12")
def test_with_markup_messages_are_rendered(attach: Callable[[logging.Handler], None], flow_run: FlowRun) -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        attach(ConsoleHandler(stream, markup=True))
        flow_run_logger(flow_run).info("a [red]%s[/red]", "word")
        flow_run_logger(flow_run).info("no markup [/]")

    assert re.search(r" - a \x1b\[\d+mword\x1b\[0m\n", terminal.getvalue())
    assert " - a word\n" in file.getvalue()
    assert " - no markup [/]\n" in file.getvalue()


@pytest.mark.behaviour("LOG-8", "LOG-12")
@pytest.mark.parametrize("stream_type", [io.StringIO, Terminal])
def test_an_exception_is_shown_with_its_traceback(
    attach: Callable[[logging.Handler], None], flow_run: FlowRun, stream_type: type[io.StringIO]
) -> None:
    stream = stream_type()
    attach(ConsoleHandler(stream))

    try:
        raise ValueError("the reason [x]")
    except ValueError:
        flow_run_logger(flow_run).exception("it broke")

    assert "it broke\nTraceback (most recent call last):" in stream.getvalue()
    assert 'raise ValueError("the reason [x]")' in stream.getvalue()
    assert stream.getvalue().endswith("ValueError: the reason [x]\n")


def test_a_stream_that_cannot_be_written_does_not_fail_the_run(
    attach: Callable[[logging.Handler], None], flow_run: FlowRun, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    stream.close()
    attach(ConsoleHandler(stream))

    flow_run_logger(flow_run).info("text")

    assert "closed file" in capsys.readouterr().err


@pytest.mark.behaviour("LOG-13")
def test_json_lines_hold_all_fields_of_a_record(attach: Callable[[logging.Handler], None], flow_run: FlowRun) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    attach(handler)

    flow_run_logger(flow_run, shard=3, thing=object).info("hello %s", "world")

    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields["name"] == "core_engine.flow_runs"
    assert fields["levelname"] == "INFO"
    assert fields["filename"] == "test_console.py"
    assert isinstance(fields["lineno"], int)
    assert fields["message"] == "hello world"
    assert fields["flow_run_id"] == str(flow_run.id)
    assert fields["shard"] == 3
    assert fields["thing"] == "<class 'object'>"
    assert "exc_info" not in fields


@pytest.mark.behaviour("LOG-13")
def test_json_lines_tell_an_exception_by_type_message_and_traceback() -> None:
    try:
        raise ValueError("the reason")
    except ValueError as error:
        record = logging.makeLogRecord({"exc_info": (ValueError, error, error.__traceback__)})

    told = json.loads(JsonFormatter().format(record))["exc_info"]

    assert told["type"] == "ValueError"
    assert told["message"] == "the reason"
    assert 'raise ValueError("the reason")' in told["traceback"]
