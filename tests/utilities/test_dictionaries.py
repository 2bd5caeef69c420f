import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_engine.utilities.collections import dict_to_flatdict, flatdict_to_dict, get_from_dict, remove_nested_keys

nested_dicts = st.dictionaries(
    st.text(max_size=3) | st.integers(),
    st.recursive(
        st.integers() | st.lists(st.integers(), max_size=2),
        lambda children: st.dictionaries(st.text(max_size=3), children, max_size=3),
    ),
    max_size=4,
)


@pytest.mark.behaviour("UTIL-13")
def test_a_flat_dictionary_has_paths_as_keys():
    assert dict_to_flatdict({"a": {"b": {1: 2}}, "c": [3]}) == {("a", "b", 1): 2, ("c",): [3]}


@pytest.mark.behaviour("UTIL-13")
@given(nested_dicts)
def test_flattening_and_nesting_are_inverse(original):
    assert flatdict_to_dict(dict_to_flatdict(original)) == original


@pytest.mark.behaviour("UTIL-13")
def test_empty_dictionaries_are_kept():
    assert dict_to_flatdict({"a": {}, "b": {"c": {}}}) == {("a",): {}, ("b", "c"): {}}
    assert flatdict_to_dict({}) == dict_to_flatdict({}) == {}


@pytest.mark.parametrize("flat", [{("a",): 1, ("a", "b"): 2}, {(): 1}])
def test_paths_that_contradict_each_other_are_refused(flat):
    with pytest.raises(ValueError, match="path"):
        flatdict_to_dict(flat)


@pytest.mark.behaviour("UTIL-13")
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("a", {"b": [{"c": 1}, (2, 3)]}),
        ("a.b[0].c", 1),
        ("a.b[1][0]", 2),
        ("a.b.1.1", 3),
        ("a.b[-1][-1]", 3),
        (["a", "b", 0, "c"], 1),
        ("a.missing", "default"),
        ("a.b[7]", "default"),
        ("a.b.name", "default"),
        ("a.b[0].c.d", "default"),
        ([], {"a": {"b": [{"c": 1}, (2, 3)]}}),
    ],
)
def test_a_path_leads_to_its_value_or_to_the_default(keys, expected):
    assert get_from_dict({"a": {"b": [{"c": 1}, (2, 3)]}}, keys, default="default") == expected


@pytest.mark.behaviour("UTIL-13")
def test_the_default_is_none():
    assert get_from_dict({}, "a.b") is None


@pytest.mark.behaviour("UTIL-13")
def test_keys_are_removed_at_every_level():
    original = {"a": 1, "b": {"a": 2, "c": {"a": 3, "d": 4}}}
    assert remove_nested_keys(["a"], original) == {"b": {"c": {"d": 4}}}
    assert original["a"] == 1


@pytest.mark.behaviour("UTIL-13")
@pytest.mark.parametrize("obj", [1, "a", None, ["a"], ({"a": 1},)])
def test_other_types_pass_unchanged(obj):
    assert remove_nested_keys(["a"], obj) is obj
