"""Tests of the runner for Dask, on real clusters."""
