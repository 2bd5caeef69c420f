"""The tests, in the shape of the packages they test.

- ``conftest.py`` and ``support/``: every test gets a home of its own, and none may leave threads or processes behind;
  tests name the behaviours they hold with ``@pytest.mark.behaviour("TASK-RETRY-3")``.
- ``packaging/``: what is installed and what an import costs.
- ``typing/``: checked by mypy, not run.
"""
