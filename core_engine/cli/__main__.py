"""``python -m core_engine.cli``."""

from core_engine.cli import main

main()
