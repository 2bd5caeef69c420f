import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import re
import subprocess
import sys
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from core_engine.utilities.hashing import file_hash, function_digest, hash_objects, stable_hash


class Thing:
    def __init__(self, *values):
        self.values = list(values)


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


class Unpicklable:
    def __reduce_ex__(self, protocol):
        raise TypeError("not to be pickled")


class Model(BaseModel):
    x: int = 1
    y: object = None


@dataclasses.dataclass
class Record:
    x: object


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


# stable_hash, file_hash -------------------------------------------------------------------------------------------


def test_a_hash_is_32_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{32}", stable_hash("text", b"bytes"))


def test_equal_texts_have_equal_hashes_and_others_others():
    assert stable_hash("a", "b") == stable_hash("a", b"b")
    assert len({stable_hash(*parts) for parts in [("ab",), ("a", "b"), ("b", "a"), ("ab", ""), ()]}) == 5


@pytest.mark.behaviour("FLOW-DEF-7")
def test_a_files_hash_depends_on_its_bytes_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x" * 1_000_000)
    two.write_bytes(b"x" * 1_000_000)
    assert file_hash(one) == file_hash(str(two))
    two.write_bytes(b"x" * 999_999)
    assert file_hash(one) != file_hash(two)


@pytest.mark.behaviour("FLOW-DEF-8")
def test_a_file_that_cannot_be_read_has_no_hash(tmp_path):
    with pytest.raises(OSError, match="missing"):
        file_hash(tmp_path / "missing")


# hash_objects -------------------------------------------------------------------------------------------------------

EQUAL_VALUES = [
    lambda: 1,
    lambda: {"b": [1.5, None, True], "a": {"z": 1, "y": 2}},
    lambda: b"bytes",
    lambda: {"x", "y", "z", 1, 2},
    lambda: frozenset({("a", 1), ("b", 2)}),
    lambda: Thing(1, [2], {"c": b"3"}),
    lambda: [Thing(Thing("deep"))],
    lambda: Slotted({"a": 1}),
    lambda: Model(x=2, y=Thing(1)),
    lambda: Record([Thing(1)]),
    lambda: Colour.RED,
    lambda: uuid.UUID(int=5),
    lambda: datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    lambda: decimal.Decimal("1.50"),
    lambda: pathlib.PurePosixPath("/a/b"),
    lambda: re.compile("a+"),
    lambda: collections.deque([1, Thing(2)]),
    lambda: collections.OrderedDict(b=1, a=2),
    lambda: {(1, 2): "tuple keys"},
    lambda: Thing,
    lambda: len,
    lambda: ValueError("text", 1),
]


@pytest.mark.behaviour("CACHE-11")
@pytest.mark.parametrize("make", EQUAL_VALUES)
def test_equal_values_have_equal_hashes(make):
    assert hash_objects(make()) is not None
    assert hash_objects(make()) == hash_objects(make())
    assert hash_objects(key=make()) == hash_objects(key=make())


@pytest.mark.behaviour("CACHE-11")
def test_different_values_have_different_hashes():
    hashes = [hash_objects(make()) for make in EQUAL_VALUES]
    hashes += [
        hash_objects(value)
        for value in (
            Thing(2),
            Thing(1, [2]),
            Slotted({"a": 2}),
            Model(x=3),
            Record(1),
            Colour.BLUE,
            b"other",
            "1",
            True,
        )
    ]
    hashes += [hash_objects(), hash_objects(a=1), hash_objects(b=1), hash_objects(1, 1)]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.behaviour("CACHE-11")
def test_the_order_of_keys_does_not_count():
    assert hash_objects({"a": 1, "b": Thing(1)}) == hash_objects({"b": Thing(1), "a": 1})
    assert hash_objects(a=1, b=2) == hash_objects(b=2, a=1)


def test_it_does_not_count_which_equal_parts_are_one_object():
    shared = ["x"]
    assert hash_objects(Thing(shared, shared)) == hash_objects(Thing(["x"], ["x"]))


def test_it_does_not_count_whether_a_model_was_given_its_defaults():
    assert hash_objects(Model()) == hash_objects(Model(x=1))


@pytest.mark.behaviour("CACHE-11")
@pytest.mark.parametrize(
    "make", [threading.Lock, Unpicklable, lambda: (n for n in [1]), lambda: [{"a": threading.Lock()}]]
)
def test_what_can_neither_be_json_nor_pickled_has_no_hash(make):
    assert hash_objects(make()) is None


def test_cycles_have_a_hash():
    thing = Thing()
    thing.values.append(thing)
    assert hash_objects(thing) is not None


@pytest.mark.behaviour("CACHE-11")
def test_hashes_are_equal_in_another_process():
    script = (
        "import datetime\n"
        "from core_engine.utilities.hashing import function_digest, hash_objects\n"
        "class Local:\n"
        "    def __init__(self): self.x = {'a', 'b', 'c'}\n"
        "def f(x):\n"
        "    return x in {'a', 'b', 'c', 'd'}\n"
        "print(hash_objects({'a': [1, b'x', {'p', 'q', 'r'}, Local()], 'd': datetime.date(2026, 1, 1)}))\n"
        "print(function_digest(f))\n"
    )
    outputs = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(outputs) == 1
    assert b"None" not in outputs.pop()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(json_values, json_values)
def test_hashes_of_json_are_equal_exactly_if_the_values_are(one, other):
    same = repr_sorted(one) == repr_sorted(other)  # not ==, for which 1 equals True and 1.0
    assert (hash_objects(one) == hash_objects(other)) == same


def repr_sorted(value):
    if isinstance(value, dict):
        return repr(("dict", sorted((key, repr_sorted(item)) for key, item in value.items())))
    return repr([repr_sorted(item) for item in value]) if isinstance(value, list) else repr(value)


# function_digest ----------------------------------------------------------------------------------------------------


def defined(source, **names):
    scope = dict(names)
    exec(source, scope)
    return scope["f"]


def digest_of(source, **names):
    return function_digest(defined(source, **names))


@pytest.mark.behaviour("CACHE-10")
def test_the_same_body_has_the_same_digest_wherever_it_stands():
    body = "def f(x, y=1):\n    return [x + n for n in range(3)]\n"
    assert digest_of(body) == digest_of("\n\n\nunrelated = 5\n" + body)
    assert digest_of("def g(x):\n    return x\nf = g\n") == digest_of("def f(x):\n    return x\n")


@pytest.mark.behaviour("CACHE-10")
def test_documentation_annotations_and_default_values_do_not_count():
    plain = digest_of("def f(x):\n    return x\n")
    assert plain == digest_of("def f(x: int = 7) -> int:\n    '''Returns x.'''\n    return x\n")
    assert digest_of("def f(x):\n    'One.'\n    g(x)\n") == digest_of("def f(x):\n    'Two.'\n    g(x)\n")


@pytest.mark.behaviour("CACHE-10")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x): return 1", "def f(x): return 1.0"),
        ("def f(x): return 1", "def f(x): return True"),
        ("def f(x): return 'a'", "def f(x): return b'a'"),
        ("def f(x): return x in {1, 2}", "def f(x): return x in {1, 3}"),
        ("def f(x): return (1, (2, 3))", "def f(x): return (1, (2, 4))"),
        ("def f(x): return x.name", "def f(x): return x.title"),
        ("def f(x): return helper(x)", "def f(x): return other(x)"),
        ("def f(x): return [n + 1 for n in x]", "def f(x): return [n + 2 for n in x]"),
        ("def f(x): return (lambda: (lambda: 1))", "def f(x): return (lambda: (lambda: 2))"),
        ("def f(x): return x", "def f(y): return y"),
        ("def f(x, y): return x", "def f(x, *, y): return x"),
        ("def f(x): return x", "async def f(x): return x"),
        ("def f(x): return f'{x!r}'", "def f(x): return f'{x!s}'"),
    ],
)
def test_instructions_constants_and_names_count(one, other):
    assert digest_of(one) == digest_of(one)
    assert digest_of(one) != digest_of(other)


@pytest.mark.behaviour("CACHE-10")
def test_constants_in_the_closure_count():
    def make(n):
        def f(x):
            return x * n

        return f

    assert function_digest(make(2)) == function_digest(make(2))
    assert function_digest(make(2)) != function_digest(make(3))


@pytest.mark.behaviour("CACHE-10")
def test_what_a_function_changes_in_its_closure_does_not_count():
    calls, count = [], 0

    def f(x):
        nonlocal count
        count += 1
        calls.append(x)

    before = function_digest(f)
    f(1)
    assert function_digest(f) == before


@pytest.mark.behaviour("CACHE-10")
@pytest.mark.parametrize("decorate", [functools.wraps, lambda fn: lambda wrapper: wrapper], ids=["wraps", "bare"])
def test_what_a_decorator_wraps_counts(decorate):
    def decorator(fn):
        @decorate(fn)
        def wrapper(*args):
            return fn(*args)

        return wrapper

    def one(x):
        return x + 1

    def two(x):
        return x + 2

    assert function_digest(decorator(one)) == function_digest(decorator(one))
    assert function_digest(decorator(one)) != function_digest(decorator(two))


def test_methods_partials_callables_and_builtins_have_digests():
    class Adder:
        def __call__(self, x):
            return x + 1

        def method(self, x):
            return x + 1

        @classmethod
        def of_class(cls, x):
            return x + 2

    def add(x, y):
        return x + y

    assert function_digest(Adder()) == function_digest(Adder.__call__)
    assert function_digest(Adder().method) == function_digest(Adder.method)
    assert function_digest(Adder.of_class) != function_digest(Adder().method)
    assert function_digest(functools.partial(add, 1)) == function_digest(functools.partial(add, 1))
    assert function_digest(functools.partial(add, 1)) != function_digest(functools.partial(add, 2))
    assert function_digest(len) == function_digest(len)
    assert function_digest(len) != function_digest(max)
    assert function_digest(Adder) != function_digest(Adder())


def test_a_function_that_closes_over_itself_has_a_digest():
    def countdown(n):
        return n and countdown(n - 1)

    assert function_digest(countdown) == function_digest(countdown)


def test_a_function_that_closes_over_what_is_not_assigned_yet_has_a_digest():
    def f():
        return later

    assert re.fullmatch("[0-9a-f]{32}", function_digest(f))
    later = 1
    assert f() == 1
