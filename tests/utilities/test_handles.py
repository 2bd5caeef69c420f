import dataclasses
import subprocess
import sys
from collections import OrderedDict, defaultdict
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from core_engine.annotations import BaseAnnotation, allow_failure, quote, unmapped
from core_engine.utilities.handles import find_all, may_contain, resolve
from core_engine.utilities.structures import MOST_REMEMBERED_TYPES
from tests.support.ids import stable_repr


class Handle:
    def __init__(self, value=None):
        self.value = value


class SpecialHandle(Handle):
    pass


@dataclasses.dataclass
class Record:
    first: object
    second: object = 0


class Model(BaseModel):
    x: object
    y: object = 0


HANDLES = (Handle,)
HANDLES_AND_ANNOTATIONS = (Handle, BaseAnnotation)


def to_value(handle, annotations):
    return handle.value


def around(make_child):
    """Every way in which a value can be inside another."""
    return [
        make_child(),
        [make_child()],
        (1, make_child()),
        {make_child()},
        {"a": make_child()},
        {make_child(): 1},
        OrderedDict(a=make_child()),
        Record(make_child()),
        Record(1, [make_child()]),
        Model(x={"a": make_child()}),
        allow_failure(make_child()),
        unmapped([make_child()]),
        [[], {}, {"a": ({"b": [Record((1, make_child()))]},)}],
    ]


# may_contain --------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("DEP-1", "FUT-7")
@pytest.mark.parametrize("value", around(Handle))
def test_a_handle_is_found_wherever_it_is(value):
    assert may_contain(value, HANDLES)


@pytest.mark.parametrize("value", around(SpecialHandle))
def test_a_subclass_of_a_handle_is_found_too(value):
    assert may_contain(value, HANDLES)


@pytest.mark.parametrize("value", around(lambda: 5))
def test_where_there_is_no_handle_none_is_found(value):
    assert not may_contain(value, HANDLES)


@pytest.mark.parametrize("value", [5, "x", None, 1.5, b"", True, ..., object(), Mock(), Handle, range(3), len])
def test_leaves_hold_no_handles(value):
    assert not may_contain(value, HANDLES)
    assert not may_contain(value, HANDLES)  # again, with what was learnt


@pytest.mark.behaviour("DEP-12", "ANN-4")
@pytest.mark.parametrize("value", around(lambda: quote(Handle())))
def test_quotes_are_not_searched(value):
    assert not may_contain(value, HANDLES)
    assert find_all(value, HANDLES) == []


def test_annotations_are_found_when_asked_for():
    assert may_contain([quote(1)], HANDLES_AND_ANNOTATIONS)
    assert not may_contain([quote(1)], HANDLES)


def test_what_was_learnt_for_some_types_does_not_answer_for_others():
    assert not may_contain([Record(1)], HANDLES)
    assert may_contain([Record(1)], (Record,))
    assert not may_contain(Handle(), (Record,))
    assert may_contain(Handle(), HANDLES)


@pytest.mark.behaviour("FUT-9")
def test_iterators_and_subclasses_of_containers_are_not_consumed_or_searched():
    iterator = iter([Handle()])
    assert not may_contain(iterator, HANDLES)
    assert len(list(iterator)) == 1
    assert not may_contain(defaultdict(list, a=Handle()), HANDLES)


def test_cycles_and_shared_parts_are_searched_once():
    looped = [1]
    looped.append(looped)
    assert not may_contain(looped, HANDLES)
    looped.append(Handle())
    assert may_contain(looped, HANDLES)
    shared = []
    for _ in range(200):
        shared = [shared, shared]
    assert not may_contain(shared, HANDLES)


def test_nesting_deeper_than_the_stack_is_searched():
    deep = Handle()
    for _ in range(10_000):
        deep = [deep]
    assert may_contain(deep, HANDLES)


def test_a_dataclass_that_lacks_a_field_is_searched():
    @dataclasses.dataclass
    class Late:
        late: object = dataclasses.field(init=False)
        given: object = None

    assert may_contain(Late(Handle()), HANDLES)
    assert not may_contain(Late(1), HANDLES)


def test_more_types_than_are_remembered_are_searched_all_the_same():
    for number in range(MOST_REMEMBERED_TYPES + 10):
        leaf_type = type(f"Leaf{number}", (), {})
        assert not may_contain([leaf_type()], HANDLES)
    assert may_contain([Record(Handle())], HANDLES)


def test_models_are_recognised_only_once_pydantic_is_imported():
    script = (
        "import sys\n"
        "from core_engine.utilities.collections import may_contain\n"
        "class Handle: pass\n"
        "assert not may_contain([1, object()], (Handle,))\n"
        "assert 'pydantic' not in sys.modules\n"
        "from pydantic import BaseModel\n"
        "class Model(BaseModel):\n"
        "    x: object\n"
        "assert may_contain([Model(x=Handle())], (Handle,))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# find_all -----------------------------------------------------------------------------------------------------------


def test_handles_are_listed_from_left_to_right():
    a, b, c, d = Handle(), Handle(), Handle(), Handle()
    found = find_all([a, {"k": (b, [c])}, Record(1, d)], HANDLES)
    assert [item.handle for item in found] == [a, b, c, d]


@pytest.mark.behaviour("ANN-7")
def test_each_handle_comes_with_all_annotations_around_it():
    a, b, c = Handle(), Handle(), Handle()
    found = find_all([a, allow_failure([b, unmapped(c)])], HANDLES)
    assert [item.annotations for item in found] == [set(), {allow_failure}, {allow_failure, unmapped}]


def test_a_shared_part_is_listed_for_each_set_of_annotations():
    handle = Handle()
    shared = [handle]
    found = find_all([shared, allow_failure(shared), shared], HANDLES)
    assert [item.annotations for item in found] == [set(), {allow_failure}]


def test_handles_in_a_cycle_are_listed():
    looped = [Handle()]
    looped.append(looped)
    assert len(find_all(looped, HANDLES)) == 1


# resolve ------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("DEP-1", "FUT-7", "ANN-5")
@pytest.mark.parametrize(
    ("value", "bare"), list(zip(around(lambda: Handle("v")), around(lambda: "v"), strict=True)), ids=stable_repr
)
def test_handles_are_replaced_and_annotations_taken_off(value, bare):
    for annotation in (allow_failure, unmapped):
        if isinstance(bare, annotation):
            bare = bare.unwrap()
    result = resolve(value, HANDLES, to_value)
    assert result == bare
    assert type(result) is type(bare)


@pytest.mark.behaviour("DEP-1")
@pytest.mark.parametrize("value", [v for v in around(lambda: 5) if not isinstance(v, BaseAnnotation)])
def test_what_holds_no_handle_stays_the_same_object(value):
    assert resolve(value, HANDLES, to_value) is value


@pytest.mark.behaviour("DEP-1")
def test_only_changed_branches_are_copied():
    unchanged = {"big": [1, 2]}
    value = [unchanged, [Handle("v")]]
    result = resolve(value, HANDLES, to_value)
    assert result == [unchanged, ["v"]]
    assert result is not value
    assert result[0] is unchanged
    assert type(value[1][0]) is Handle


def test_a_shared_part_stays_shared():
    shared = [Handle("v")]
    result = resolve([shared, shared], HANDLES, to_value)
    assert result[0] is result[1]


@pytest.mark.behaviour("ANN-7")
def test_the_replacement_is_told_all_annotations_around_the_handle():
    calls = []
    resolve([Handle("v"), allow_failure(unmapped([Handle("w")]))], HANDLES, lambda h, a: calls.append((h.value, a)))
    assert calls == [("v", frozenset()), ("w", {allow_failure, unmapped})]


@pytest.mark.behaviour("ANN-4", "FUT-7")
def test_what_a_quote_holds_is_handed_over_as_it_is():
    inner = [Handle("v")]
    result = resolve({"a": quote(inner), "b": allow_failure(quote(inner))}, HANDLES, to_value)
    assert result["a"] is inner
    assert result["b"] is inner


@pytest.mark.behaviour("FUT-7", "FLOW-RET-12")
def test_annotations_can_be_kept_around_what_is_replaced():
    quoted, unchanged = quote([Handle("v")]), unmapped([1])
    result = resolve([quoted, unchanged, allow_failure([Handle("w")])], HANDLES, to_value, keep_annotations=True)
    assert result == [quoted, unmapped([1]), allow_failure(["w"])]
    assert result[0] is quoted
    assert result[1] is unchanged


@pytest.mark.behaviour("ANN-5")
def test_the_types_given_may_include_annotations():
    value = [unmapped(1), quote(2), allow_failure(Handle("v"))]
    assert resolve(value, HANDLES_AND_ANNOTATIONS, to_value) == [1, 2, "v"]


def test_what_takes_a_handles_place_is_not_searched_again():
    replacement = [Handle("inner")]
    assert resolve([Handle(replacement)], HANDLES, to_value)[0] is replacement


@pytest.mark.behaviour("UTIL-10")
def test_a_cycle_without_handles_is_left_alone():
    looped = [1]
    looped.append({"self": looped})
    result = resolve([looped, Handle("v")], HANDLES, to_value)
    assert result[0] is looped
    assert result[1] == "v"


@pytest.mark.behaviour("UTIL-10")
@pytest.mark.parametrize("place", ["outer", "inner"])
def test_a_cycle_with_a_handle_is_refused_by_name(place):
    inner: list = [1]
    outer: list = [inner]
    inner.append(outer)
    {"outer": outer, "inner": inner}[place].append(Handle("v"))
    with pytest.raises(ValueError, match=r"list holds itself.*quote"):
        resolve({"a": outer}, HANDLES, to_value)


def test_an_error_of_the_replacement_reaches_the_caller():
    def fail(handle, annotations):
        raise KeyError("upstream")

    with pytest.raises(KeyError, match="upstream"):
        resolve([Handle()], HANDLES, fail)


nested = st.recursive(
    st.integers() | st.text(max_size=2) | st.builds(Handle, st.integers()),
    lambda children: (
        st.lists(children, max_size=4)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), children, max_size=3)
        | st.builds(Record, children, children)
        | st.builds(allow_failure, children)
    ),
    max_leaves=15,
)


@given(nested)
def test_searching_finding_and_replacing_agree(value):
    found = find_all(value, HANDLES)
    assert may_contain(value, HANDLES) == bool(found)
    replaced = []
    result = resolve(value, HANDLES, lambda handle, annotations: replaced.append(handle) or handle.value)
    assert {id(item.handle) for item in found} == {id(handle) for handle in replaced}
    assert not may_contain(result, HANDLES_AND_ANNOTATIONS)
    if not may_contain(value, HANDLES_AND_ANNOTATIONS):
        assert result is value
