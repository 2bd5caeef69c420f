import re
from collections.abc import Callable

from core_engine.page.render import render_page
from tests.page.conftest import make_page

# Played in the page after its own script: each is what a reader would do, and what comes of it ends up in the document.
HOVER = """
const box = document.getElementById("lanes").getBoundingClientRect();
const point = { clientX: box.left + box.width * %s, clientY: box.top + %s, bubbles: true, button: 0, pointerId: 1 };
document.getElementById("lanes").dispatchEvent(new PointerEvent("pointermove", point));
"""
ZOOM = """
const lanes = document.getElementById("lanes"), box = lanes.getBoundingClientRect();
lanes.setPointerCapture = () => {};
for (const [kind, at] of [["pointerdown", 0.5], ["pointermove", 0.52], ["pointerup", 0.54]]) {
  const point = { clientX: box.left + box.width * at, clientY: box.top + 9, button: 0, pointerId: 1 };
  lanes.dispatchEvent(new PointerEvent(kind, point));
}
"""


def with_script(html: str, script: str) -> str:
    return html.replace("</body>", f"<script>{script}</script></body>")


def attribute(dom: str, pattern: str) -> str:
    found = re.search(pattern, dom, re.DOTALL)
    assert found, f"{pattern} is not in the document"
    return found[1]


def test_the_script_runs_and_leaves_the_drawing_of_the_whole_run(rendered_dom: Callable[[str], str]) -> None:
    html = render_page(make_page(runs=10_000, lanes=8))
    dom = rendered_dom(html)
    assert '<html lang="en" class="interactive">' in dom
    path = r'id="lanes".*?<path class="t0 completed" d="([^"]*)"'
    assert attribute(dom, path) == attribute(html, path)


def test_hovering_over_a_failed_run_names_it(rendered_dom: Callable[[str], str]) -> None:
    # Run 7 is the second of the lane at the bottom of four, which is 28 pixels high as the others.
    html = with_script(render_page(make_page(runs=40, lanes=4)), HOVER % (1.4 / 11, 3 * 28 + 14))
    tip = attribute(rendered_dom(html), r'<div class="tip" id="tip"[^>]*>(.*?</div>)</div>')
    for text in ("sum up-7", "task sum up", "Failed", "0.00100 s to 0.00150 s", "on worker-3"):
        assert text in tip


def test_dragging_zooms_in_to_single_runs(rendered_dom: Callable[[str], str]) -> None:
    html = with_script(render_page(make_page(runs=10_000, lanes=3)), ZOOM)
    dom = rendered_dom(html)
    path = r'id="lanes".*?<path class="t0 completed" d="([^"]*)"'
    zoomed, whole = attribute(dom, path), attribute(html, path)
    assert 0 < zoomed.count("M") < whole.count("M") / 10
    assert '<button type="button" id="zoom-out">' in dom
