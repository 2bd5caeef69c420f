"""A temporary Ray, in processes of their own: how it starts, what it leaves, how it ends with whoever started it."""

import contextlib
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pexpect
import psutil
import pytest

from core_engine import get_client
from core_engine.concurrency.waiting import step
from tests.faults.helpers import script
from tests.support.waiting import wait_for

SMALL = """{"num_cpus": 2, "object_store_memory": 100_000_000}"""
# Starting and ending a Ray takes seconds, more on a busy machine.
RAY_SECONDS = 50.0

BEGINNING = f"""
    import os, signal, sys, threading, time
    import psutil
    from core_engine import flow, task, get_run_logger
    from runners.ray import RayTaskRunner, remote_options
    from tests.support.waiting import wait_for

    SMALL = {SMALL}

    @task
    def double(x):
        return 2 * x

    def doubled(*xs):
        return [future.result() for future in double.map(xs)]

    def handled_below_python():
        (line,) = [line for line in open("/proc/self/status") if line.startswith("SigCgt")]
        caught = int(line.split()[1], 16)
        return {{int(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV) if caught >> number - 1 & 1}}
    """


def source(rest: str) -> str:
    return textwrap.dedent(BEGINNING) + textwrap.dedent(rest)


@pytest.mark.behaviour("D24", "RAY-1", "RAY-3", "RAY-8", "I8")
def test_a_temporary_ray_is_started_in_one_thread_quietly_and_is_gone_after_the_flow(tmp_path: Path) -> None:
    with script(
        tmp_path,
        source("""
        @flow(task_runner=RayTaskRunner(init_kwargs=SMALL))
        def doubles():
            assert [thread.name for thread in threading.enumerate()].count("core-engine-ray") == 1
            print("inside", sorted(handled_below_python()))
            return doubled(1, 2, 3)

        print("before", sorted(handled_below_python()))
        print(doubles())
        print("after", sorted(handled_below_python()))
        import ray
        print(ray.is_initialized(), [child.cmdline() for child in psutil.Process().children(recursive=True)])
        left = [thread.name for thread in threading.enumerate() if "ray" in thread.name.lower()]
        print(left)
        """),
    ) as running:
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    assert running.lines == [
        "before [2]",
        # Those of the flow itself, none of Ray's.
        "inside [2, 15]",
        "[2, 4, 6]",
        "after [2]",
        "False []",
        "[]",
    ]
    assert "Starting a temporary Ray" in errors
    assert "Nodes: 1, calls at once: 2" in errors
    # Nothing but lines of ours.
    assert [line for line in errors.splitlines() if " | " not in line] == []


@pytest.mark.behaviour("D24", "RAY-4", "RAY-8")
def test_starts_are_counted_so_that_one_flows_end_does_not_take_anothers_ray_away(tmp_path: Path) -> None:
    with script(
        tmp_path,
        source("""
        ended = threading.Event()

        @flow(task_runner=RayTaskRunner(init_kwargs=SMALL))
        def short():
            return doubled(1)

        @flow(task_runner=RayTaskRunner())
        def child():
            return doubled(2)

        @flow(task_runner=RayTaskRunner(init_kwargs=SMALL))
        def long():
            started.set()
            assert ended.wait(40)
            return child() + doubled(3)

        # A dashboard needs more packages than tests have: what its start would give back.
        import ray
        init = ray.init

        def init_with_dashboard(**options):
            context = init(**options)
            context.dashboard_url = "127.0.0.1:8265"
            return context

        ray.init = init_with_dashboard
        started = threading.Event()
        results = []
        thread = threading.Thread(target=lambda: results.append(long()))
        thread.start()
        assert started.wait(40)
        print(short())
        ended.set()
        thread.join()
        print(results)
        print(ray.is_initialized())
        """),
    ) as running:
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    assert running.lines == ["[2]", "[[4, 6]]", "False"]
    assert errors.count("Starting a temporary Ray") == 1
    assert errors.count("The Ray dashboard is available at http://127.0.0.1:8265") == 1


@pytest.mark.behaviour("RAY-1", "RAY-2")
def test_an_address_at_which_nothing_answers_is_named_within_seconds(tmp_path: Path) -> None:
    with script(
        tmp_path,
        source("""
        @flow(task_runner=RayTaskRunner(address="127.0.0.1:9"))
        def never():
            pass

        try:
            never()
        except ConnectionError as error:
            print(error)
        """),
    ) as running:
        running.end()

    assert "No Ray answers at 127.0.0.1:9" in running.lines[0]


@pytest.mark.behaviour("RAY-2", "RAY-8")
def test_a_dashboard_whose_packages_are_missing_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with script(
        tmp_path,
        source("""
        sys.modules["aiohttp"] = None  # wherever it is installed

        @flow(task_runner=RayTaskRunner(init_kwargs={**SMALL, "include_dashboard": True}))
        def never():
            print("begun")

        try:
            never()
        except ModuleNotFoundError as error:
            print(error)
        print([child.name() for child in psutil.Process().children(recursive=True)])
        """),
    ) as running:
        running.end(RAY_SECONDS)

    assert 'pip install "ray[default]"' in running.lines[0]
    assert running.lines[1:] == ["[]"]


WAITS = """
    @task
    def waits(folder):
        open(os.path.join(folder, "running"), "w").close()
        try:
            while True:
                time.sleep(0.01)
        finally:
            open(os.path.join(folder, "ended"), "w").close()

    @flow(task_runner=RayTaskRunner(init_kwargs=SMALL))
    def waiting(folder):
        waits.submit(folder).wait()

    waiting(sys.argv[1] if len(sys.argv) > 1 else os.environ["FOLDER"])
    """


@pytest.mark.faults
@pytest.mark.behaviour("D24", "I8")
def test_a_temporary_ray_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    with script(tmp_path, source(WAITS), FOLDER=str(tmp_path)) as running:
        wait_until_running(tmp_path)
        everything = psutil.Process(running.process.pid).children(recursive=True)
        # Ray's own agents look after a minute only whether they are still needed.
        expected = [process for process in everything if "Agent" not in process.name()]
        running.send(signal.SIGKILL)
        running.end()
        with killed_at_the_end(everything):
            wait_for(lambda: not any(is_alive(process) for process in expected), seconds=RAY_SECONDS)


def wait_until_running(folder: Path) -> None:
    wait_for((folder / "running").exists, seconds=RAY_SECONDS)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def killed_at_the_end(processes: list[psutil.Process]) -> Iterator[None]:
    yield
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.faults
@pytest.mark.behaviour("D25")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_a_signal_from_a_terminal_ends_the_flow_in_order_and_its_ray_with_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "script.py"
    path.write_text(source(WAITS))
    terminal = pexpect.spawn(
        sys.executable, [str(path), str(tmp_path)], timeout=RAY_SECONDS, env=dict(os.environ), encoding="utf-8"
    )
    try:
        wait_until_running(tmp_path)
        everything = psutil.Process(terminal.pid).children(recursive=True)
        if number == signal.SIGINT:
            terminal.sendintr()  # to all processes of the terminal's group, as a user's Ctrl-C
        else:
            terminal.kill(number)
        terminal.expect(pexpect.EOF)
        output = str(terminal.before)
    finally:
        terminal.close(force=True)
    with killed_at_the_end(everything):
        _, alive = psutil.wait_procs(everything, timeout=30)

    assert not alive
    assert "Worker" not in output, output
    assert (tmp_path / "ended").exists()
    (run,) = step(get_client().read_flow_runs())
    assert run.state_type == "CRASHED"
    (task_run,) = step(get_client().read_task_runs(run.id))
    assert task_run.state_type == "CRASHED"
