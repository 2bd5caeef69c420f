"""The first flow of the README: a map, a task that takes its futures, and a result.

python examples/first_flow.py
core-engine run examples/first_flow.py -p 'texts=["one", "two words"]'
"""

from core_engine import flow, task

TEXTS = ["to be or not to be", "that is the question"]


@task
def count_words(text: str) -> int:
    return len(text.split())


@task
def most(counts: list[int]) -> int:
    return max(counts)


@flow(log_prints=True)
def words(texts: list[str] = TEXTS) -> int:
    counts = count_words.map(texts)
    longest = most.submit(counts).result()
    print(f"the longest of {len(texts)} texts has {longest} words")
    return longest


if __name__ == "__main__":
    words()
