// Zoom and hover for the timeline. The page has drawn the whole run already; this draws a part of it again, with
// neighbours merged at the resolution of that part, and says what lies under the pointer.
(() => {
  "use strict";
  const FIELDS = 6, START = 0, LENGTH = 1, TASK = 2, STATE = 3, INDEX = 4, COUNT = 5;
  const source = document.getElementById("timeline-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const byId = (id) => document.getElementById(id);
  const lanes = byId("lanes"), axis = byId("axis"), tip = byId("tip"), reset = byId("zoom-out");
  const failures = byId("failures"), overview = byId("activity");
  const svg = lanes.querySelector("svg"), group = svg.querySelector("g"), brush = lanes.querySelector(".brush");
  const shown = overview.querySelector(".window");
  const whole = { from: 0, to: data.total, drawing: group.innerHTML, ticks: axis.innerHTML };
  const strip = failures && failures.querySelector("path");
  if (strip) whole.strip = strip.getAttribute("d");
  const isFailed = data.states.map(([, kind]) => kind === "failed");
  const laneOfRow = data.lanes.flatMap(([label, rows]) => Array(rows).fill(label));
  let view = { from: 0, to: data.total }, only = null, merged = [];

  const width = () => Math.max(300, lanes.clientWidth);
  const isWhole = () => view.from <= 0 && view.to >= data.total;

  function visible() {
    const resolution = (view.to - view.from) / width();
    return data.rows.map(([top, height, flat], row) => {
      const spans = [];
      let last = null;
      for (let at = 0; at < flat.length; at += FIELDS) {
        const start = flat[at + START], end = start + flat[at + LENGTH];
        if (end < view.from || start > view.to) continue;
        const task = flat[at + TASK], state = flat[at + STATE], count = flat[at + COUNT];
        if (last && last.task === task && last.state === state && !isFailed[state] && start - last.end < resolution) {
          last.end = Math.max(last.end, end);
          last.count += count;
        } else {
          const name = data.names[`${row}:${at / FIELDS}`];
          last = { start, end, task, state, count, name: name || `${data.tasks[task]}-${flat[at + INDEX]}` };
          spans.push(last);
        }
      }
      return { top, height, spans };
    });
  }

  function draw() {
    merged = visible();
    if (isWhole()) {
      group.innerHTML = whole.drawing;
      axis.innerHTML = whole.ticks;
      svg.setAttribute("viewBox", `0 0 1200 ${data.height}`);
      if (strip) strip.setAttribute("d", whole.strip);
    } else {
      drawPart();
    }
    reset.hidden = isWhole();
    shown.hidden = isWhole();
    shown.style.left = `${(100 * view.from) / data.total}%`;
    shown.style.width = `${(100 * (view.to - view.from)) / data.total}%`;
  }

  function drawPart() {
    const scale = width() / (view.to - view.from);
    const paths = new Map();
    let ticks = "";
    for (const { top, height, spans } of merged) {
      for (const span of spans) {
        const kind = data.states[span.state][1];
        const left = Math.max(-2, (span.start - view.from) * scale);
        const right = Math.min(width() + 2, (span.end - view.from) * scale);
        const [least, out] = kind === "failed" ? [3, 1.5] : [0.5, 0], wide = Math.max(right - left, least);
        const key = `${kind === "failed" ? 1 : 0}t${span.task % 8} ${kind}`;
        paths.set(key, (paths.get(key) || "") + `M${left.toFixed(1)} ${top - out}h${wide.toFixed(1)}v${height + 2 * out}h-${wide.toFixed(1)}z`);
        if (kind === "failed") ticks += `M${((1200 * (span.end - view.from)) / (view.to - view.from)).toFixed(1)} 0h2v12h-2z`;
      }
    }
    svg.setAttribute("viewBox", `0 0 ${width()} ${data.height}`);
    group.innerHTML = [...paths.keys()].sort().map((key) => `<path class="${key.slice(1)}" d="${paths.get(key)}"/>`).join("");
    if (strip) strip.setAttribute("d", ticks);
    axis.innerHTML = axisTicks();
  }

  function axisTicks() {
    const least = (view.to - view.from) / 8;
    let step = 1;
    for (let power = 1; step < least; power *= 10) for (const factor of [1, 2, 5]) if (step < least) step = factor * power;
    let html = "";
    for (let at = Math.ceil(view.from / step) * step; at < view.to - 0.04 * (view.to - view.from); at += step)
      html += `<span style="left:${((100 * (at - view.from)) / (view.to - view.from)).toFixed(3)}%">${time(at, step)}</span>`;
    return html;
  }

  function time(microseconds, step) {
    const digits = Math.max(0, 6 - Math.floor(Math.log10(Math.max(1, step))));
    return `${(microseconds / 1e6).toFixed(Math.min(6, digits))} s`;
  }

  function duration(microseconds) {
    if (microseconds < 1e3) return `${microseconds} µs`;
    if (microseconds < 1e6) return `${(microseconds / 1e3).toPrecision(3)} ms`;
    return `${(microseconds / 1e6).toFixed(2)} s`;
  }

  function timeAt(event, element) {
    const box = element.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  }

  // The span under the pointer, or the nearest within four pixels; a failed one before others.
  function spanAt(event) {
    const y = event.clientY - lanes.getBoundingClientRect().top;
    const at = view.from + timeAt(event, lanes) * (view.to - view.from);
    const reach = (4 * (view.to - view.from)) / width();
    const number = merged.findIndex((row) => y >= row.top - 1 && y <= row.top + row.height + 1);
    if (number < 0) return null;
    let best = null, nearest = Infinity;
    for (const span of merged[number].spans) {
      const distance = Math.max(0, span.start - at, at - span.end) - (isFailed[span.state] ? reach / 2 : 0);
      if (distance <= reach && distance < nearest) [best, nearest] = [span, distance];
    }
    return best && { ...best, lane: laneOfRow[number] };
  }

  function describe(span) {
    const [stateName] = data.states[span.state], many = span.count > 1, length = span.end - span.start;
    const step = Math.min(1e3, length / 10);
    const lines = [
      [many ? `${span.count} runs of ${data.tasks[span.task]}` : span.name, "name"],
      [many ? data.tasks[span.task] : `task ${data.tasks[span.task]}`, "task"],
      [stateName, isFailed[span.state] ? "state failed-text" : "state"],
      [`${time(span.start, step)} to ${time(span.end, step)}, ${duration(length)}`, "time"],
      [`on ${span.lane}`, "lane-name"],
    ];
    tip.replaceChildren(
      ...lines.map(([text, kind]) => Object.assign(document.createElement("div"), { textContent: text, className: kind })),
    );
    if (many) tip.append(Object.assign(document.createElement("div"), { textContent: "zoom in to see each", className: "lane-name" }));
  }

  function hover(event) {
    const span = spanAt(event);
    tip.hidden = !span;
    if (!span) return;
    describe(span);
    const right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
    tip.style.left = `${event.clientX + (right ? -tip.offsetWidth - 12 : 14)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`;
  }

  function show(from, to) {
    const least = 20;
    if (to - from < least) return;
    view = { from: Math.max(0, from), to: Math.min(data.total, to) };
    draw();
  }

  function brushOn(element, current) {
    let began = null;
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      began = timeAt(event, element);
      element.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    element.addEventListener("pointermove", (event) => {
      if (began === null) return;
      const now = timeAt(event, element);
      brush.hidden = element !== lanes;
      brush.style.left = `${100 * Math.min(began, now)}%`;
      brush.style.width = `${100 * Math.abs(now - began)}%`;
    });
    const end = (event) => {
      if (began === null) return;
      const now = timeAt(event, element), [low, high] = [Math.min(began, now), Math.max(began, now)];
      const { from, to } = current();
      began = null;
      brush.hidden = true;
      if ((high - low) * width() > 4) show(from + low * (to - from), from + high * (to - from));
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", () => { began = null; brush.hidden = true; });
    element.addEventListener("dblclick", () => show(0, data.total));
  }

  function zoom(factor, at = 0.5) {
    const middle = view.from + at * (view.to - view.from), length = Math.min(data.total, (view.to - view.from) * factor);
    const from = Math.min(Math.max(0, middle - at * length), data.total - length);
    show(from, from + length);
  }

  function move(share) {
    const length = view.to - view.from;
    const from = Math.min(Math.max(0, view.from + share * length), data.total - length);
    show(from, from + length);
  }

  const keys = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => show(0, data.total),
    Escape: () => show(0, data.total), ArrowLeft: () => move(-0.25), ArrowRight: () => move(0.25),
  };
  byId("timeline").addEventListener("keydown", (event) => {
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  lanes.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event, lanes));
  }, { passive: false });
  lanes.addEventListener("pointermove", hover);
  lanes.addEventListener("pointerleave", () => { tip.hidden = true; });
  brushOn(lanes, () => view);
  brushOn(overview, () => ({ from: 0, to: data.total }));
  reset.addEventListener("click", () => show(0, data.total));

  // A click on a task in the legend dims the others.
  document.querySelectorAll(".legend button[data-task]").forEach((button) => {
    button.addEventListener("click", () => {
      only = only === button.dataset.task ? null : button.dataset.task;
      document.querySelectorAll(".legend button[data-task]").forEach((other) => {
        other.setAttribute("aria-pressed", String(other.dataset.task === only));
      });
      const timeline = byId("timeline");
      for (let task = 0; task < 8; task++) timeline.classList.remove(`only-t${task}`);
      timeline.classList.toggle("only", only !== null);
      if (only !== null) timeline.classList.add(`only-t${only % 8}`);
    });
  });
  let pending = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(draw);
  });
  // What the reader zoomed into is not what a printed page should show.
  window.addEventListener("beforeprint", () => show(0, data.total));
  draw();
  document.documentElement.classList.add("interactive");
})();
