"""Ray of several nodes, started by `ray start`: nodes that join, die, or lack something, and the end of the head."""

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core_engine import get_client
from core_engine.concurrency.waiting import step
from tests.faults.helpers import script
from tests.runners.ray.support import RayProcesses, can_connect
from tests.support.starts import lines, starts
from tests.support.waiting import wait_for

pytestmark = pytest.mark.faults

RAY_SECONDS = 50.0

BEGINNING = """
    import json, logging, os, sys, threading, time
    from pathlib import Path
    from core_engine import flow, task
    from core_engine.tasks import MapOptions
    from runners.ray import RayTaskRunner, remote_options
    from tests.support.waiting import wait_for
    from tests.support.starts import note

    folder = Path(os.environ["FOLDER"])
    runner = RayTaskRunner(address=os.environ["ADDRESS"])

    @task(map_options=MapOptions(batch_size=1))
    def waits(name):
        (folder / f"running-{name}").touch()
        note(folder / "starts", name)
        wait_for((folder / "go").exists, seconds=50)
        return name

    def node():
        import ray
        return ray.get_runtime_context().get_node_id()
    """


def source(rest: str) -> str:
    return textwrap.dedent(BEGINNING) + textwrap.dedent(rest)


@pytest.mark.behaviour("RAY-1", "RAY-3", "D12", "D21")
def test_a_flow_runs_on_a_head_and_a_worker_and_leaves_them_clean(nodes: RayProcesses, tmp_path: Path) -> None:
    nodes.start_head()
    nodes.start_worker()
    with script(
        tmp_path,
        source("""
        @task(map_options=MapOptions(batch_size=1))
        def make(name):
            (folder / f"there-{name}").touch()
            wait_for(lambda: len(list(folder.glob("there-*"))) >= 2, seconds=50)
            return node(), os.urandom(2_000_000)

        @task
        def elsewhere(made):
            return made[0] != node(), len(made[1])

        @flow(task_runner=runner)
        def meets():
            first, second = make.map(["a", "b"])
            print(json.dumps([first.result()[0] != second.result()[0]]))
            chained = [elsewhere.submit(made) for made in make.map(["c", "d"])]
            print(json.dumps([future.result()[1] for future in chained]))

        meets()
        import ray
        ray.init(address=os.environ["ADDRESS"], logging_level="ERROR", log_to_driver=False)
        print(json.dumps([len(ray.nodes()), ray.util.list_named_actors(all_namespaces=True)]))
        ray.shutdown()
        """),
        ADDRESS=nodes.address,
        FOLDER=str(tmp_path),
        RAY_AUTH_MODE="disabled",
    ) as running:
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    assert [json.loads(line) for line in running.lines] == [[True], [2_000_000, 2_000_000], [2, []]]
    assert "Connecting to an existing Ray" in errors


@pytest.mark.behaviour("D22", "D21")
def test_a_node_that_joins_is_used_and_one_that_dies_takes_only_its_runs_along(
    nodes: RayProcesses, tmp_path: Path
) -> None:
    nodes.start_head()
    with script(
        tmp_path,
        source("""
        class Notes(logging.Handler):
            def emit(self, record):
                if "another version" in record.getMessage():
                    (folder / "met").touch()

        @flow(task_runner=runner)
        def outer():
            logging.getLogger("core_engine.task_runner.ray").addHandler(Notes())
            return waits.map(["a", "b"])

        print(json.dumps([state.name for state in outer(return_state=True).result(raise_on_failure=False)]))
        """),
        ADDRESS=nodes.address,
        FOLDER=str(tmp_path),
        RAY_AUTH_MODE="disabled",
    ) as running:
        wait_for(lambda: len(list(tmp_path.glob("running-*"))) == 1, seconds=RAY_SECONDS)
        (first,) = [path.name.removeprefix("running-") for path in tmp_path.glob("running-*")]
        worker = nodes.start_worker({"PYTHONPATH": str(other_version(tmp_path))})
        wait_for(lambda: len(list(tmp_path.glob("running-*"))) == 2, seconds=RAY_SECONDS)
        # Its start has been reported when the store knows of it.
        wait_for(lambda: states() == ["RUNNING", "RUNNING"], seconds=RAY_SECONDS)
        # A call that waited in Ray may start there before the node has been asked what it has.
        wait_for((tmp_path / "met").exists, seconds=RAY_SECONDS)
        wait_for(lambda: lines().total() == 2, seconds=RAY_SECONDS)
        nodes.kill(worker)
        wait_for(lambda: "CRASHED" in states(), seconds=RAY_SECONDS)
        (tmp_path / "go").touch()
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    expected = ["Completed", "Crashed"] if first == "a" else ["Crashed", "Completed"]
    assert json.loads(running.lines[-1]) == expected
    assert lines() == starts(tmp_path / "starts") == Counter("ab")
    assert "another version than this process: cloudpickle: 0.0.1 there" in errors


def other_version(folder: Path) -> Path:
    """Make a folder that pretends, where it is on the path, to hold another version of cloudpickle."""
    metadata = folder / "path" / "cloudpickle-0.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: cloudpickle\nVersion: 0.0.1\n")
    return folder / "path"


def states() -> list[str]:
    (run,) = step(get_client().read_flow_runs())
    return [one.state_type.value for one in step(get_client().read_task_runs(run.id))]


@pytest.mark.behaviour("D12", "D22", "D26")
def test_large_values_that_are_lost_with_their_node_are_missing_and_what_needs_them_says_so(
    nodes: RayProcesses, tmp_path: Path
) -> None:
    nodes.start_head()
    worker = nodes.start_worker()
    with script(
        tmp_path,
        source("""
        from core_engine.exceptions import MissingResult

        @task(map_options=MapOptions(batch_size=1))
        def make(name):
            (folder / f"there-{name}").touch()
            note(folder / "starts", name)
            wait_for(lambda: len(list(folder.glob("there-*"))) == 2, seconds=50)
            return name, bytes(2_000_000)

        @task
        def size(made):
            note(folder / "starts", f"size-{made[0]}")
            return len(made[1])

        @flow(task_runner=runner)
        def outer():
            made = make.map(["a", "b"])
            for future in made:
                future.wait()
            (folder / "made").touch()
            wait_for((folder / "gone").exists, seconds=50)
            import ray
            wait_for(lambda: [node["Alive"] for node in ray.nodes()].count(True) == 1, seconds=50)
            return [*made, *size.map(made)]

        def told(state):
            try:
                value = state.result()
            except MissingResult as missing:
                return [state.name, str(missing)]
            except Exception as error:
                return [state.name, state.message]
            return [state.name, value if isinstance(value, int) else value[0]]

        print(json.dumps([told(state) for state in outer(return_state=True).result(raise_on_failure=False)]))
        """),
        ADDRESS=nodes.address,
        FOLDER=str(tmp_path),
        RAY_AUTH_MODE="disabled",
    ) as running:
        wait_for((tmp_path / "made").exists, seconds=RAY_SECONDS)
        nodes.kill(worker)
        (tmp_path / "gone").touch()
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    made, sizes = json.loads(running.lines[-1])[:2], json.loads(running.lines[-1])[2:]
    (lost,) = [index for index, (_, value) in enumerate(made) if value not in ("a", "b")]
    assert made[1 - lost] == ["Completed", "ab"[1 - lost]]
    assert made[lost][0] == "Completed"
    assert "persist_result=True" in made[lost][1]
    assert sizes[1 - lost] == ["Completed", 2_000_000]
    assert sizes[lost][0] == "Crashed"
    assert "persist_result=True" in sizes[lost][1]
    assert lines() == starts(tmp_path / "starts") == Counter(["a", "b", f"size-{'ab'[1 - lost]}"])


@pytest.mark.behaviour("D22", "I7")
def test_the_end_of_the_head_ends_every_run(nodes: RayProcesses, tmp_path: Path) -> None:
    nodes.start_head(num_cpus=2)
    with script(
        tmp_path,
        source("""
        @flow(task_runner=runner)
        def outer():
            return [*waits.map(["a", "b", "c"]), waits.submit("d")]

        ended = outer(return_state=True).result(raise_on_failure=False)
        print(json.dumps([[state.name, state.message] for state in ended]))
        """),
        ADDRESS=nodes.address,
        FOLDER=str(tmp_path),
        RAY_AUTH_MODE="disabled",
    ) as running:
        wait_for(lambda: states_so_far().count("RUNNING") == 2, seconds=RAY_SECONDS)
        wait_for(lambda: lines().total() == 2, seconds=RAY_SECONDS)
        nodes.kill(nodes.processes[0])
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    found: Any = json.loads(running.lines[-1])
    assert [name for name, _ in found] == ["Crashed"] * 4, found
    assert "Ray is gone" in errors
    assert lines() == starts(tmp_path / "starts")


def states_so_far() -> list[str]:
    return states() if step(get_client().read_flow_runs()) else []


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("ray_client_turn")
@pytest.mark.behaviour("RAY-1", "RAY-6")
def test_ray_client_is_a_way_to_ray_too(nodes: RayProcesses, tmp_path: Path) -> None:
    nodes.start_head(num_cpus=2)
    wait_for(lambda: can_connect(nodes.client_address.removeprefix("ray://")), seconds=RAY_SECONDS)
    with script(
        tmp_path,
        source("""
        @task
        def make(x):
            return bytes([x]) * 1_000_000

        @task(map_options=MapOptions(batch_size=3))
        def make_many(x):
            return bytes([x]) * 200_000

        @task
        def measure(value):
            return len(value)

        @flow(task_runner=runner)
        def outer():
            made = make.submit(1)
            sizes = [measure.submit(made), *measure.map(make_many.map(range(6)))]
            return [future.result() for future in sizes] + [len(made.result())]

        print(json.dumps(outer()))
        """),
        ADDRESS=nodes.client_address,
        FOLDER=str(tmp_path),
        RAY_AUTH_MODE="disabled",
    ) as running:
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    assert json.loads(running.lines[-1]) == [1_000_000, *[200_000] * 6, 1_000_000]


@pytest.mark.behaviour("D21")
def test_a_node_without_core_engine_is_named_before_anything_runs(nodes: RayProcesses, tmp_path: Path) -> None:
    nodes.start_head()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "sitecustomize.py").write_text(
        "import sys\n\n\nclass Missing:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('core_engine', 'runners'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n\n\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    nodes.start_worker(environment={"PYTHONPATH": str(bare)})
    with script(
        tmp_path,
        source("""
        import ray
        ray.init(address=os.environ["ADDRESS"], logging_level="ERROR")
        wait_for(lambda: len(ray.nodes()) == 2, seconds=50)
        ray.shutdown()

        @flow(task_runner=runner)
        def outer():
            print("begun")

        try:
            outer()
        except Exception as error:
            print(error)
        """),
        ADDRESS=nodes.address,
        FOLDER=str(tmp_path),
        RAY_AUTH_MODE="disabled",
    ) as running:
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    assert ["core_engine is not installed on the Ray node" in line for line in running.lines] == [True], running.lines
