"""Tests of the runner for Ray, on real ones."""
