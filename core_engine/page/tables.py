"""The page's head, its table of tasks, and what failed."""

from __future__ import annotations

from math import log10

from core_engine.page.format import count, duration, escape, moment, percent, rate
from core_engine.page.model import KINDS, Failure, RunFacts, RunPage, TaskSummary, Timeline
from core_engine.page.timeline import colour_class

GLYPHS = {"completed": "✓", "cached": "✓", "failed": "✕", "cancelled": "⊘", "running": "▶", "waiting": "…"}
SPARK_BINS = 24
# A fact with more characters than these gets a line of its own.
WIDE_FACT = 36


def render_head(page: RunPage) -> str:
    """Returns the run's name and state, its figures, and its facts."""
    facts = page.facts
    message = f'<p class="message">{escape(facts.message)}</p>' if facts.message else ""
    details = "".join(
        f"<div{' class=wide' if len(value) > WIDE_FACT else ''}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.facts
    )
    return (
        "<header>"
        f'<p class="eyebrow">flow run <span class="id">{escape(facts.run_id)}</span></p>'
        f"<h1>{escape(facts.flow_name)} <span>{escape(facts.run_name)}</span></h1>"
        f'<p class="outcome"><span class="badge {facts.state_kind}">{GLYPHS[facts.state_kind]} '
        f"{escape(facts.state_name)}</span>{_history(facts)}</p>{message}"
        f"{_figures(page)}<dl>{details}</dl></header>"
    )


def _history(facts: RunFacts) -> str:
    steps = " → ".join(
        f"{escape(name)} <small>{'' if number == 0 else '+' + duration(offset)}</small>"
        for number, (name, _, offset) in enumerate(facts.states)
    )
    return f'<span class="history">{moment(facts.started)}&ensp;{steps}</span>'


def _figures(page: RunPage) -> str:
    seconds = page.facts.seconds
    busy = sum(task.busy_seconds for task in page.tasks)
    failed = page.count("failed")
    figures = [
        (duration(seconds), "from start to end" if page.facts.state_kind != "running" else "so far", ""),
        (count(page.total), "task runs", ""),
        (rate(page.total, seconds), "task runs a second", ""),
        (count(failed), "failed", "bad" if failed else ""),
        (count(page.count("cached")), "cached", ""),
        (f"{busy / seconds:.1f}" if seconds else "\u2013", "ran at once, on average", ""),
    ]
    cells = "".join(f'<li class="{mark}"><b>{value}</b><span>{label}</span></li>' for value, label, mark in figures)
    return f'<ul class="figures">{cells}</ul>'


def render_tasks(tasks: list[TaskSummary], timeline: Timeline) -> str:
    """Returns the table of tasks: outcomes as counts and as a bar, and how durations are spread."""
    numbers = {name: number for number, name in enumerate(timeline.tasks)}
    kinds = [kind for kind in KINDS if kind in ("completed", "failed") or any(task.counts[kind] for task in tasks)]
    heads = "".join(f'<th scope="col" class="number">{kind}</th>' for kind in kinds)
    rows = "".join(_task_row(task, kinds, numbers.get(task.name, 0)) for task in tasks)
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">task</th><th scope="col" class="number">runs</th>'
        f'<th scope="col" class="share-head">outcome</th>{heads}<th scope="col" class="number">median</th>'
        '<th scope="col" class="number">95%</th><th scope="col" class="number">longest</th>'
        '<th scope="col" class="number">in all</th><th scope="col"><span class="spark-head">durations</span></th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _task_row(task: TaskSummary, kinds: list[str], number: int) -> str:
    cells = "".join(
        f'<td class="number{" bad" if kind == "failed" and task.counts[kind] else ""}'
        f'{" none" if not task.counts[kind] else ""}">{count(task.counts[kind])}</td>'
        for kind in kinds
    )
    bar = "".join(
        f'<i class="{kind}" style="flex-grow:{task.counts[kind]}" title="{kind}: {count(task.counts[kind])}, '
        f'{percent(task.counts[kind], task.total)}"></i>'
        for kind in KINDS
        if task.counts[kind]
    )
    longest = task.durations[-1] if task.durations else None
    return (
        f'<tr><th scope="row"><i class="swatch {colour_class(number)}"></i>{escape(task.name)}</th>'
        f'<td class="number">{count(task.total)}</td><td><div class="share">{bar}</div></td>{cells}'
        f'<td class="number">{duration(task.quantile(0.5))}</td><td class="number">{duration(task.quantile(0.95))}</td>'
        f'<td class="number">{duration(longest)}</td>'
        f'<td class="number">{duration(task.busy_seconds if task.durations else None)}</td>'
        f"<td>{_spark(task.durations, number)}</td></tr>"
    )


def _spark(durations: list[float], number: int) -> str:
    """Returns a small histogram of the durations over the powers of ten that they span; nothing for fewer than five."""
    if len(durations) < 5:
        return ""
    low = log10(max(durations[0], 1e-6))
    high = max(log10(max(durations[-1], 1e-6)), low + 0.3)
    bins = [0] * SPARK_BINS
    for value in durations:
        place = (log10(max(value, 1e-6)) - low) / (high - low)
        bins[min(SPARK_BINS - 1, int(place * SPARK_BINS))] += 1
    most = max(bins)
    bars = "".join(f"M{4 * bin} 20h3v-{max(1.0, 18 * many / most):.1f}h-3z" for bin, many in enumerate(bins) if many)
    title = f"{duration(durations[0])} to {duration(durations[-1])}, logarithmic"
    return (
        f'<svg class="spark" viewBox="0 0 96 20" width="96" height="20"><title>{title}</title>'
        f'<path class="{colour_class(number)} completed" d="{bars}"/></svg>'
    )


def render_failures(failures: list[Failure], total: int) -> str:
    """Returns the first failures with what they said, and how many more there are."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(failure.run_name)}</th><td class='bad'>{escape(failure.state_name)}</td>"
        f"<td class='said'>{escape(failure.message)}</td></tr>"
        for failure in failures
    )
    more = f"<p class='more'>and {count(total - len(failures))} more</p>" if total > len(failures) else ""
    return f'<div class="scroll"><table class="failures-table"><tbody>{rows}</tbody></table></div>{more}'
