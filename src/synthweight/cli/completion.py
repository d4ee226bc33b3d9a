"""Completion in the shell: Hydra's own, for a program with commands."""

import argparse
import os

from .parser import HYDRAS, parser


def run(options: argparse.Namespace) -> None:
    """`synthweight -sc install=bash` (or uninstall, query; zsh, fish): what Hydra's scripts call."""
    from .hydra_app import ROOTS, hydra_app

    root = "config"
    if any(word.startswith("query=") for word in options.arguments):
        typed = os.environ.get("COMP_LINE", "").split(" ")
        words = [word for word in typed if word]
        if len(words) < 2 or (len(words) == 2 and typed[-1]):
            print(" ".join(commands()))
            return
        command, first = words[1], 2
        root = ROOTS.get(command, root)
        if command not in HYDRAS:  # a sweep's name, then overrides
            from ..config.schema import SWEEPS

            if len(words) == 2 or (len(words) == 3 and typed[-1]):
                print(" ".join(sorted(path.stem for path in SWEEPS.glob("*.yaml"))))
                return
            first = 3
        os.environ["COMP_LINE"] = " ".join([words[0], *words[first:], *([""] if not typed[-1] else [])])
    hydra_app(root, options.arguments)


def commands() -> list[str]:
    """The names of all commands."""
    found = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return list(found.choices)
