import pytest

from core_engine.utilities.docstrings import parameter_descriptions


@pytest.mark.behaviour("FLOW-PARAM-15")
def test_the_args_section_describes_parameters():
    def f():
        """Does things.

        It has more to say: a lot.

        Args:
            x: the first
            y (int, optional): the second: with a colon
            *args: the rest
            **kwargs (dict): the named rest

        Returns:
            z: not a parameter
        """

    assert parameter_descriptions(f) == {
        "x": "the first",
        "y": "the second: with a colon",
        "args": "the rest",
        "kwargs": "the named rest",
    }


@pytest.mark.behaviour("FLOW-PARAM-15")
def test_continuation_lines_are_kept():
    def f():
        """Does things.

        Args:
            x: begins here
                and goes on
                - with a list
                  that is indented

                after an empty line
            y:
                begins on its own line
        """

    assert parameter_descriptions(f) == {
        "x": "begins here\nand goes on\n- with a list\n  that is indented\n\nafter an empty line",
        "y": "begins on its own line",
    }


@pytest.mark.parametrize("title", ["Args", "Arguments", "Parameters", "Params"])
def test_the_section_has_several_titles(title):
    def f(): ...

    f.__doc__ = f"Does.\n\n    {title}:\n        x: the first\n    "
    assert parameter_descriptions(f) == {"x": "the first"}


@pytest.mark.parametrize("docstring", [None, "", "Does things.", "Args:", "Args: x", "Args:\n\n    no entry here"])
def test_without_entries_there_are_no_descriptions(docstring):
    def f(): ...

    f.__doc__ = docstring
    assert parameter_descriptions(f) == {}
