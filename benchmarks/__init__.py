"""What a task run costs, measured so that the figures can be believed.

- ``__main__``       ``python -m benchmarks``: runs the sections, writes JSON and the table of README.md
- ``plans``          how much of everything: full, quick, miniature
- ``budgets``        targets, and what would be unacceptable
- ``sections/``      what is measured: mapped, latency, features, shapes, logs, memory, shared_file, start
- ``contenders/``    who is measured: the engine's flows, bare code that records nothing, bare code that records
- ``worker``, ``processes``, ``interleaving``    each contender in a process of its own, one round of each in turn
- ``verification``   the store is read back after each round; a round that is not exact is void
- ``measuring``, ``rows``                         clocks, memory, medians; rows of figures
- ``report``, ``tables``, ``machine``            the JSON document, its tables, what it was measured on
- ``profile``, ``layers``, ``sampling``          ``python -m benchmarks.profile``: where the time of a task goes
- ``peers``          ``python -m benchmarks.peers``: other engines, in environments of their own
- ``calibration``    how fast this machine is just now, for the test in tests/benchmarks
"""
