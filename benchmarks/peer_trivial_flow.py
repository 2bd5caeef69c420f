"""``trivial_flow`` for another engine of the same vocabulary."""

from prefect import flow, task


@task
def add(left: int, right: int) -> int:
    return left + right


@flow
def trivial() -> int:
    return int(add(1, 2))


if __name__ == "__main__":
    raise SystemExit(0 if trivial() == 3 else 1)
