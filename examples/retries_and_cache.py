"""What fails is tried again; what was computed is not computed twice.

python examples/retries_and_cache.py

No station of this example answers at the first attempt, and the one in Atlantis never does. Each is asked again; what
fails for good is handed on as its exception, by `allow_failure`, and the flow makes do with it. Run it twice: the
second run finds the averages in the cache, for an hour.
"""

from datetime import timedelta
from statistics import mean

from core_engine import allow_failure, flow, task, task_input_hash
from core_engine.context import get_run_context

STATIONS = {"Bergen": [6.5, 8.0, 7.1], "Sevilla": [19.2, 21.5, 20.0], "Utrecht": [10.1, 11.9, 12.2]}
CITIES = ["Bergen", "Sevilla", "Atlantis"]


@task(retries=2, retry_delay_seconds=[0.05, 0.1])
def read_station(city: str) -> list[float]:
    if get_run_context().task_run.run_count == 1 or city not in STATIONS:
        raise ConnectionError(f"the station in {city} did not answer")
    return STATIONS[city]


@task(cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=1))
def average(temperatures: list[float] | Exception) -> float | None:
    return None if isinstance(temperatures, Exception) else round(mean(temperatures), 1)


@flow(log_prints=True)
def weather(cities: list[str] = CITIES) -> dict[str, float | None]:
    temperatures = read_station.map(cities)
    averages = average.map(allow_failure(temperatures))
    result = {city: future.result() for city, future in zip(cities, averages, strict=True)}
    print(result)
    return result


if __name__ == "__main__":
    weather()
