"""What is measured: each module measures one thing and has a ``SECTION``."""

from __future__ import annotations

from benchmarks.rows import Section
from benchmarks.sections import clusters, features, latency, logs, mapped, memory, shapes, shared_file, start, streams

SECTIONS: tuple[Section, ...] = (
    mapped.SECTION,
    latency.SECTION,
    features.SECTION,
    shapes.SECTION,
    streams.SECTION,
    logs.SECTION,
    memory.SECTION,
    shared_file.SECTION,
    start.SECTION,
    clusters.DASK,
    clusters.RAY,
)
