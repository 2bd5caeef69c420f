"""Tests of flows on a cluster with two workers, whichever it is.

Each module has a suite; subclasses are a few lines that say what differs. The fixture `task_runner` is theirs.
"""
