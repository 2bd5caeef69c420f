"""Tests of the journal, the store and the files they live in."""
