import io
import sys

import pytest

from core_engine.cli.terminal import Footer, ansi, can_show_footer


class FakeTerminal(io.StringIO):
    """Keeps the lines that a terminal would show, for the sequences that a footer uses."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines, row = [""], 0
        text = self.getvalue()
        for hidden in ("\x1b[?25l", "\x1b[?25h", "\x1b[?7l", "\x1b[?7h", "\x1b[J"):
            text = text.replace(hidden, "\x1b[J" if hidden == "\x1b[J" else "")
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                end = next(place for place in range(at, len(text)) if text[place].isalpha())
                if text[end] == "A":
                    row -= int(text[at + 2 : end])
                elif text[end] == "J":
                    lines[row] = ""
                    del lines[row + 1 :]
                at = end
            elif text[at] == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif text[at] == "\r":
                lines[row] = lines[row]
            else:
                lines[row] += text[at]
            at += 1
        return lines


def become_terminal(monkeypatch: pytest.MonkeyPatch) -> FakeTerminal:
    """Makes stdout and stderr a terminal. Not a fixture: pytest captures anew when the test itself begins."""
    stream = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    return stream


def test_what_is_printed_appears_above_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    footer = Footer(terminal)
    footer.start()
    footer.show([[("one", "")], [("two", "")]])
    print("printed")
    print("logged", file=sys.stderr)
    footer.show([[("three", "")], [("four", "")]])
    assert terminal.screen() == ["printed", "logged", "three", "four"]
    footer.stop()


def test_lines_are_replaced_by_fewer_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    footer = Footer(terminal)
    footer.start()
    for number in (3, 1, 0, 2):
        footer.show([[(f"line {line} of {number}", "")] for line in range(number)])
    assert terminal.screen() == ["line 0 of 2", "line 1 of 2"]
    footer.stop()


def test_a_line_that_is_not_complete_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    footer = Footer(terminal)
    footer.start()
    print("half", end="")
    footer.show([[("bar", "")]])
    assert terminal.screen() == ["bar"]
    print(" and half")
    footer.show([[("bar", "")]])
    assert terminal.screen() == ["half and half", "bar"]
    footer.stop()


def test_stopping_gives_the_streams_back_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    footer = Footer(terminal)
    footer.start()
    footer.show([[("bar", "")]])
    print("last words", end="")
    footer.stop()
    assert sys.stdout is terminal
    assert sys.stderr is terminal
    assert terminal.screen() == ["bar", "last words"]
    assert terminal.getvalue().endswith("\x1b[?25h")


def test_stdout_that_is_no_terminal_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    footer = Footer(terminal)
    footer.start()
    assert sys.stdout is pipe
    footer.stop()


def test_who_floods_a_slow_terminal_is_made_to_wait_rather_than_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    footer = Footer(terminal)
    footer.start()
    for _ in range(30):
        print("x" * 100_000)
    assert len(terminal.getvalue()) > 2_000_000
    footer.stop()


@pytest.mark.parametrize("kind", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_has_no_footer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", kind)
    assert not can_show_footer(FakeTerminal())
    monkeypatch.setenv("TERM", "xterm")
    assert can_show_footer(FakeTerminal())
    assert not can_show_footer(io.StringIO())


def test_styles_become_escape_sequences() -> None:
    line = [("a", "red"), ("b", "")]
    assert ansi(line, colours=True) == "\x1b[31ma\x1b[0mb"
    assert ansi(line, colours=False) == "ab"
