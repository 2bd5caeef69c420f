"""A profiler by samples: every so much CPU time, where is the main thread?

Exact clocks around each function would cost more than the functions do. Samples cost nothing in between, so shares
are true, to within a percent or two of the whole; only the main thread is seen.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from benchmarks.layers import ELSEWHERE, layer_of

INTERVAL_SECONDS = 0.001


@dataclass(slots=True)
class Samples:
    """Where the main thread was found.

    Attributes:
        layers: Samples by layer.
        functions, lines: Samples by "file:function" and by "file:line function", of the engine's innermost frame.
        cpu_seconds: What the main thread used meanwhile.
    """

    layers: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.layers.values())

    def add(self, frame: FrameType | None) -> None:
        """Counts one sample for the innermost frame that is code of this checkout."""
        while frame is not None:
            layer = layer_of(frame.f_code.co_filename)
            if layer is not None:
                name = "/".join(frame.f_code.co_filename.rsplit("/", 2)[1:])
                self.layers[layer] += 1
                self.functions[f"{name}:{frame.f_code.co_name}"] += 1
                self.lines[f"{name}:{frame.f_lineno} {frame.f_code.co_name}"] += 1
                return
            frame = frame.f_back
        self.layers[ELSEWHERE] += 1


@contextmanager
def sampled(samples: Samples) -> Iterator[None]:
    """Adds samples of the main thread to `samples` for as long as the block runs."""
    before = signal.signal(signal.SIGPROF, lambda number, frame: samples.add(frame))
    start = time.thread_time()
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        samples.cpu_seconds += time.thread_time() - start
        signal.signal(signal.SIGPROF, before)
