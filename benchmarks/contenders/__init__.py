"""Who is measured.

- ``base``      what a contender is
- ``engine``    flows of core_engine, and its commits, memory and log lines
- ``flows``     these flows, and what the store must hold after each
- ``bare``      code that records nothing: a loop, a thread pool, asyncio, ``logging``
- ``by_hand``   code that records by hand: a loop with SQLite, a chain of threads, plain commits
"""
