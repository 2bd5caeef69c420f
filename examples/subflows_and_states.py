"""Subflows, states, and what a failure means for what comes after it.

python examples/subflows_and_states.py

Each chapter of a book is a subflow. One of them cannot be set: its state says so, the book goes on without it, and a
hook is told at the end. Nothing here raises, because every call that may fail asks for a state instead of a value.
"""

from typing import Any

from core_engine import State, flow, tags, task
from core_engine.states import Failed

CHAPTERS = {"Loomings": "Call me Ishmael.", "The Carpet-Bag": "I stuffed a shirt or two.", "The Lost One": ""}


@task
def proofread(text: str) -> str:
    if not text:
        raise ValueError("there is nothing to read")
    return text.strip()


@task
def typeset(title: str, text: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{text}\n"


@task
def tidy_desk() -> None:
    """Runs whatever became of the text: it waits for nothing."""


@flow(flow_run_name="chapter-{title}")
def set_chapter(title: str, text: str) -> Any:
    page = typeset.submit(title, proofread.submit(text))
    tidy_desk.submit()
    return page.wait()  # the state of a task run: the chapter comes to what this came to


def tell_the_author(flow: Any, flow_run: Any, state: State) -> None:
    print(f"The author is told about {flow_run.name}: {state.message}")


@flow(on_failure=[tell_the_author])
def set_book(chapters: dict[str, str] = CHAPTERS) -> Any:
    with tags("book"):
        states = {title: set_chapter(title, text, return_state=True) for title, text in chapters.items()}
    for title, state in states.items():
        print(f"{title}: {state.name}")
    pages = [state.result().result() for state in states.values() if state.is_completed()]
    print("\n" + "\n".join(pages))
    missing = [title for title, state in states.items() if not state.is_completed()]
    if missing:
        return Failed(message=f"{len(missing)} of {len(states)} chapters could not be set: {', '.join(missing)}")
    return pages


if __name__ == "__main__":
    set_book(return_state=True)
