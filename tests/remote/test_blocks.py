"""Sizes of blocks follow the measured time of their items."""

from hypothesis import given
from hypothesis import strategies as st

from core_engine.remote.blocks import LARGEST_BLOCK, TARGET_SECONDS, BlockSizer

measurements = st.lists(
    st.tuples(st.integers(1, 5_000), st.floats(0, 100), st.floats(0, 100)).map(lambda m: (m[0], m[1] + m[2], m[2])),
    max_size=30,
)


@given(measurements, st.integers(1, 100_000), st.integers(1, 200), st.none() | st.integers(1, 50))
def test_a_size_is_always_possible(
    measured: list[tuple[int, float, float]], waiting: int, slots: int, fixed: int | None
) -> None:
    sizer = BlockSizer(fixed)
    for one in measured:
        sizer.measured(*one)
    size = sizer.next_size(waiting, slots)

    assert 1 <= size <= waiting
    assert size <= (LARGEST_BLOCK if fixed is None else fixed)
    if fixed is None and measured:
        assert sizer.seconds_each is not None
        assert size == 1 or size * sizer.seconds_each <= TARGET_SECONDS * 1.001


def test_the_first_items_go_singly() -> None:
    assert BlockSizer().next_size(1_000, 2) == 1


def test_blocks_of_short_items_grow_by_steps_up_to_the_target() -> None:
    sizer = BlockSizer()
    sizes = []
    for _ in range(8):
        size = sizer.next_size(1_000_000, 2)
        sizes.append(size)
        sizer.measured(size, size * 0.0002, 0.0002)

    assert sizes[:4] == [1, 4, 16, 64]
    assert sizes[-1] == int(TARGET_SECONDS / 0.0002)


def test_a_slow_item_shrinks_blocks_at_once() -> None:
    sizer = BlockSizer()
    for _ in range(6):
        size = sizer.next_size(100_000, 2)
        sizer.measured(size, size * 0.0001, 0.0001)
    before = sizer.next_size(100_000, 2)
    sizer.measured(before, before * 0.0001 + 0.5, 0.5)

    assert sizer.next_size(100_000, 2) < before / 4


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_the_tail_is_shared_among_all_slots(waiting: int, slots: int) -> None:
    sizer = BlockSizer()
    for _ in range(10):
        sizer.measured(sizer.next_size(10**6, 1), 1e-4, 1e-5)

    assert sizer.next_size(waiting, slots) <= -(-waiting // (3 * slots))


def test_what_waits_for_upstreams_makes_blocks_larger_but_leaves_some_for_every_worker():
    sizer = BlockSizer()
    for size in (1, 4, 16, 64):
        sizer.measured(size, size * 0.001, 0.001)

    assert sizer.next_size(18, 2) == 3
    assert sizer.next_size(18, 2, unsent=1_000) == 9
    assert sizer.next_size(18, 2, unsent=24) == 4
    assert sizer.next_size(1, 2, unsent=1_000) == 1
