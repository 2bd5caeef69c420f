"""Tests of remote execution without a cluster's library."""
