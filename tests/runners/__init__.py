"""Tests of the task runners of this distribution."""
