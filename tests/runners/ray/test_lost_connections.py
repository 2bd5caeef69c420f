"""Connections that stand still for a while, or break: each run ends, and none is executed twice (D22)."""

import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core_engine import get_client
from core_engine.concurrency.waiting import step
from tests.faults.helpers import script
from tests.runners.ray.support import RayProcesses, can_connect, wait_for
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.faults

CUT_SECONDS = 10.0
RAY_SECONDS = 50.0
RUNS = 60

SOURCE = """
    import json, os, time
    from pathlib import Path
    from core_engine import flow, get_run_logger, task
    from core_engine.tasks import MapOptions
    from runners.ray import RayTaskRunner
    from tests.runners.ray.support import wait_for

    folder = Path(os.environ["FOLDER"])

    @task(map_options=MapOptions(batch_size=2))
    def notes(x):
        with (folder / "starts").open("a") as file:
            file.write(f"{x}\\n")
        for line in range(5):
            get_run_logger().info("line %d of %d", line, x)
            time.sleep(0.05)
        return x

    @task(map_options=MapOptions(batch_size=1))
    def meets(x):
        (folder / f"there-{x}").touch()
        wait_for(lambda: len(list(folder.glob("there-*"))) == 2, seconds=50)

    @flow(task_runner=RayTaskRunner(address=os.environ["ADDRESS"]))
    def outer():
        # Both workers are there from now on.
        for future in meets.map(range(2)):
            future.result()
        futures = notes.map(range(int(os.environ["RUNS"])))
        wait_for(lambda: sum(future.state.is_final() for future in futures) > 10, seconds=50)
        (folder / "begun").touch()
        return futures

    states = outer(return_state=True).result(raise_on_failure=False)
    print(json.dumps([[state.name, state.message] for state in states]))
    """


@pytest.fixture
def nodes() -> Iterator[RayProcesses]:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        processes = RayProcesses(Path(folder))
        try:
            yield processes
        finally:
            processes.close()


@contextmanager
def proxy_to(address: str) -> Iterator[tuple[TcpProxy, str]]:
    """Gives a proxy to an address of Ray's, and the address under which it stands for that."""
    scheme, _, place = address.rpartition("//")
    host, _, port = place.rpartition(":")
    # Ray takes the address of the host where it is given that of the loopback device.
    proxy = TcpProxy((host, int(port)), host="")
    front = proxy.address.removeprefix("tcp://")
    try:
        yield proxy, f"{scheme}//{front}" if scheme else front
    finally:
        proxy.close()


def stand_still(proxy: TcpProxy) -> None:
    proxy.stop_forwarding()
    threading.Event().wait(CUT_SECONDS)
    proxy.go_on()


CUTS = pytest.mark.parametrize("cut", [stand_still, TcpProxy.break_off])


def run_and_cut(proxy: TcpProxy, address: str, folder: Path, cut: Callable[[TcpProxy], None]) -> list[list[str]]:
    """Run the flow, with a cut of the proxy's connections while it maps. Return names and messages of its states."""
    with script(
        folder, SOURCE, ADDRESS=address, FOLDER=str(folder), RUNS=str(RUNS), RAY_AUTH_MODE="disabled"
    ) as running:
        wait_for((folder / "begun").exists, seconds=RAY_SECONDS)
        cut(proxy)
        code, errors = running.end(RAY_SECONDS)
    assert code == 0, errors
    states: list[list[str]] = json.loads(running.lines[-1])
    return states


def expect_all_once(states: list[list[str]], folder: Path) -> None:
    assert Counter(name for name, _ in states) == {"Completed": RUNS}, states
    starts = Counter((folder / "starts").read_text().split())
    assert starts == Counter({str(x): 1 for x in range(RUNS)})
    (run,) = step(get_client().read_flow_runs())
    said = Counter(one.entry.message for one in step(get_client().read_logs(run.id)))
    lines = {line: count for line, count in said.items() if line.startswith("line ")}
    assert lines == {f"line {line} of {x}": 1 for x in range(RUNS) for line in range(5)}


@CUTS
@pytest.mark.behaviour("D22", "D23", "I2")
def test_a_node_whose_connection_to_the_head_is_cut_goes_on_where_it_was(
    nodes: RayProcesses, tmp_path: Path, cut: Callable[[TcpProxy], None]
) -> None:
    nodes.start_head()
    with proxy_to(nodes.address) as (proxy, address):
        nodes.start_worker(address=address)
        states = run_and_cut(proxy, nodes.address, tmp_path, cut)

    expect_all_once(states, tmp_path)
    (run,) = step(get_client().read_flow_runs())
    ended_by = Counter(one.worker for one in step(get_client().read_task_runs(run.id)))
    assert len(ended_by) == 2


@CUTS
@pytest.mark.behaviour("D22", "D23", "I2")
def test_a_flow_whose_connection_to_the_head_is_cut_goes_on(
    nodes: RayProcesses, tmp_path: Path, cut: Callable[[TcpProxy], None]
) -> None:
    nodes.start_head(num_cpus=2)
    with proxy_to(nodes.address) as (proxy, address):
        states = run_and_cut(proxy, address, tmp_path, cut)

    expect_all_once(states, tmp_path)


@CUTS
@pytest.mark.behaviour("D22", "D23", "I2")
def test_a_flow_whose_only_connection_is_cut_goes_on(
    nodes: RayProcesses, tmp_path: Path, cut: Callable[[TcpProxy], None]
) -> None:
    """By Ray Client, everything between the flow's process and Ray goes over one connection."""
    nodes.start_head(num_cpus=2)
    wait_for(lambda: can_connect(nodes.client_address.removeprefix("ray://")), seconds=RAY_SECONDS)
    with proxy_to(nodes.client_address) as (proxy, address):
        states = run_and_cut(proxy, address, tmp_path, cut)

    expect_all_once(states, tmp_path)
