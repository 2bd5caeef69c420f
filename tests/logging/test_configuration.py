"""Setting up logging: the file, the values in it, and respect for what the program has set up itself."""

import io
import logging
import logging.handlers
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core_engine.exceptions import SettingsError
from core_engine.logging import configuration, get_run_logger, setup_logging, setup_worker_logging
from core_engine.logging.configuration import load_configuration
from core_engine.logging.handlers import APILogHandler
from core_engine.settings import get_current_settings, temporary_settings
from tests.logging.conftest import RecordingSink, Runs

pytestmark = pytest.mark.usefixtures("new_process_logging")


@pytest.fixture
def own_file(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Replaces the packaged configuration by a file with the given text."""
    path = tmp_path / "mine.yml"
    with temporary_settings({"LOGGING_SETTINGS_PATH": path}):
        yield lambda text: path.write_text(text, encoding="utf-8") and path


def handlers_of(name: str, kind: type[logging.Handler]) -> list[logging.Handler]:
    return [handler for handler in logging.getLogger(name).handlers if isinstance(handler, kind)]


def run_python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process that has the test's home."""
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        text=True,
        env={"CORE_ENGINE_HOME": os.environ["CORE_ENGINE_HOME"], "PATH": os.environ["PATH"], **environment},
    )


@pytest.mark.behaviour("LOG-10")
def test_the_loggers_have_the_level_of_the_setting() -> None:
    with temporary_settings({"LOGGING_LEVEL": "ERROR"}):
        setup_logging()

    assert logging.getLogger("core_engine").level == logging.ERROR
    assert logging.getLogger("core_engine.flow_runs").getEffectiveLevel() == logging.ERROR


@pytest.mark.behaviour("LOG-10")
def test_in_debug_mode_the_level_is_debug() -> None:
    with temporary_settings({"DEBUG_MODE": True}):
        setup_logging()

    assert logging.getLogger("core_engine.task_runs").getEffectiveLevel() == logging.DEBUG


@pytest.mark.behaviour("LOG-10", "LOG-11", "D28")
def test_the_console_shows_runs_once_and_warnings_of_other_libraries() -> None:
    script = """if True:
        import logging
        from core_engine.logging import setup_logging
        setup_logging()
        logging.getLogger("other").info("not shown")
        logging.getLogger("other").warning("shown")
        logging.getLogger("core_engine.flow_runs").info("a run", extra={"send_to_api": False})
        logging.getLogger("core_engine.x").info("engine")
    """
    shown = run_python(script).stderr.splitlines()

    assert [line.split(" | ", 1)[1] for line in shown] == [
        "WARNING | other - shown",
        "INFO    | core_engine.flow_runs - a run",
        "INFO    | core_engine.x - engine",
    ]


def test_a_program_that_shows_the_root_logger_itself_gets_each_line_once_and_in_its_own_format() -> None:
    script = """if True:
        import logging
        logging.basicConfig(format="mine: %(message)s", level=logging.ERROR)
        from core_engine.logging import setup_logging
        setup_logging()
        logging.getLogger("other").warning("not shown")
        logging.getLogger("core_engine.flow_runs").info("a run", extra={"send_to_api": False})
    """
    assert run_python(script).stderr.splitlines() == ["mine: a run"]


def test_handlers_levels_and_files_of_the_program_stay_as_they_are(tmp_path: Path) -> None:
    root, theirs, ours = logging.getLogger(), logging.getLogger("theirs"), logging.getLogger("core_engine")
    file_handler = logging.FileHandler(tmp_path / "log.txt", mode="w")
    handlers, level = [*root.handlers, file_handler], root.level
    root.addHandler(file_handler)
    own_handler = logging.NullHandler()
    ours.addHandler(own_handler)
    ours.setLevel(logging.CRITICAL)
    try:
        theirs.error("before")
        setup_logging()
        theirs.error("after")

        assert root.handlers == handlers
        assert root.level == level
        assert own_handler in ours.handlers
        assert ours.level == logging.CRITICAL
        assert not theirs.disabled
        assert (tmp_path / "log.txt").read_text() == "before\nafter\n"
    finally:
        root.removeHandler(file_handler)
        file_handler.close()


def test_lines_of_runs_still_reach_handlers_of_the_root_logger(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    setup_logging()
    with runs.flow():
        get_run_logger().info("text")

    assert caplog.messages == ["text"]


@pytest.mark.behaviour("LOG-15")
def test_the_first_set_up_is_full_and_later_ones_change_levels_only() -> None:
    setup_logging()
    handlers = {name: logging.getLogger(name).handlers[:] for name in ("core_engine", "core_engine.flow_runs")}
    with temporary_settings({"LOGGING_LEVEL": "DEBUG", "LOGGING_COLORS": False}):
        setup_logging()

    assert logging.getLogger("core_engine").level == logging.DEBUG
    assert {name: logging.getLogger(name).handlers for name in handlers} == handlers
    setup_logging()
    assert logging.getLogger("core_engine").level == logging.INFO


@pytest.mark.behaviour("LOG-15")
def test_a_full_set_up_that_is_asked_for_replaces_the_handlers() -> None:
    setup_logging()
    before = handlers_of("core_engine.flow_runs", APILogHandler)
    setup_logging(incremental=False)
    after = handlers_of("core_engine.flow_runs", APILogHandler)

    assert len(before) == len(after) == 1
    assert before != after


@pytest.mark.behaviour("CTX-8")
def test_entering_settings_does_not_configure_logging() -> None:
    setup_logging()
    with temporary_settings({"LOGGING_LEVEL": "DEBUG"}):
        assert logging.getLogger("core_engine").level == logging.INFO


@pytest.mark.behaviour("LOG-15")
def test_extra_loggers_get_the_handler_and_level_of_the_extra_logger(runs: Runs, sink: RecordingSink) -> None:
    chatty, strict = logging.getLogger("lib.chatty"), logging.getLogger("lib.strict")
    strict.setLevel(logging.ERROR)
    with temporary_settings({"LOGGING_EXTRA_LOGGERS": "lib.chatty, lib.strict, lib"}):
        setup_logging()
        with runs.flow():
            chatty.info("stored")
            strict.info("below its own level")

    assert sink.messages == ["stored"]  # once, although lib and lib.chatty are both extra loggers
    assert logging.getLogger("lib").level == logging.INFO
    for logger in (chatty, strict, logging.getLogger("lib")):
        logger.handlers, logger.level = [], logging.NOTSET


@pytest.mark.behaviour("LOG-14")
def test_a_file_at_the_settings_path_replaces_the_packaged_one(own_file: Callable[[str], Path]) -> None:
    own_file(
        """
        version: 1
        formatters: {short: {format: "%(message)s in ${CORE_ENGINE_HOME}"}}
        handlers:
          memory: {class: logging.handlers.MemoryHandler, capacity: 1, target: stream}
          stream: {class: logging.StreamHandler, formatter: short, level: ERROR, stream: ext://sys.stdout}
        loggers:
          core_engine: {level: "${CORE_ENGINE_LOGGING_LEVEL}", handlers: [memory], propagate: false}
        """
    )
    setup_logging()

    logger = logging.getLogger("core_engine")
    (handler,) = logger.handlers
    assert isinstance(handler, logging.handlers.MemoryHandler)
    target = handler.target
    assert isinstance(target, logging.StreamHandler)
    assert (logger.level, logger.propagate, target.level) == (logging.INFO, False, logging.ERROR)
    target.setStream(io.StringIO())
    assert target.format(logging.makeLogRecord({"msg": "text"})) == f"text in {get_current_settings().home}"


@pytest.mark.behaviour("LOG-14")
def test_settings_are_put_in_with_their_types() -> None:
    with temporary_settings({"LOGGING_COLORS": False}) as settings:
        console = load_configuration(settings)["handlers"]["console"]

    assert console["colors"] is False


@pytest.mark.behaviour("LOG-14")
def test_environment_variables_named_after_a_keys_path_replace_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_ENGINE_LOGGING_LOGGERS_CORE_ENGINE_FLOW_RUNS_LEVEL", "ERROR")
    monkeypatch.setenv("CORE_ENGINE_LOGGING_HANDLERS_CONSOLE_COLORS", "false")
    monkeypatch.setenv("CORE_ENGINE_LOGGING_ROOT_HANDLERS", "[]")
    monkeypatch.setenv("CORE_ENGINE_LOGGING_FORMATTERS_CONSOLE_FORMAT", "%(message)s")

    loaded = load_configuration(get_current_settings())

    assert loaded["loggers"]["core_engine.flow_runs"]["level"] == "ERROR"
    assert loaded["handlers"]["console"]["colors"] is False
    assert loaded["root"]["handlers"] == []
    assert loaded["formatters"]["console"]["format"] == "%(message)s"


@pytest.mark.behaviour("LOG-14")
def test_environment_variables_add_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_configuration(get_current_settings())
    monkeypatch.setenv("CORE_ENGINE_LOGGING_LOGGERS_MINE_LEVEL", "ERROR")

    with pytest.warns(UserWarning, match="CORE_ENGINE_LOGGING_LOGGERS_MINE_LEVEL has no effect"):
        assert load_configuration(get_current_settings()) == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", r"mine\.yml cannot be read"),
        ("just text", "no keys and values"),
        ("loggers: 3", "loggers must hold"),
        ("handlers: {x: {level: '${CORE_ENGINE_LOGIN_LEVEL}'}}", r"LOGIN_LEVEL is not a setting.*LOGGING_LEVEL"),
        ("handlers: {x: {class: no.such.Handler}}", r"mine\.yml is wrong: .*No module named 'no'"),
        ("handlers: {x: {level: INFO}}", r"mine\.yml is wrong"),
        ("loggers: {core_engine: {level: LOUD}}", r"mine\.yml is wrong: .*LOUD"),
        ("loggers: {core_engine: {handlers: [missing]}}", r"mine\.yml is wrong: .*'missing', which is not described"),
        ("formatters: {x: {format: '%(message'}}", r"mine\.yml is wrong: .*%\(message"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    own_file: Callable[[str], Path], text: str, reason: str
) -> None:
    own_file(text)

    for _ in range(2):
        with pytest.raises(SettingsError, match=reason):
            setup_logging()
    assert not handlers_of("core_engine", logging.Handler)
    assert not handlers_of("core_engine.flow_runs", logging.Handler)


def test_a_set_up_with_the_settings_of_the_last_one_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    setup_logging()
    monkeypatch.setattr(configuration, "load_configuration", None)

    setup_logging()


@pytest.mark.behaviour("D28")
def test_on_a_worker_each_line_has_the_level_of_its_own_flow_and_none_is_for_the_console(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    detailed, terse = Runs(), Runs()
    for flow, level in ((detailed, "DEBUG"), (terse, "ERROR")):
        with temporary_settings({"LOGGING_LEVEL": level}), flow.flow() as context, flow.task(context.flow_run.id):
            setup_worker_logging()
            get_run_logger().debug("detail")
            get_run_logger().error("trouble")

    assert detailed.sink.messages == ["detail", "trouble"]
    assert terse.sink.messages == ["trouble"]
    assert capsys.readouterr() == ("", "")
    assert not caplog.records
    assert len(handlers_of("core_engine.task_runs", APILogHandler)) == 1


def test_setting_up_imports_neither_rich_nor_what_stores() -> None:
    script = """if True:
        import sys
        from core_engine.logging import setup_logging
        setup_logging()
        print([name for name in ("rich", "sqlalchemy", "httpx", "typer") if name in sys.modules])
    """
    assert run_python(script).stdout.strip() == "[]"
