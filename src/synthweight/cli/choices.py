"""`synthweight losses`, `datasets` and `models`: one line for each file of conf/, from its first comment."""

import argparse

GROUPS = {"losses": "loss", "datasets": "dataset", "models": "model"}


def run(options: argparse.Namespace) -> None:
    """Prints the choices of a group with their descriptions."""
    from ..config.schema import CONF

    files = sorted((CONF / GROUPS[options.command]).glob("*.yaml"))
    width = max(len(path.stem) for path in files)
    for path in files:
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        print(
            f"{path.stem:<{width}}  {first.removeprefix('#').strip() if first.startswith('#') else ''}".rstrip()
        )
