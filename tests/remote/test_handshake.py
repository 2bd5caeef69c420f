"""What a worker has is compared with what the flow's process has, without anything of ours on the worker (D21)."""

import json
import pickle
import subprocess
import sys
import sysconfig

import cloudpickle
import pytest

from core_engine.remote import by_value, check_worker, versions

ASK = """
import json, pickle, sys
sys.path.append(sys.argv[1])
function, library = pickle.load(sys.stdin.buffer)
print(json.dumps(function(library)))
"""


def versions_without_our_package(library: str) -> dict[str, str]:
    """Ask a process that finds other packages, but ours only as a name: as one that lacks the editable install."""
    content = cloudpickle.dumps((by_value(versions), library))
    assert b"core_engine.remote" not in content
    command = [sys.executable, "-I", "-S", "-c", ASK, sysconfig.get_paths()["purelib"]]
    answer = subprocess.run(command, input=content, capture_output=True, check=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return found


@pytest.mark.behaviour("D21")
def test_a_process_without_our_package_can_say_so() -> None:
    theirs = versions_without_our_package("cloudpickle")

    assert theirs["core-engine"] == "none"
    assert theirs["python"] == versions("cloudpickle")["python"]
    with pytest.raises(RuntimeError, match=r"core_engine is not installed on the worker x.*pip install core-engine=="):
        check_worker("worker x", versions("cloudpickle"), theirs)


@pytest.mark.behaviour("D21")
def test_what_differs_is_named_and_what_is_the_same_is_not() -> None:
    ours = versions("cloudpickle")
    theirs = {**ours, "cloudpickle": "0.1", "python": "2.7"}

    assert check_worker("worker x", ours, ours) == []
    assert check_worker("worker x", ours, theirs) == [
        f"The worker x has another version than this process: python: 2.7 there, {ours['python']} here",
        f"The worker x has another version than this process: cloudpickle: 0.1 there, {ours['cloudpickle']} here",
    ]


def test_only_a_function_travels_by_value() -> None:
    with pytest.raises(TypeError, match="not int"):
        by_value(3)  # type: ignore[type-var]


def test_a_function_that_travels_by_value_arrives_whole() -> None:
    assert pickle.loads(cloudpickle.dumps(by_value(versions)))("cloudpickle") == versions("cloudpickle")
