"""An async flow: async tasks that overlap, a sync task among them, and an async subflow.

python examples/async_flow.py

It asks a small server, which the flow itself runs on this machine, so that it works without a network.

Async tasks share one event loop, which is not the flow's: at most ten of these requests are under way at a time, by a
semaphore that they share. A sync task blocks the flow's loop until it has ended, as any sync call in async code does.
So the flow awaits the answers first, and the server goes on answering meanwhile.
"""

import asyncio
from collections import Counter
from functools import cache

from core_engine import flow, task, unmapped


@cache
def ten_at_a_time() -> asyncio.Semaphore:
    return asyncio.Semaphore(10)


@task(retries=2, timeout_seconds=10)
async def ask(port: int, number: int) -> str:
    async with ten_at_a_time():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{number}\n".encode())
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
    return answer.decode().strip()


@task
def tally(answers: list[str]) -> dict[str, int]:
    return dict(Counter(answers))


@flow
async def ask_all(port: int, count: int) -> dict[str, int]:
    futures = await ask.map(unmapped(port), range(count))
    return tally([await future.result() for future in futures])


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = int(await reader.readline())
    await asyncio.sleep(0.02)
    writer.write(b"even\n" if number % 2 == 0 else b"odd\n")
    await writer.drain()
    writer.close()


@flow(log_prints=True)
async def survey(count: int = 50) -> dict[str, int]:
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answers = await ask_all(port, count)
    print(f"{count} answers: {answers}")
    return answers


if __name__ == "__main__":
    asyncio.run(survey())
