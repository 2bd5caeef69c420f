"""The profile: finds the layers of the engine, and leaves the store as it was."""

import pytest

from benchmarks import profile
from benchmarks.layers import layer_of
from benchmarks.processes import ROOT
from benchmarks.sampling import Samples, sampled
from core_engine.backend import open_backend


@pytest.mark.parametrize(
    ("file", "layer"),
    [
        ("core_engine/orchestration/task_rules.py", "rules"),
        ("core_engine/backend/folding.py", "journal: fold"),
        ("core_engine/backend/statements.py", "SQLite"),
        ("core_engine/backend/writes.py", "journal: rows"),
        ("runners/sequential/__init__.py", "dispatch and runner"),
        ("core_engine/context.py", "contexts"),
        ("core_engine/engine/task_runs.py", "task run: steps, the call, waiting"),
        ("benchmarks/contenders/flows.py", "the user's code"),
    ],
)
def test_a_file_of_the_engine_has_a_layer(file, layer):
    assert (ROOT / file).exists()
    assert layer_of(str(ROOT / file)) == layer


def test_a_file_from_elsewhere_has_none():
    assert layer_of("/usr/lib/python3/threading.py") is None


def test_the_tables_name_threads_and_layers():
    assert "| concurrent, async |" in profile.by_thread(tasks=20, flows=1)

    text = profile.by_layer("mapped", tasks=20, flows=1, lines=3)

    assert "| layer |" in text
    assert "| line |" in text


def test_the_store_works_as_before_after_a_profile():
    from benchmarks.contenders.flows import mapped

    profile.by_layer("mapped", tasks=5, flows=1, lines=1)
    state = mapped.with_options(task_runner="sequential")(3, return_state=True)

    counts = open_backend().store.count_task_runs(state.state_details.flow_run_id)
    assert [(count.state_name, count.count) for count in counts] == [("Completed", 3)]


def test_samples_find_the_main_thread_at_work():
    samples = Samples()
    with sampled(samples):
        total = 0
        while samples.count < 3:
            total += sum(range(1_000))

    assert total > 0
    assert samples.cpu_seconds > 0
