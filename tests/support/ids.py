"""Names for the cases of a parametrised test."""

import re


def stable_repr(value: object) -> str:
    """Return the repr without addresses: test processes that share the work must give a case the same name."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
