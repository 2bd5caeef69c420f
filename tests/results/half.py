"""A module with half of what a pickle library needs."""


def dumps(value: object) -> bytes:
    return repr(value).encode()
