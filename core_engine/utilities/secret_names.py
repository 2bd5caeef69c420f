"""Which names of parameters are taken for secrets, whose values are shown masked."""

from __future__ import annotations

import re

SECRET_MASK = "********"

_SECRET_NAME = re.compile(r"(^|_)(tokens?|secrets?|passwords?|passwd|passphrase|api_?key|private_?key)$|password", re.I)


def is_secret_name(name: str) -> bool:
    """Returns whether a parameter's name says that its value is secret, such as ``api_token`` or ``db_password``."""
    return _SECRET_NAME.search(name) is not None
