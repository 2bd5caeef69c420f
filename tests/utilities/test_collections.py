import dataclasses
import io
import tempfile
from collections import Counter, OrderedDict, defaultdict, namedtuple
from unittest.mock import MagicMock, Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel

from core_engine.annotations import BaseAnnotation, allow_failure, quote, unmapped
from core_engine.utilities.collections import StopVisiting, isiterable, visit_collection


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass(frozen=True)
class FrozenPoint:
    x: object


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedPoint:
    x: object


class Model(BaseModel):
    x: object
    y: object = 0


def negate_even_ints(node):
    return -node if type(node) is int and node % 2 == 0 else node


class Visits(list):
    """A visit function that notes what it sees."""

    def __call__(self, node):
        self.append(node)
        return node


# What is visited, and in which order -----------------------------------------------------------------------------


@pytest.mark.behaviour("UTIL-1")
def test_parents_are_visited_before_children_and_keys_before_their_values():
    visits = Visits()
    visit_collection({"a": [1, (2,)], "b": 3}, visits)
    assert visits == [{"a": [1, (2,)], "b": 3}, "a", [1, (2,)], 1, (2,), 2, "b", 3]


@pytest.mark.behaviour("UTIL-1")
def test_the_returned_collection_is_a_new_one():
    original = {"a": [1]}
    result = visit_collection(original, lambda node: node, return_data=True)
    assert result == original
    assert result is not original
    assert result["a"] is not original["a"]


@pytest.mark.behaviour("UTIL-2")
@pytest.mark.parametrize("expr", [1, [1], {"a": 1}, Point(1), iter([1])])
def test_without_return_data_nothing_is_returned(expr):
    visits = Visits()
    assert visit_collection(expr, visits) is None
    assert visits[-1] in (1, 0)


@pytest.mark.behaviour("UTIL-2")
@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (2, -2),
        ([1, 2], [1, -2]),
        ((1, 2), (1, -2)),
        ({1, 2}, {1, -2}),
        ({2: 4}, {-2: -4}),
        (OrderedDict([("b", 2), ("a", 4)]), OrderedDict([("b", -2), ("a", -4)])),
        ([[[2]], {"a": (2,)}], [[[-2]], {"a": (-2,)}]),
        (Point(2, [4]), Point(-2, [-4])),
        (FrozenPoint(2), FrozenPoint(-2)),
        (SlottedPoint(2), SlottedPoint(-2)),
        (Model(x=2, y=[4]), Model(x=-2, y=[-4])),
        (quote([2]), quote([-2])),
        ([allow_failure(unmapped(2))], [allow_failure(unmapped(-2))]),
    ],
)
def test_containers_are_rebuilt_with_their_types(expr, expected):
    result = visit_collection(expr, negate_even_ints, return_data=True)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.behaviour("UTIL-3")
def test_iterators_become_lists():
    result = visit_collection({"a": (n for n in (1, 2)), "b": iter((4,))}, negate_even_ints, return_data=True)
    assert result == {"a": [1, -2], "b": [-4]}


@pytest.mark.behaviour("UTIL-3")
def test_extra_fields_of_models_are_visited_and_kept():
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        x: int

    original = Open(x=2, more=4)
    result = visit_collection(original, negate_even_ints, return_data=True)
    assert (result.x, result.more) == (-2, -4)
    assert (original.x, original.more) == (2, 4)


@pytest.mark.behaviour("UTIL-4")
def test_files_are_handed_back_as_they_are():
    with tempfile.TemporaryFile() as binary, tempfile.NamedTemporaryFile("w+") as named:
        text = io.StringIO("a\nb\n")
        result = visit_collection([binary, named, text], lambda node: node, return_data=True)
        assert result[0] is binary
        assert result[1] is named
        assert result[2] is text
        assert text.read() == "a\nb\n"


@pytest.mark.behaviour("UTIL-4")
def test_an_object_that_reads_like_a_file_is_not_consumed():
    class Stream:
        def read(self): ...

        def __iter__(self):
            return self

        def __next__(self):
            raise AssertionError("consumed")

    stream = Stream()
    assert visit_collection(stream, lambda node: node, return_data=True) is stream


class ListSubclass(list):
    pass


PairOfInts = namedtuple("PairOfInts", "a b")


@pytest.mark.behaviour("UTIL-4")
@pytest.mark.parametrize(
    "leaf",
    [
        "text",
        b"bytes",
        Mock(),
        MagicMock(spec=list),
        Mock(spec=Model),
        Point,
        Model,
        ListSubclass([2]),
        defaultdict(list, a=2),
        Counter("a"),
        PairOfInts(2, 2),
        frozenset({2}),
        range(3),
    ],
    ids=lambda leaf: type(leaf).__name__,
)
def test_leaves_are_not_looked_into(leaf):
    visits = Visits()
    assert visit_collection([leaf], visits, return_data=True)[0] is leaf
    assert len(visits) == 2


# Models and dataclasses -------------------------------------------------------------------------------------------


@pytest.mark.behaviour("UTIL-5")
def test_private_attributes_are_kept_but_not_visited():
    class Private(BaseModel):
        x: int
        _hidden: int = PrivateAttr(default=2)

    original = Private(x=4)
    original._hidden = 8
    visits = Visits()
    result = visit_collection(original, visits, return_data=True)
    assert 8 not in visits
    assert result._hidden == 8


@pytest.mark.behaviour("UTIL-5")
def test_immutable_models_and_field_aliases_work():
    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True)
        x: int = Field(alias="ex")

    result = visit_collection(Frozen(ex=2), negate_even_ints, return_data=True)
    assert result == Frozen(ex=-2)


@pytest.mark.behaviour("UTIL-5")
def test_values_of_default_factories_and_the_set_fields_are_kept():
    class Defaults(BaseModel):
        x: int
        key: object = Field(default_factory=object)

    original = Defaults(x=2)
    result = visit_collection(original, negate_even_ints, return_data=True)
    assert result.key is original.key
    assert result.model_fields_set == {"x"}


def test_models_with_a_root_and_without_validation_work():
    class Numbers(RootModel[list[int]]):
        pass

    assert visit_collection(Numbers([2]), negate_even_ints, return_data=True).root == [-2]
    assert visit_collection(Model.model_construct(x=2), negate_even_ints, return_data=True).x == -2
    partly = Model.model_construct(y=2)
    del partly.__dict__["y"]
    assert visit_collection(partly, negate_even_ints, return_data=True).__dict__ == {}


def test_dataclasses_are_copied_without_calling_their_constructor():
    @dataclasses.dataclass
    class Odd:
        given: dataclasses.InitVar[int]
        made: int = dataclasses.field(init=False)
        missing: int = dataclasses.field(init=False)
        calls: list = dataclasses.field(default_factory=list)

        def __post_init__(self, given):
            self.made = given
            self.calls.append("post_init")

    original = Odd(2)
    original.note = "not a field"
    result = visit_collection(original, negate_even_ints, return_data=True)
    assert result.made == -2
    assert result.calls == ["post_init"]
    assert result.note == "not a field"
    assert not hasattr(result, "missing")
    assert original.made == 2


# Depth, replacement, context, annotations, stopping ---------------------------------------------------------------


@pytest.mark.behaviour("UTIL-6")
@pytest.mark.parametrize(
    ("max_depth", "expected"),
    [(0, [[2, [2, [2]]]]), (1, [[2, [2, [2]]], 2, [2, [2]]]), (2, [[2, [2, [2]]], 2, [2, [2]], 2, [2]])],
)
def test_max_depth_limits_the_levels_below_the_given_node(max_depth, expected):
    visits = Visits()
    visit_collection([2, [2, [2]]], visits, max_depth=max_depth)
    assert visits == expected


@pytest.mark.behaviour("UTIL-6")
def test_a_negative_max_depth_means_all_levels():
    deep = [[[[[2]]]]]
    for max_depth in (-1, -7):
        assert visit_collection(deep, negate_even_ints, return_data=True, max_depth=max_depth) == [[[[[-2]]]]]


@pytest.mark.behaviour("UTIL-6")
def test_what_lies_below_max_depth_is_kept():
    inner = [2]
    result = visit_collection([2, inner], negate_even_ints, return_data=True, max_depth=1)
    assert result == [-2, [2]]
    assert result[1] is inner


@pytest.mark.behaviour("UTIL-7")
def test_what_the_visit_function_returns_is_what_is_looked_into():
    def expand(node):
        return [1, 2] if node == "expand" else negate_even_ints(node)

    assert visit_collection(["expand"], expand, return_data=True) == [[1, -2]]


@pytest.mark.behaviour("UTIL-8")
def test_changes_of_the_context_are_seen_by_children_only():
    seen = []

    def visit(node, context):
        seen.append((node, context["depth"]))
        context["depth"] += 1
        return node

    context = {"depth": 0}
    visit_collection([1, [2, 3], 4], visit, context=context)
    assert seen == [([1, [2, 3], 4], 0), (1, 1), ([2, 3], 1), (2, 2), (3, 2), (4, 1)]
    assert context == {"depth": 0}


@pytest.mark.behaviour("UTIL-8")
def test_the_context_holds_the_nearest_annotation_around_a_node():
    seen = {}

    def visit(node, context):
        if isinstance(node, int):
            seen[node] = context.get("annotation")
        return node

    visit_collection([1, quote([2]), unmapped(quote(3)), 4], visit, context={})
    assert seen == {1: None, 2: quote([2]), 3: quote(3), 4: None}


@pytest.mark.behaviour("UTIL-9")
def test_annotations_can_be_removed():
    expr = [quote(2), {"a": unmapped(allow_failure([2]))}, 3]
    result = visit_collection(expr, negate_even_ints, return_data=True, remove_annotations=True)
    assert result == [-2, {"a": [-2]}, 3]


@pytest.mark.behaviour("UTIL-9")
def test_annotations_at_max_depth_are_removed_too():
    result = visit_collection(
        [quote(unmapped(2))], negate_even_ints, return_data=True, max_depth=1, remove_annotations=True
    )
    assert result == [2]


@pytest.mark.behaviour("UTIL-9")
def test_stop_visiting_keeps_the_node_as_it_is():
    stopped = {"a": 2}

    def visit(node):
        if node is stopped:
            raise StopVisiting
        return negate_even_ints(node)

    result = visit_collection([2, stopped], visit, return_data=True)
    assert result == [-2, {"a": 2}]
    assert result[1] is stopped


@pytest.mark.behaviour("UTIL-10")
@pytest.mark.parametrize("return_data", [True, False])
def test_a_container_that_holds_itself_is_refused_by_name(return_data):
    looped = {"a": [1]}
    looped["a"].append(looped)
    with pytest.raises(ValueError, match=r"dict holds itself.*quote"):
        visit_collection(looped, lambda node: node, return_data=return_data)


@pytest.mark.behaviour("UTIL-10")
def test_a_container_that_occurs_twice_is_no_cycle():
    shared = [2]
    assert visit_collection([shared, shared], negate_even_ints, return_data=True) == [[-2], [-2]]


# Properties -------------------------------------------------------------------------------------------------------

atoms = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3)
annotation_types = st.sampled_from([quote, unmapped, allow_failure])


def containers(children):
    hashable = st.integers() | st.text(max_size=3)
    return (
        st.lists(children, max_size=4)
        | st.lists(children, max_size=4).map(tuple)
        | st.sets(hashable, max_size=4)
        | st.dictionaries(hashable, children, max_size=4)
        | st.dictionaries(hashable, children, max_size=4).map(OrderedDict)
        | st.builds(Point, children, children)
        | st.builds(FrozenPoint, children)
        | st.builds(Model.model_construct, x=children, y=children)
        | st.tuples(annotation_types, children).map(lambda pair: pair[0](pair[1]))
    )


collections = st.recursive(atoms, containers, max_leaves=20)


@given(collections)
def test_visiting_without_change_gives_an_equal_collection(expr):
    result = visit_collection(expr, lambda node: node, return_data=True)
    assert result == expr
    assert type(result) is type(expr)


@given(collections)
def test_visits_with_and_without_return_data_see_the_same_nodes(expr):
    with_data, without_data = Visits(), Visits()
    visit_collection(expr, with_data, return_data=True)
    visit_collection(expr, without_data)
    assert with_data == without_data


@given(collections)
def test_no_annotation_is_left_when_they_are_removed(expr):
    bare = visit_collection(expr, lambda node: node, return_data=True, remove_annotations=True)
    visits = Visits()
    visit_collection(bare, visits)
    assert not [node for node in visits if isinstance(node, BaseAnnotation)]


# isiterable -------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("UTIL-11", "TASK-MAP-2")
@pytest.mark.parametrize(
    "obj", [[1], (), {1}, {"a": 1}, range(2), (n for n in [1]), iter([1]), frozenset(), map(str, [1]), ListSubclass()]
)
def test_collections_and_streams_are_iterable(obj):
    assert isiterable(obj)


@pytest.mark.behaviour("UTIL-11", "TASK-MAP-3")
@pytest.mark.parametrize(
    "obj",
    [
        "text",
        b"bytes",
        bytearray(b"x"),
        1,
        1.5,
        True,
        None,
        ValueError("x"),
        ExceptionGroup("x", [ValueError()]),
        io.StringIO("a"),
        io.BytesIO(b"a"),
        Point(1),
        Model(x=1),
        MagicMock(),
        unmapped([1]),
        lambda: 0,
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_texts_numbers_exceptions_files_and_records_are_not_iterable(obj):
    assert not isiterable(obj)


@pytest.mark.behaviour("UTIL-11")
def test_an_open_file_is_not_iterable(tmp_path):
    with open(tmp_path / "file", "w+") as file:
        assert not isiterable(file)
