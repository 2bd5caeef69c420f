"""The handler that writes lines to the console."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from core_engine.logging.colors import Painter


class ConsoleHandler(logging.Handler):
    """Writes each record as one line, neither wrapped nor cut.

    Args:
        stream: Where lines go; None: to what ``sys.stderr`` is when a line is written.
        colors: Whether to colour lines when they go to a terminal.
        markup: Whether messages hold markup, such as ``[red]text[/red]``; otherwise brackets are just brackets.
        level: The lowest level that is written.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        colors: bool = True,
        markup: bool = False,
        level: int | str = logging.NOTSET,
    ) -> None:
        super().__init__(level)
        self._stream = stream
        self._colors = colors
        self._markup = markup
        # Belongs to the stream beside it; both are touched only under the handler's lock, which emit holds.
        self._painter: Painter | None = None
        self._asked: TextIO | None = None
        self._answer = False
        self._painted_stream: TextIO | None = None

    @property
    def stream(self) -> TextIO | None:
        """Where lines go now; None if the process has no stderr."""
        return self._stream or sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        stream = self.stream
        if stream is None:
            return
        try:
            if self._markup or (self._colors and self._is_terminal(stream)):
                record = self._painter_for(stream).paint(record)
            stream.write(self.format(record) + "\n")
            stream.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def _is_terminal(self, stream: TextIO) -> bool:
        """Whether lines go to a terminal; the system is asked once per stream."""
        if self._asked is not stream:
            self._asked, self._answer = stream, stream.isatty()
        return self._answer

    def _painter_for(self, stream: TextIO) -> Painter:
        if self._painter is None or self._painted_stream is not stream:
            from core_engine.logging.colors import Painter  # loads rich, which only terminals and markup need

            self._painter = Painter(stream, colors=self._colors, markup=self._markup)
            self._painted_stream = stream
        return self._painter
