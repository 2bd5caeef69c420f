"""The conformance suite names behaviours in an attribute, because users of it do not have our marker."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    behaviours = getattr(getattr(item, "function", None), "behaviours", ())
    if behaviours:
        item.add_marker(pytest.mark.behaviour(*behaviours))
