"""What holds for every test: see the modules of ``tests/support``, one concern each."""

pytest_plugins = [
    "tests.support.home",
    "tests.support.leaks",
    "tests.support.behaviours",
    "tests.support.generated",
    "tests.support.levels",
]
