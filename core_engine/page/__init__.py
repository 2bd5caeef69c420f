"""A flow run as one HTML page that needs nothing but a browser: no network, no server, no other file.

model.py      what a page shows, as plain values
reading.py    fills them from the store
spans.py      packs and merges spans of time
timeline.py   draws the timeline; assets/timeline.js lets the reader zoom
tables.py     head, table of tasks, failures
charts.py     simple SVG charts for sections of your own
render.py     puts the page together
"""

from core_engine.page.render import render_run_page, write_run_page

__all__ = ["render_run_page", "write_run_page"]
