"""Identifiers that cost nothing per run.

A call, a submit or a map makes one *group* of task runs with one random prefix. The id of each run, and of each of its
states, follows from it by arithmetic, so that a child of a map needs neither a random number nor a stored id:

    | 76 random bits: the group | 32 bits: index in the group | 20 bits: ordinal of the state, 0 = the run itself |

Inside the engine an id is a plain ``int``; users see ``uuid.UUID``.
"""

from __future__ import annotations

import os
import random
from uuid import UUID

INDEX_BITS = 32
ORDINAL_BITS = 20
PREFIX_SHIFT = INDEX_BITS + ORDINAL_BITS
MAX_GROUP_SIZE = 1 << INDEX_BITS
MAX_ORDINAL = (1 << ORDINAL_BITS) - 1
_PREFIX_MASK = ~((1 << PREFIX_SHIFT) - 1)
_ORDINAL_MASK = MAX_ORDINAL


_random = random.Random(os.urandom(32))
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def new_prefix() -> int:
    """Returns a random 128-bit prefix whose low 52 bits are zero. Ids are to be unique, not secret."""
    return _random.getrandbits(76) << PREFIX_SHIFT


def run_number(prefix: int, index: int) -> int:
    """Returns the id, as an int, of the run at `index` of the group `prefix`."""
    return prefix | index << ORDINAL_BITS


def run_id(prefix: int, index: int = 0) -> UUID:
    """Returns the id of the run at `index` of the group `prefix`."""
    return UUID(int=prefix | index << ORDINAL_BITS)


def state_id(prefix: int, index: int, ordinal: int) -> UUID:
    """Returns the id of the state number `ordinal` (from 1) of a run; ordinal 1 is its first state."""
    return UUID(int=prefix | index << ORDINAL_BITS | ordinal)


def split_id(id: UUID) -> tuple[int, int, int]:
    """Takes an id apart into (prefix, index, ordinal)."""
    number = id.int
    return number & _PREFIX_MASK, (number >> ORDINAL_BITS) & (MAX_GROUP_SIZE - 1), number & _ORDINAL_MASK


def new_id() -> UUID:
    """Returns a new id for a flow run: the only run of its prefix."""
    return UUID(int=new_prefix())
