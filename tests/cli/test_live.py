"""Live progress, on a real terminal of 80 columns."""

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.cli.conftest import FLOWS, ROOT, Cli
from tests.support.promptness import soon

# A bar: name, bar, done/total, failed, cached, running, rate, ETA.
BAR = re.compile(
    r"^(?P<name>\S+) +(?P<bar>[━─]+) +(?P<done>\d+)/(?P<total>\d+) +(?P<failed>\d+) +(?P<cached>\d+) +(?P<running>\d+)",
    re.M,
)
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def terminal(home: Path) -> Iterator["Terminal"]:
    terminal = Terminal()
    yield terminal
    terminal.child.close(force=True)


class Terminal:
    """Runs the command line on a terminal of its own and keeps what it wrote."""

    child: pexpect.spawn

    def start(self, *arguments: str) -> float:
        """Returns when it was started, on the monotonic clock."""
        environment = os.environ | {"TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": "1"}
        began = time.monotonic()
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "core_engine.cli", *arguments],
            dimensions=(24, 80),
            encoding="utf-8",
            env=environment,
            cwd=str(ROOT),
            timeout=30,
        )
        return began

    def end(self) -> str:
        """Waits for the end and returns all that was written since the last `expect`."""
        self.child.expect(pexpect.EOF)
        self.child.wait()
        return str(self.child.before).replace("\r\n", "\n")


def bars_of(frame: str) -> dict[str, tuple[int, int, int]]:
    """Returns (done, failed, total) by task."""
    return {bar["name"]: (int(bar["done"]), int(bar["failed"]), int(bar["total"])) for bar in BAR.finditer(frame)}


def frames_of(written: str) -> list[str]:
    """Each picture of the bars stands between the sequences that turn line wrapping off and on again."""
    return re.findall(r"\x1b\[\?7l(.*?)\x1b\[\?7h", written, re.DOTALL)


def test_the_first_bar_appears_within_a_second(terminal: Terminal) -> None:
    waited = []
    for _ in range(8):  # the machine may be busy with something else for a moment
        began = terminal.start("run", f"{FLOWS}:napping", "-p", "count=8")
        terminal.child.expect("━|─")
        waited.append(time.monotonic() - began)
        terminal.end()
        if waited[-1] < 1:
            break
    assert min(waited) < soon()


def test_the_final_counts_are_those_of_the_store(terminal: Terminal, cli: Cli) -> None:
    terminal.start("run", f"{FLOWS}:napping")
    written = terminal.end()
    frames = frames_of(written)
    record = cli.json("runs")[0]
    counts: dict[str, tuple[int, int, int]] = {}
    for count in cli.json("show", record["id"])["task_runs"]:
        done, failed, total = counts.get(count["task"], (0, 0, 0))
        failed += count["count"] * (count["state_type"] == "FAILED")
        counts[count["task"]] = (done + count["count"], failed, total + count["count"])
    assert counts == {"double": (100, 0, 100), "nap": (100, 2, 100)}
    assert bars_of(frames[-1]) == counts
    assert len(frames) > 3
    assert terminal.child.exitstatus == 0


def test_bars_only_grow_and_lines_fit(terminal: Terminal) -> None:
    terminal.start("run", f"{FLOWS}:napping")
    frames = frames_of(terminal.end())
    naps = [bars["nap"][0] for frame in frames if "nap" in (bars := bars_of(frame))]
    assert naps == sorted(naps)
    assert len(set(naps)) > 2
    assert max(len(line) for frame in frames for line in frame.split("\n")) <= 80


def test_prints_and_logs_appear_above_the_bars(terminal: Terminal) -> None:
    terminal.start("run", f"{FLOWS}:napping", "-p", "count=8")
    written = terminal.end()
    outside = re.sub(r"\x1b\[\?7l.*?\x1b\[\?7h", "", written, flags=re.DOTALL)
    assert "going to sleep" in outside
    assert "ValueError: a bad number" in outside
    assert "napping" in outside.splitlines()[-1]


def test_the_cursor_comes_back(terminal: Terminal) -> None:
    terminal.start("run", f"{FLOWS}:napping", "-p", "count=4")
    written = terminal.end()
    assert written.rindex(SHOW) > written.rindex(HIDE)


def test_an_error_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.start("run", "no_such_file.py:flow")
    written = terminal.end()
    assert written.rindex(SHOW) > written.rindex(HIDE)
    assert "no_such_file.py" in written.splitlines()[-1]
    assert terminal.child.exitstatus == 2


def test_nothing_is_animated_where_the_terminal_cannot_be_drawn_on(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.start("run", f"{FLOWS}:napping", "-p", "count=4", "--quiet")
    assert "\x1b" not in terminal.end()


def test_ctrl_c_ends_the_run_in_order(terminal: Terminal, cli: Cli, tmp_path: Path) -> None:
    terminal.start("run", f"{FLOWS}:waiting", "-p", f"path={tmp_path / 'file'}")
    terminal.child.expect("wait_for_end_of +─")
    terminal.child.sendintr()
    written = terminal.end()
    assert terminal.child.exitstatus == 130
    assert written.rindex(SHOW) > written.rindex(HIDE) if HIDE in written else SHOW in written
    assert "Traceback" not in written
    record = cli.json("runs")[0]
    assert record["state"]["type"] in ("CRASHED", "CANCELLED", "FAILED")
    assert record["name"] in written
