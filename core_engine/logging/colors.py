"""Colours for lines on a terminal, and markup in their messages.

rich knows what a terminal can show and how; it is asked once per kind of text, not for each line.
"""

from __future__ import annotations

import copy
import logging
from functools import cache
from typing import TextIO

from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console
from rich.errors import MarkupError
from rich.style import Style
from rich.text import Text

from core_engine.logging.formatters import run_label

_LEVEL_WIDTH = 7  # of the longest usual name, so that the codes around it do not disturb the columns
_STYLES_FROM_LEVEL = ((40, "bold red"), (30, "yellow"), (20, "cyan"), (0, "dim"))
_FLOW_RUN_STYLE = "bold magenta"
_TASK_RUN_STYLE = "magenta"


class Painter:
    """Paints records for one stream.

    Args:
        stream: Where lines go; its terminal, and variables such as NO_COLOR, decide what is possible.
        colors: Whether colours are wanted at all.
        markup: Whether messages hold markup, such as ``[red]text[/red]``.
    """

    def __init__(self, stream: TextIO, *, colors: bool, markup: bool) -> None:
        console = Console(file=stream, highlight=False)
        self._colors: ColorSystem | None = None
        if colors and console.is_terminal and not console.no_color and console.color_system:
            self._colors = COLOR_SYSTEMS[console.color_system]
        self._markup = markup
        self._code = cache(self._make_code)

    def paint(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a copy of a record whose level, label and message are painted."""
        painted = copy.copy(record)
        painted.levelname = self._styled(f"{record.levelname:<{_LEVEL_WIDTH}}", _level_style(record.levelno))
        painted.run_label = self._styled(run_label(record), _label_style(record))
        if self._markup:
            painted.msg, painted.args = self._rendered(record.getMessage()), None
        return painted

    def _styled(self, text: str, style: str) -> str:
        if self._colors is None or not style:
            return text
        before, after = self._code(style)
        return f"{before}{text}{after}"

    def _make_code(self, style: str) -> tuple[str, str]:
        before, _, after = Style.parse(style).render("|", color_system=self._colors).partition("|")
        return before, after

    def _rendered(self, message: str) -> str:
        try:
            text = Text.from_markup(message)
        except MarkupError:  # brackets that are not meant as markup
            return message
        if self._colors is None:
            return text.plain
        console = Console(color_system="auto", force_terminal=True, width=len(message) + 1)
        segments = text.render(console, end="")
        return "".join(
            part.style.render(part.text, color_system=self._colors) if part.style else part.text for part in segments
        )


def _level_style(level: int) -> str:
    return next(style for lowest, style in _STYLES_FROM_LEVEL if level >= lowest)


def _label_style(record: logging.LogRecord) -> str:
    if hasattr(record, "task_run_name"):
        return _TASK_RUN_STYLE
    return _FLOW_RUN_STYLE if hasattr(record, "flow_run_name") else ""
