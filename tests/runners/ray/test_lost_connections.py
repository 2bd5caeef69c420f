"""Connections to a head that stand still or break: runs go on where they were, and none is executed twice (D22)."""

import json
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core_engine import get_client
from core_engine.concurrency.waiting import step
from tests.faults.helpers import Script, script
from tests.runners.ray.support import RayProcesses, can_connect, free_port, messages
from tests.support.starts import lines, starts
from tests.support.tcp_proxy import HttpProxy, TcpProxy
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

CUT_SECONDS = 10.0
RAY_SECONDS = 50.0
# Connecting by Ray Client takes Ray long on a busy machine.
START_SECONDS = 90.0
RUNS = 60

SOURCE = f"""
    import json, os, time
    from pathlib import Path
    from core_engine import flow, get_run_logger, task
    from core_engine.tasks import MapOptions
    from runners.ray import RayTaskRunner
    from tests.support.starts import note
    from tests.support.waiting import wait_for

    path = Path(os.environ["FOLDER"]) / "starts"

    @task(map_options=MapOptions(batch_size=2))
    def says(x):
        path.with_name(os.environ.get("NODE", "head")).touch()
        note(path, x)
        for line in range(5):
            get_run_logger().info("line %d of %d", line, x)
            time.sleep(0.08)
        return x

    @flow(task_runner=RayTaskRunner(address=os.environ["ADDRESS"]))
    def outer():
        return says.map(range({RUNS}))

    if os.environ["NODES"] != "1":
        import ray
        ray.init(address=os.environ["ADDRESS"], logging_level="ERROR")
        wait_for(lambda: len(ray.nodes()) == int(os.environ["NODES"]), seconds=50)
        ray.shutdown()

    states = outer(return_state=True).result(raise_on_failure=False)
    print(json.dumps([state.result() if state.is_completed() else [state.name, state.message] for state in states]))
    """


@contextmanager
def proxy_for(address: str) -> Iterator[TcpProxy]:
    host, _, port = address.rpartition(":")
    wait_for(lambda: can_connect(address), seconds=RAY_SECONDS)
    # Ray takes the host's own address where it is told that of the loopback.
    proxy = TcpProxy((host, int(port)), host="")
    try:
        yield proxy
    finally:
        proxy.close()


def running_flow(folder: Path, address: str, nodes: int = 1) -> Any:
    """Run the flow in a process of its own when Ray has so many nodes."""
    return script(
        folder, textwrap.dedent(SOURCE), ADDRESS=address, FOLDER=str(folder), NODES=str(nodes), RAY_AUTH_MODE="disabled"
    )


def wait_for_flow(running: Script, condition: Callable[[], bool]) -> None:
    """Wait for what the flow does; if it does not, fail with what it said."""
    try:
        wait_for(lambda: condition() or running.process.poll() is not None, seconds=START_SECONDS)
    finally:
        if not condition():
            running.process.kill()
            pytest.fail(running.end()[1])


def disturb(proxy: TcpProxy, running: Script, path: Path, how: str) -> None:
    """Have the connections stand still for a while, or break, in the middle of the map."""
    wait_for_flow(running, lambda: len(starts(path)) > 10)
    if how == "breaks":
        proxy.break_off()
        return
    proxy.stop_forwarding()
    threading.Event().wait(CUT_SECONDS)
    proxy.go_on()


def expect_all_once(running: Script, path: Path) -> None:
    """Wait for the end, at which all runs have completed, were started once, and are told of once."""
    code, errors = running.end(RAY_SECONDS)
    assert code == 0, errors
    assert json.loads(running.lines[-1]) == list(range(RUNS)), errors
    assert lines() == starts(path) == Counter({str(x): 1 for x in range(RUNS)})
    (run,) = step(get_client().read_flow_runs())
    said = Counter(line for line in messages(run.id) if line.startswith("line "))
    assert said == Counter(f"line {line} of {x}" for x in range(RUNS) for line in range(5))


@pytest.mark.behaviour("D22", "D23", "I2")
@pytest.mark.parametrize("how", ["stands still", "breaks"])
def test_a_node_whose_connection_to_the_head_is_interrupted_goes_on(
    nodes: RayProcesses, tmp_path: Path, how: str
) -> None:
    nodes.start_head()
    with proxy_for(nodes.address) as proxy:
        nodes.start_worker({"NODE": "worker"}, address=proxy.address.removeprefix("tcp://"))
        with running_flow(tmp_path, nodes.address, nodes=2) as running:
            wait_for_flow(running, (tmp_path / "worker").exists)
            disturb(proxy, running, tmp_path / "starts", how)
            expect_all_once(running, tmp_path / "starts")


@pytest.mark.behaviour("D22", "D23")
@pytest.mark.parametrize("how", ["stands still", "breaks"])
@pytest.mark.parametrize("way", ["address", "client"])
def test_a_flow_whose_connection_to_ray_is_interrupted_goes_on(
    nodes: RayProcesses, tmp_path: Path, way: str, how: str, request: pytest.FixtureRequest
) -> None:
    if way == "client":
        request.getfixturevalue("ray_client_turn")
    nodes.start_head(num_cpus=2)
    scheme = "ray://" if way == "client" else ""
    with proxy_for((nodes.client_address if scheme else nodes.address).removeprefix(scheme)) as proxy:
        with running_flow(tmp_path, proxy.address.replace("tcp://", scheme)) as running:
            disturb(proxy, running, tmp_path / "starts", how)
            expect_all_once(running, tmp_path / "starts")


VALUES = """
    import json, os
    from pathlib import Path
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    from core_engine import flow, task
    from core_engine.tasks import MapOptions
    from runners.ray import RayTaskRunner, remote_options
    from tests.support.starts import note
    from tests.support.waiting import wait_for

    folder = Path(os.environ["FOLDER"])

    def here():
        return ray.get_runtime_context().get_node_id()

    @task
    def make(name):
        note(folder / "starts", f"make-{name}")
        return here(), name.encode() * 2_000_000

    @task
    def measure(made, name):
        note(folder / "starts", f"measure-{name}")
        node, value = made
        return [node != here(), value == name.encode() * 2_000_000]

    @task
    def small(x):
        return x

    def on(node):
        return remote_options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))

    @flow(task_runner=RayTaskRunner(address=os.environ["ADDRESS"]))
    def outer():
        wait_for(lambda: len(ray.nodes()) == 2, seconds=50)
        first, second = ray.nodes()
        with on(first):
            made = [make.submit("a"), make.submit("b")]
        with on(second):
            made += [make.submit("c"), make.submit("d")]
        for future in made:
            future.wait()
        (folder / "made").touch()
        wait_for((folder / "cut").exists, seconds=50)
        with on(second):
            measured = [measure.submit(made[0], "a"), measure.submit(made[1], "b")]
        with on(first):
            measured += [measure.submit(made[2], "c"), measure.submit(made[3], "d")]
        assert [future.result() for future in small.map(range(10))] == list(range(10))
        (folder / "others").touch()
        if os.environ["END"] == "cancel":
            wait_for((folder / "cancel").exists, seconds=50)
            for future in measured:
                future.cancel()
        return measured

    states = outer(return_state=True).result(raise_on_failure=False)
    print(json.dumps([state.result() if state.is_completed() else [state.name, state.message] for state in states]))
    """


@contextmanager
def ways_of_values(nodes: RayProcesses) -> Iterator[list[TcpProxy]]:
    """Start a head and a worker between which values go through these proxies; everything else goes straight."""
    ports = [free_port(), free_port()]
    ways = [TcpProxy(("127.0.0.1", port)) for port in ports]
    proxy = HttpProxy(dict(zip(ports, ways, strict=True)))
    environment = {"RAY_grpc_enable_http_proxy": "1", "grpc_proxy": proxy.url}
    try:
        nodes.start_head(environment=environment, options=[f"--object-manager-port={ports[0]}"])
        nodes.start_worker(environment, options=[f"--object-manager-port={ports[1]}"])
        yield ways
    finally:
        for one in [proxy, *ways]:
            one.close()


@contextmanager
def flow_with_values_on_their_way(
    folder: Path, nodes: RayProcesses, end: str = ""
) -> Iterator[tuple[Script, list[TcpProxy]]]:
    """Run the flow until values are to go from node to node, which stand still, and other task runs have gone on."""
    with ways_of_values(nodes) as ways:
        variables = {"ADDRESS": nodes.address, "FOLDER": str(folder), "END": end, "RAY_AUTH_MODE": "disabled"}
        # At the end no value is fetched, which cannot come.
        variables["CORE_ENGINE_RESULTS_FETCH_LIMIT_BYTES"] = "0"
        with script(folder, textwrap.dedent(VALUES), **variables) as running:
            wait_for_flow(running, (folder / "made").exists)
            for way in ways:
                way.stop_forwarding()
            (folder / "cut").touch()
            wait_for_flow(running, (folder / "others").exists)
            yield running, ways


def each(what: str) -> Counter[str]:
    return Counter(f"{what}-{name}" for name in "abcd")


@pytest.mark.behaviour("D12", "D22", "RAY-6")
@pytest.mark.parametrize("how", ["stand still", "break"])
def test_values_between_nodes_whose_connections_are_interrupted_arrive_later(
    nodes: RayProcesses, tmp_path: Path, how: str
) -> None:
    with flow_with_values_on_their_way(tmp_path, nodes) as (running, ways):
        if how == "stand still":
            threading.Event().wait(CUT_SECONDS)
        assert starts(tmp_path / "starts") == each("make")
        for way in ways:
            if how == "break":
                way.break_off()
            way.go_on()
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    assert json.loads(running.lines[-1]) == [[True, True]] * 4, errors
    assert lines() == starts(tmp_path / "starts") == each("make") + each("measure")


@pytest.mark.behaviour("D12", "D20", "RAY-6")
def test_task_runs_whose_values_never_arrive_can_be_cancelled(nodes: RayProcesses, tmp_path: Path) -> None:
    # Ray tries for as long as both nodes answer its head.
    with flow_with_values_on_their_way(tmp_path, nodes, end="cancel") as (running, ways):
        for way in ways:
            way.close()
        (tmp_path / "cancel").touch()
        code, errors = running.end(RAY_SECONDS)

    assert code == 0, errors
    assert [name for name, _ in json.loads(running.lines[-1])] == ["Cancelled"] * 4, errors
    assert lines() == starts(tmp_path / "starts") == each("make")
