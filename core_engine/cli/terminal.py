"""Lines that stay at the bottom of a terminal while others are printed above them.

Hand-made rather than a library's, because of what it costs: what is printed or logged is only put aside, and goes to
the terminal together with the next picture. A flow that logs thousands of lines is not slowed by its progress display.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from typing import Any, TextIO

# A stretch of text and its style; a line is a list of them.
Styled = tuple[str, str]
Line = list[Styled]

_CODES = {
    "": "",
    "dim": "2",
    "bold": "1",
    "red": "31",
    "bold red": "1;31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
# Without wrapping a line that is too long after the window shrank is cut, and the count of lines stays right.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
# Beyond this much text that waits for a slow terminal, who prints more waits as well.
_MOST_PENDING = 1_000_000


def can_show_footer(stream: Any) -> bool:
    """Returns whether `stream` is a terminal that can move its cursor."""
    return bool(stream is not None and stream.isatty()) and os.environ.get("TERM", "dumb") not in (
        "dumb",
        "unknown",
        "",
    )


def ansi(line: Line, colours: bool) -> str:
    """Returns a line with its styles as escape sequences."""
    if not colours:
        return "".join(text for text, _ in line)
    return "".join(f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style else text for text, style in line)


class Footer:
    """Keeps lines at the bottom of the terminal behind stderr, from `start` to `stop`.

    Meanwhile ``sys.stderr``, and ``sys.stdout`` if it is a terminal too, put what is written to them above the lines.
    ``_lock`` guards all fields: the lines are drawn by one thread, and any thread may print.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colours = not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._pending: list[str] = []
        self._pending_size = 0
        self._partial = ""
        self._drawn = 0
        self._replaced: list[tuple[str, Any]] = []

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            columns, lines = shutil.get_terminal_size()
        return columns, lines

    @property
    def ascii_only(self) -> bool:
        """Whether the terminal's encoding has no line drawing."""
        return not (self._stream.encoding or "ascii").lower().startswith("utf")

    def start(self) -> None:
        """Takes over the bottom of the terminal."""
        for name in ("stderr", "stdout"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._replaced.append((name, stream))
                setattr(sys, name, _Above(stream, self))
        self._write(_HIDE_CURSOR)

    def show(self, lines: Sequence[Line]) -> None:
        """Shows `lines` in place of those before, below all that was printed until now."""
        with self._lock:
            self._draw(lines)

    def print(self, text: str) -> None:
        """Puts `text` above the lines, with the next picture; the last line when it is complete."""
        with self._lock:
            self._pending.append(text)
            self._pending_size += len(text)
            if self._pending_size > _MOST_PENDING:
                self._draw(())

    def stop(self) -> None:
        """Leaves the lines where they are, and gives the terminal back."""
        for name, stream in self._replaced:
            if isinstance(getattr(sys, name), _Above):
                setattr(sys, name, stream)
        self._replaced.clear()
        with self._lock:
            late = "".join(self._pending)
            self._pending.clear()
            self._write(("\n" if self._drawn else "") + self._partial + late + _SHOW_CURSOR)
            self._drawn = 0

    def _draw(self, lines: Sequence[Line]) -> None:
        erase = "\r" + (f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else "") + "\x1b[J" if self._drawn else ""
        printed = self._partial + "".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        complete, newline, self._partial = printed.rpartition("\n")
        drawn = "\n".join(ansi(line, self._colours) for line in lines)
        self._write(f"{erase}{complete}{newline}{_NO_WRAP}{drawn}{_WRAP}")
        self._drawn = len(lines)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone; the flow goes on


class _Above:
    """Stands for a terminal stream while the footer is shown; what it does not have is the stream's."""

    def __init__(self, stream: TextIO, footer: Footer) -> None:
        self._stream = stream
        self._footer = footer

    def write(self, text: str) -> int:
        self._footer.print(text)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        self._footer.print("".join(lines))

    def flush(self) -> None:
        """Nothing: the next picture takes it along."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
