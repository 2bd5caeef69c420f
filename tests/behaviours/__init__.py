"""Tests of the numbered behaviours, one module per group, written against the public names alone."""
