"""``python -m benchmarks.peers``: other engines beside this one, each in a virtual environment of its own.

The environments are made by this command, in ``.peers``, when they are missing. The same mapped flow runs in all of
them, in turn; nothing is known of the others but their public interface.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks import report, tables
from benchmarks.interleaving import Measured, last_line
from benchmarks.machine import describe
from benchmarks.measuring import summarise
from benchmarks.processes import ROOT, ContenderError, Spec, Worker, WorkerError, clean_environment
from benchmarks.rows import Column, Row, Section, ratios, row_of

ENVIRONMENTS = Path(__file__).parent / ".peers"
TARGET = "benchmarks.contenders.peer:PeerFlow"
FOLDER = Path(__file__).parent


@dataclass(slots=True, frozen=True)
class Peer:
    """An engine to be measured.

    Attributes:
        name: What its environment is called.
        requirements: For pip; none: this engine, in this environment.
        runners: Which of its runners.
        trivial_flow: A script for a fresh process.
    """

    name: str
    requirements: tuple[str, ...]
    runners: tuple[str, ...]
    trivial_flow: str

    @property
    def python(self) -> str:
        return sys.executable if not self.requirements else str(ENVIRONMENTS / self.name / "bin" / "python")

    def environment(self, home: Path) -> dict[str, str]:
        """Returns the environment of its processes, with everything that it keeps below `home`."""
        settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        kept = {name: value for name, value in clean_environment(home).items() if not name.startswith("PREFECT_")}
        return kept if not self.requirements else {**kept, **settings}


THIS = Peer("core_engine", (), ("sequential", "threads"), "trivial_flow.py")
PEERS = (
    # FastAPI 0.165 took away an argument that Prefect 3.8 uses.
    Peer("prefect-3", ("prefect>=3,<4", "fastapi<0.140"), ("threads",), "peer_trivial_flow.py"),
    Peer("prefect-2", ("prefect>=2.20,<3",), ("sequential", "threads"), "peer_trivial_flow.py"),
)


# The same on clusters, where starting them is a part of each flow.
ON_CLUSTERS = (
    Peer("core_engine", (), ("dask", "ray"), "trivial_flow.py"),
    Peer("prefect-3-clusters", (*PEERS[0].requirements, "prefect-dask<1", "prefect-ray<1"), ("dask", "ray"), ""),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 1 when a round was void."""
    options = _parse(arguments)
    for peer in (*PEERS, *ON_CLUSTERS):
        set_up(peer)
    if options.set_up_only:
        return 0
    started, start = datetime.now(UTC), time.perf_counter()
    options.work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="peers-", dir=options.work) as folder:
        facts = describe(Path(folder))
        measured = {
            section: section_rows(Path(folder), options)
            for section, section_rows in ((SECTION, _on_one_machine), (CLUSTERS, _on_clusters))
            if options.only in (None, section.key)
        }
    document = report.read(options.output) or report.new_document("peers", options.rounds, started, facts)
    for section, rows in measured.items():
        found = report.section_to_json(section, rows, started, time.perf_counter() - start, facts)
        document["sections"] = report.merged(document["sections"], [found])
        print(tables.section(found))
    report.write(document, options.output)
    print(f"\nwritten to {options.output}")
    if options.readme:
        tables.put_into_readme("results", tables.markdown(document))
    return 1 if any(row.void for rows in measured.values() for row in rows) else 0


def _on_one_machine(work: Path, options: argparse.Namespace) -> list[Row]:
    return measure((THIS, *PEERS), options.tasks, options.rounds, options.seconds, work)


def _on_clusters(work: Path, options: argparse.Namespace) -> list[Row]:
    return measure_on_clusters(ON_CLUSTERS, options.cluster_tasks, options.rounds, options.seconds, work)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--set-up-only", action="store_true", help="only make the environments")
    parser.add_argument("--tasks", type=int, default=100, help="mapped tasks in a flow")
    parser.add_argument("--cluster-tasks", type=int, default=500, help="mapped tasks in a flow on a cluster")
    parser.add_argument("--only", choices=(SECTION.key, CLUSTERS.key), help="only this part")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--seconds", type=float, default=300.0, help="no round starts later than this")
    parser.add_argument("--output", type=Path, default=report.RESULTS / "full.json", help="results to add it to")
    parser.add_argument("--no-readme", dest="readme", action="store_false", help="leave README.md as it is")
    parser.add_argument("--work", type=Path, default=report.WORK, help="where homes are made and removed")
    return parser.parse_args(arguments)


def set_up(peer: Peer) -> None:
    """Makes the peer's environment if it is missing.

    Raises:
        WorkerError: pip could not install it.
    """
    folder = ENVIRONMENTS / peer.name
    stamp, wanted = folder / "installed", " ".join(peer.requirements)
    if not wanted or (stamp.exists() and stamp.read_text() == wanted):
        return
    print(f"installing {wanted} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [peer.python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *peer.requirements]
    for command in ([sys.executable, "-m", "venv", str(folder)], pip):
        if subprocess.run(command, check=False).returncode:
            raise WorkerError(f"{wanted} could not be installed: {' '.join(command)} failed.")
    stamp.write_text(wanted)


def measure(peers: Sequence[Peer], tasks: int, rounds: int, seconds: float, work: Path) -> list[Row]:
    """Measures the peers in turn: `rounds` rounds, or fewer when `seconds` are over."""
    deadline = time.monotonic() + seconds
    mapped = _mapped(peers, tasks, rounds, deadline, work)
    rows = []
    slowdowns: dict[str, Any] = {}
    for runner in ("sequential", "threads"):
        of_runner = [measured for measured in mapped if measured.spec.arguments["runner"] == runner]
        slowdowns |= ratios(of_runner, of_runner[0], lambda round: round["durable"])
    for measured in mapped:
        row = row_of(measured, tasks, _figures(tasks))
        if measured.valid:
            row.name = row.name.replace(":", f" ({measured.valid[0]['version']}):", 1)
        if measured.spec.name in slowdowns:
            row.figures["x_core_engine"] = slowdowns[measured.spec.name]
        rows.append(row)
    return rows + _starts(peers, rounds, deadline, work)


def measure_on_clusters(peers: Sequence[Peer], tasks: int, rounds: int, seconds: float, work: Path) -> list[Row]:
    """Measures the peers on clusters in turn, as ``measure`` does."""
    measured = _mapped(peers, tasks, rounds, time.monotonic() + seconds, work)
    slowdowns: dict[str, Any] = {}
    for runner in ("dask", "ray"):
        of_runner = [contender for contender in measured if contender.spec.arguments["runner"] == runner]
        if of_runner:
            slowdowns |= ratios(of_runner, of_runner[0], lambda round: round["mapped"])
    figures = {
        "mapped_seconds": lambda round: round["mapped"],
        "flow_seconds": lambda round: round["durable"],
        "per_second": lambda round: tasks / round["mapped"],
    }
    rows = []
    for contender in measured:
        row = row_of(contender, tasks, figures)
        if contender.valid:
            row.name = row.name.replace(":", f" ({contender.valid[0]['version']}):", 1)
        if contender.spec.name in slowdowns:
            row.figures["x_core_engine"] = slowdowns[contender.spec.name]
        rows.append(row)
    return rows


def _figures(tasks: int) -> dict[str, Callable[[dict[str, Any]], float]]:
    return {
        "cpu_us": lambda round: round["cpu"] / tasks * 1e6,
        "returned_us": lambda round: round["returned"] / tasks * 1e6,
        "durable_us": lambda round: round["durable"] / tasks * 1e6,
        "per_second": lambda round: tasks / round["durable"],
    }


def _mapped(peers: Sequence[Peer], tasks: int, rounds: int, deadline: float, work: Path) -> list[Measured]:
    with ExitStack() as stack:
        workers = []
        for peer in peers:
            for runner in peer.runners:
                folder = work / f"{peer.name}-{runner}"
                arguments = {"engine": peer.name.partition("-")[0], "runner": runner}
                spec = Spec(f"{peer.name}: mapped, {runner}", TARGET, arguments)
                command = [peer.python, "-m", "benchmarks.worker"]
                worker = Worker(spec, folder, command, peer.environment(folder / "home"))
                workers.append((stack.enter_context(worker), Measured(spec)))
        for number in range(-1, rounds):
            for worker, measured in workers:
                answer = _one_round(worker, tasks, work, measured)
                if number >= 0:
                    measured.rounds.append(answer)
            if time.monotonic() > deadline:
                print(f"time is over: {number + 1} of {rounds} rounds were measured", file=sys.stderr)
                break
    return [measured for _, measured in workers]


def _one_round(worker: Worker, tasks: int, work: Path, measured: Measured) -> dict[str, Any] | None:
    """Returns the worker's answer; None, with the reason among the void ones, when it does not count."""
    before = children_cpu_seconds(worker.pid)
    try:
        answer = worker.ask(do="round", size=tasks, folder=str(work))
    except ContenderError as error:
        # Its last line: the source of other engines is nothing that we look at.
        measured.void.append(last_line(error))
        return None
    worker.ask(do="close", size=tasks, folder=str(work))
    # Its own clock stops when everything is durable; a server that it started can be asked from outside only.
    answer["cpu"] += children_cpu_seconds(worker.pid) - before
    return answer if _is_whole(answer, tasks, measured) else None


def _is_whole(answer: dict[str, Any], tasks: int, measured: Measured) -> bool:
    if answer["completed"] == tasks and answer["state"] == "Completed":
        return True
    measured.void.append(f"{answer['completed']} of {tasks} task runs are in the store, flow run {answer['state']}")
    return False


def children_cpu_seconds(pid: int) -> float:
    """Returns the CPU seconds of the living children of a process, and of theirs."""
    total = 0.0
    for child in psutil.Process(pid).children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _starts(peers: Sequence[Peer], rounds: int, deadline: float, work: Path) -> list[Row]:
    """A trivial flow from the start of a fresh process to its end, in a home that exists."""
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(-1, rounds):
        for peer in peers:
            start = time.perf_counter()
            command = [peer.python, str(FOLDER / peer.trivial_flow)]
            environment = peer.environment(work / f"{peer.name}-start")
            (work / f"{peer.name}-start").mkdir(exist_ok=True)
            ended = subprocess.run(command, env=environment, check=False, capture_output=True, cwd=work)
            if ended.returncode:
                lines = ended.stderr.decode(errors="replace").strip().splitlines()
                raise WorkerError(f"{' '.join(command)} failed: {lines[-1] if lines else 'without a word'}")
            if number >= 0:
                seconds[peer.name].append(time.perf_counter() - start)
        # One round at least, so that there is a figure.
        if number >= 0 and time.monotonic() > deadline:
            break
    return [
        Row(f"{name}: trivial flow, fresh process", None, {"seconds": summarise(values)})
        for name, values in seconds.items()
    ]


SECTION = Section(
    key="peers",
    title="Other engines",
    note=(
        "The same mapped no-op, every result taken, with each engine's defaults; per task, in microseconds. CPU is "
        "that of all processes, including a server that an engine starts. *Durable*: the engine's own client reads "
        "the last task run as completed; one that records in the background takes a second or more for that, however "
        "few tasks there are. What each engine records and logs by default differs."
    ),
    columns=(
        Column("CPU", "cpu_us"),
        Column("returned", "returned_us"),
        Column("durable", "durable_us"),
        Column("tasks/s, durable", "per_second", spread=True),
        Column("durable x core_engine", "x_core_engine", 1),
        Column("seconds, start to exit", "seconds", 2),
    ),
    measure=lambda plan, work: measure((THIS, *PEERS), 100, plan.rounds, 300.0, work),
)
CLUSTERS = Section(
    key="peer_clusters",
    title="Other engines on clusters",
    note=(
        "A mapped no-op on a temporary cluster of two workers, every result taken. *Map*: from the map to the last "
        "result. *Flow*: from the call of the flow until everything is durable, the start of the cluster included."
    ),
    columns=(
        Column("map, seconds", "mapped_seconds", 2, spread=True),
        Column("tasks/s", "per_second"),
        Column("map x core_engine", "x_core_engine", 1),
        Column("flow, seconds", "flow_seconds", 1),
    ),
    measure=lambda plan, work: measure_on_clusters(ON_CLUSTERS, 500, plan.rounds, 300.0, work),
)


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        sys.exit(main())
    except WorkerError as error:
        sys.exit(f"{error}")
