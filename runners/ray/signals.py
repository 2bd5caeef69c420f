"""What Ray does to the process's signal handlers, and how they are put back (D24).

Ray installs handlers below Python, of which ``signal.getsignal`` knows nothing, and takes all away when it ends. So
they are saved and put back as the operating system has them.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

# More than `struct sigaction` has anywhere.
_SIZE = 512

# What Ray handles: ends, and crashes, of which it writes the stack down.
SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL", "SIGTRAP")
)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Puts the handlers of SIGNALS back at the end, whatever happens inside."""
    saved = {number: _handler(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in saved.items():
            _sigaction(number, handler, None)


def _handler(number: signal.Signals) -> ctypes.Array[ctypes.c_char]:
    handler = ctypes.create_string_buffer(_SIZE)
    _sigaction(number, None, handler)
    return handler


def _sigaction(number: signal.Signals, new: object, old: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.sigaction(int(number), new, old) != 0:
        raise OSError(ctypes.get_errno(), f"The handler of {number.name} could not be saved or put back")
