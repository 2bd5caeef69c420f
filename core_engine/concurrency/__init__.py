"""Waiting, threads, loops and interrupts, free of any notion of runs.

- ``waiting``     Latch and Outcome: one await that suspends on an event loop and blocks in a plain thread; ``step``
- ``threads``     worker threads, reused and grown on demand
- ``loops``       event loops in threads of their own: the engine's, and one for the async tasks of a flow run
- ``interrupts``  calling user code so that another thread may interrupt it, and only it
"""
