"""The command line, ``core-engine``.

    app.py           the command itself: global options, and which module each sub-command is in
    run.py           run a flow, with live progress (progress.py, bars.py)
    runs.py          list and delete runs
    show.py          one run: its states, its task runs, its times
    logs.py          what a run logged
    cancel.py        ask the process that executes a run to cancel it
    pause.py         have nothing new start in a run; resume.py: have it go on
    deploy.py        name a flow, for runs that are created for later; run_later.py: create one
    page.py          one run as an HTML page
    settings.py      what is configured and where it comes from (profile_file.py)
    database.py      where the database is, and its care
    version.py       versions
    errors.py        how errors end a command; its exit codes
    output.py        tables for people, JSON for programs
    values.py        how parameters, times and durations are read from the command line

A sub-command's module is imported when it is called, and heavy libraries inside the functions that need them, so
that the command starts at once.
"""

from __future__ import annotations


def main() -> None:
    """Runs the command line with the arguments of the process, and exits."""
    from core_engine.cli.app import app

    app(prog_name="core-engine")
