"""A flow with one task: what somebody's first script looks like. Run in a fresh process by the section ``start``."""

from core_engine import flow, task


@task
def add(left: int, right: int) -> int:
    return left + right


@flow
def trivial() -> int:
    return add(1, 2)


if __name__ == "__main__":
    raise SystemExit(0 if trivial() == 3 else 1)
