"""Blurred relief of a landscape, tile by tile: arrays of some megabytes that stay on the workers.

    core-engine run examples/large_arrays.py:landscape --runner dask -p tiles=32

    make_tile ── blur ── measure ── report
    one run a tile       a few numbers a tile

On a cluster each tile is made, blurred and measured by a worker, and goes from worker to worker if it has to; what
comes back to the flow's process are four numbers a tile. Needs numpy, which core-engine does not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core_engine import flow, task, unmapped

Array = np.ndarray[tuple[int, int], np.dtype[np.float64]]


class Relief(NamedTuple):
    """What is measured of a tile, or of all."""

    lowest: float
    highest: float
    mean: float
    roughness: float


@task
def make_tile(number: int, size: int) -> Array:
    """Makes hills: random heights, smooth because they are added up in both directions."""
    steps = np.random.default_rng(number).standard_normal((size, size))
    return steps.cumsum(axis=0).cumsum(axis=1) / size


@task
def blur(tile: Array, passes: int) -> Array:
    """Replaces each height by the mean of itself and its four neighbours, several times."""
    for _ in range(passes):
        tile = (tile + sum(np.roll(tile, step, axis) for step in (-1, 1) for axis in (0, 1))) / 5
    return tile


@task
def measure(tile: Array) -> Relief:
    """Returns the relief of one tile."""
    slopes = np.abs(np.diff(tile, axis=0)).mean()
    return Relief(float(tile.min()), float(tile.max()), float(tile.mean()), float(slopes))


@flow
def landscape(tiles: int = 16, size: int = 700, passes: int = 10) -> Relief:
    """Returns the relief of all tiles. A tile has `size` x `size` heights of 8 bytes: about 4 MB by default."""
    made = make_tile.map(range(tiles), unmapped(size))
    measured = [future.result() for future in measure.map(blur.map(made, unmapped(passes)))]
    relief = Relief(
        min(one.lowest for one in measured),
        max(one.highest for one in measured),
        sum(one.mean for one in measured) / tiles,
        sum(one.roughness for one in measured) / tiles,
    )
    print(f"{tiles} tiles, from {relief.lowest:.1f} to {relief.highest:.1f}, roughness {relief.roughness:.4f}")
    return relief


if __name__ == "__main__":
    landscape()
