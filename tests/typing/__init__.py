"""What type checkers must know about the public names. Checked by mypy in `make check`, never run."""
