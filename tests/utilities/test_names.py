import os
import random
import re

import pytest

from core_engine.utilities import names
from core_engine.utilities.names import generate_run_name


@pytest.mark.behaviour("FLOW-CALL-4")
def test_a_run_name_is_two_words():
    for _ in range(200):
        assert re.fullmatch(r"[a-z]+-[a-z]+", generate_run_name())


def test_there_are_many_names_and_no_word_twice():
    for words in (names._ADJECTIVES, names._NOUNS):
        assert len(words) == len(set(words)) > 140
    assert len({generate_run_name() for _ in range(300)}) > 250


def test_every_word_can_be_drawn(monkeypatch):
    draws = iter([0.0, 1 - 2**-53])
    monkeypatch.setattr(names._random, "random", lambda: next(draws))
    assert generate_run_name() == f"{names._ADJECTIVES[0]}-{names._NOUNS[0]}"
    assert generate_run_name() == f"{names._ADJECTIVES[-1]}-{names._NOUNS[-1]}"


def test_names_neither_follow_nor_disturb_the_users_random_numbers():
    random.seed(1)
    first_names = [generate_run_name() for _ in range(5)]
    first_number = random.random()
    random.seed(1)
    assert [generate_run_name() for _ in range(5)] != first_names
    assert random.random() == first_number


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.behaviour("D33")
def test_a_forked_child_draws_other_names():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, " ".join(generate_run_name() for _ in range(5)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read().split() != [generate_run_name() for _ in range(5)]
