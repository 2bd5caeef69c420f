"""Levels of the library's loggers, which a test's settings may change, are for each test what they were before it."""

import logging

import pytest

NAMES = ("core_engine", "core_engine.flow_runs", "core_engine.task_runs")


@pytest.fixture(autouse=True)
def levels():
    before = {name: logging.getLogger(name).level for name in NAMES}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
