"""`synthweight tables`, `figures` and `report`: what the rows say."""

import argparse
import re
import shlex
import sys
from pathlib import Path

from ..errors import UserError


def run(options: argparse.Namespace) -> None:
    """One of the three commands."""
    {"tables": show_tables, "figures": draw_figures, "report": write_report}[options.command](options)


def show_tables(options: argparse.Namespace) -> None:
    """Prints the table of a sweep, or writes or checks all that is published."""
    from ..config.schema import ROOT
    from ..reporting import publish, render

    if options.write or options.check:
        if options.file is not None or options.partial:
            raise UserError(
                "tables --write and --check take no name: they do all that outputs/published.yaml lists"
            )
        published = publish.Published.read(ROOT / "outputs")
        if options.write:
            print(*published.write_tables(), sep="\n")
        else:
            published.check()
            print(f"{published}: equal to the rows")
    elif options.file is None:
        raise UserError("tables needs the name of a sweep: synthweight tables demo")
    else:
        table = publish.make_table(options.file, options.overrides, options.partial)
        kind = options.format or ("rich" if sys.stdout.isatty() else "md")
        print(render.FORMATS[kind](table, None), end="")


def draw_figures(options: argparse.Namespace) -> None:
    """Draws the figures of a sweep, or all that are published, and prints their files."""
    from ..config.schema import ROOT
    from ..reporting import plotting, publish

    if options.file is None:
        if options.overrides or options.partial:
            raise UserError(
                "figures without a name draws all that outputs/published.yaml lists, and takes no option"
            )
        for stem, command, chart in publish.Published.read(ROOT / "outputs").charts():
            print(
                *plotting.write_figure(chart, ROOT / "outputs" / "figures", stem, command),
                sep="\n",
                flush=True,
            )
        return
    name = Path(options.file).stem
    folder, charts = publish.make_charts(options.file, options.overrides, name, options.partial)
    for stem, chart in charts.items():
        command = shlex.join(["synthweight", "figures", options.file, *options.overrides])
        print(*plotting.write_figure(chart, folder / "figures", stem, command), sep="\n", flush=True)


def write_report(options: argparse.Namespace) -> None:
    """Writes the page of a sweep or of a run, and prints its file."""
    from ..atomic_io import atomic_path
    from ..reporting import publish, run_page, sweep_page

    if re.fullmatch("[0-9a-f]{16}", options.file):
        if options.partial:
            raise UserError(f"{options.file} is a run: --partial is an option of a sweep's report")
        store, paths = publish.open_store(options.overrides)
        page, name = run_page.run_page(store, options.file, paths), options.file
    else:
        report = publish.sweep_report(options.file, *options.overrides)
        rows, store, name = report.rows(options.partial), report.plan.store, Path(options.file).stem
        page = sweep_page.sweep_page(rows, report.file, report.table, report.figures)
    path = Path(options.html) if options.html else store.root / "reports" / f"{name}.html"
    with atomic_path(path) as part:
        part.write_text(page, encoding="utf-8")
    print(path)
