import copy
import pickle

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_engine.annotations import BaseAnnotation, allow_failure, quote, rewrap_like, unmapped, unwrap_all

ANNOTATIONS = [unmapped, allow_failure, quote]


@pytest.mark.behaviour("ANN-6")
@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_an_annotation_gives_its_value_back(annotation):
    value = object()
    assert annotation(value).value is value
    assert annotation(value).unwrap() is value


@pytest.mark.behaviour("ANN-6")
def test_rewrap_puts_another_value_under_the_same_annotation():
    rewrapped = allow_failure(1).rewrap("other")
    assert type(rewrapped) is allow_failure
    assert rewrapped.unwrap() == "other"


@pytest.mark.behaviour("ANN-6")
def test_annotations_are_equal_when_type_and_value_are():
    assert quote([1]) == quote([1])
    assert quote([1]) != quote([2])
    assert quote([1]) != unmapped([1])
    assert quote(1) != 1
    not_a_number = float("nan")
    assert quote(not_a_number) == quote(not_a_number)


@pytest.mark.behaviour("ANN-6")
@pytest.mark.parametrize("index", [0, -1, 10**9, "any", slice(None)])
def test_an_unmapped_value_is_the_same_at_every_index(index):
    value = object()
    assert unmapped(value)[index] is value


@pytest.mark.behaviour("ANN-6")
def test_a_quote_can_be_unquoted():
    value = object()
    assert quote(value).unquote() is value


def test_an_unmapped_value_is_not_an_endless_iterable():
    with pytest.raises(TypeError):
        iter(unmapped([1, 2]))


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_an_annotation_is_hashable_if_its_value_is(annotation):
    assert hash(annotation("x")) == hash(annotation("x"))
    assert {annotation("x"): 1}[annotation("x")] == 1
    with pytest.raises(TypeError):
        hash(annotation([]))


def test_an_annotation_cannot_be_changed():
    annotation = quote(1)
    with pytest.raises(AttributeError, match="rewrap"):
        annotation.value = 2
    with pytest.raises(AttributeError, match="cannot be"):
        del annotation.value
    assert annotation.value == 1


def test_the_repr_shows_type_and_value():
    assert repr(unmapped("a")) == "unmapped('a')"


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_an_annotation_survives_pickling_and_copying(annotation):
    original = annotation({"a": [1]})
    assert pickle.loads(pickle.dumps(original)) == original
    assert cloudpickle.loads(cloudpickle.dumps(original)) == original
    assert copy.deepcopy(original) == original
    assert copy.deepcopy(original).value is not original.value


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_an_annotation_has_no_dictionary(annotation):
    assert not hasattr(annotation(1), "__dict__")


@pytest.mark.behaviour("ANN-7")
def test_unwrap_all_takes_off_every_annotation_and_names_them():
    assert unwrap_all(unmapped(allow_failure(quote(3)))) == (3, {unmapped, allow_failure, quote})
    assert unwrap_all(quote(allow_failure(3))) == (3, {allow_failure, quote})
    assert unwrap_all(3) == (3, frozenset())


def test_unwrap_all_leaves_annotations_inside_a_collection_alone():
    bare, annotations = unwrap_all(unmapped([quote(1)]))
    assert bare == [quote(1)]
    assert annotations == {unmapped}


@pytest.mark.behaviour("ANN-7")
def test_rewrap_like_repeats_all_annotations_in_their_order():
    template = unmapped(allow_failure([1, 2]))
    assert rewrap_like(template, 1) == unmapped(allow_failure(1))
    assert rewrap_like(template, 1, leave_out=[unmapped]) == allow_failure(1)
    assert rewrap_like(template, 1, leave_out=ANNOTATIONS) == 1
    assert rewrap_like([1, 2], 1) == 1


@given(st.lists(st.sampled_from(ANNOTATIONS)), st.integers())
def test_whatever_the_nesting_unwrapping_reverses_rewrapping(annotations, value):
    wrapped = value
    for annotation in annotations:
        wrapped = annotation(wrapped)
    assert unwrap_all(wrapped) == (value, frozenset(annotations))
    assert rewrap_like(wrapped, value) == wrapped


def test_a_subclass_keeps_its_own_state_when_rewrapped():
    class Labelled(BaseAnnotation):
        __slots__ = ("label",)

        def __init__(self, value, label):
            super().__init__(value)
            object.__setattr__(self, "label", label)

        def rewrap(self, value):
            return type(self)(value, self.label)

    assert rewrap_like(quote(Labelled(1, "l")), 2).value.label == "l"
