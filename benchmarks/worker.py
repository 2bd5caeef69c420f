"""The process that one contender lives in: told over standard input what to do, it answers in JSON, a line each.

What the contender prints goes to a log; the answers have a file descriptor of their own.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.contenders.base import Contender, Round
from benchmarks.measuring import cpu_seconds, peak_bytes


def main() -> None:
    """Makes the contender that the first argument describes, and obeys until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    contender: Contender | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            contender = contender or _make(json.loads(sys.argv[1]))
            answer = _obey(contender, command)
        except BaseException:  # whatever it is, the parent reports it
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _make(spec: dict[str, Any]) -> Contender:
    module, _, name = spec["target"].partition(":")
    contender: Contender = getattr(import_module(module), name)(**spec["arguments"])
    return contender


def _obey(contender: Contender, command: dict[str, Any]) -> dict[str, Any]:
    round = Round(command["size"], Path(command["folder"]))
    if command["do"] == "close":
        contender.close(round)
        return {}
    contender.prepare(round)
    gc.collect()
    start_at = command.get("start_at")
    if start_at is not None:
        time.sleep(max(0.0, start_at - time.time()))
    cpu, start = cpu_seconds(), time.perf_counter()
    contender.run(round)
    returned = time.perf_counter() - start
    contender.settle(round)
    durable = time.perf_counter() - start
    clocks = {"returned": returned, "durable": durable, "cpu": cpu_seconds() - cpu, "peak_bytes": peak_bytes()}
    return {**clocks, **contender.report(round)}


if __name__ == "__main__":
    main()
