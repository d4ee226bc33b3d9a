"""`synthweight wandb`: finished rows and the dashboard, to W&B."""

import argparse

from ..errors import UserError


def run(options: argparse.Namespace) -> None:
    """`wandb sync` or `wandb dashboard`."""
    file, overrides = options.file, options.overrides
    if file is not None and "=" in file:  # without a sweep the first word is an override
        file, overrides = None, [file, *overrides]
    if options.action == "dashboard":
        from . import wandb_dashboard

        wandb_dashboard.dashboard(file, overrides, options.json)
        return
    if file is None or options.json:
        raise UserError(
            "wandb sync needs the name of a sweep, and has no --json: synthweight wandb sync demo"
        )
    from . import wandb_sync

    wandb_sync.sync(file, overrides)
