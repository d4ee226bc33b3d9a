"""Whether ours takes the steps that Hugging Face's Trainer takes, given the same batches: fp32, every
parameter.

    pip install -e '.[bench]'
    python benchmarks/same_training.py                                    330 synthetic texts of financial, two epochs
    python benchmarks/same_training.py --dropout                          with the encoder's own dropout, ours padded alone
    python benchmarks/same_training.py dataset=mrpc source.n=200 paths.data=FOLDER

The encoder's folder is copied with its dropout at 0; the Trainer, at its defaults (fp32, padded), takes our
batches at random in our order, so that all else is its own: loss, schedule, clipping, AdamW, head. Prints,
for ours padded and packed, the largest difference of a parameter beside the largest move of one, and the
tensors that differ most (the key's bias, whose gradient is nought but for rounding, moves by rounding alone).
Exits with 1 where a difference is above a fiftieth of the largest move. --dropout: it stays, and each step's
draws begin with a seed of that step in both.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import hf_trainer
import trials

SHOWN = 5  # tensors, those that differ most
MOST = 1 / 50  # of the largest move


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dropout", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(
            ["dataset=financial", "source.n=330", "optim.epochs=2", *options.overrides],
            Path(folder),
            options.dropout,
        )


def compare(overrides: list[str], folder: Path, dropout: bool) -> None:
    from synthweight.config import compose
    from synthweight.config.schema import CONF
    from synthweight.data import sources
    from synthweight.models import classifier, pretrained
    from synthweight.training.trainer import fit

    with compose.offline(CONF):
        named = compose.Composer("config").run([*trials.CE, *overrides])
        home = copied(pretrained.locate(named.model), folder / "encoder", dropout)
        asked = [
            *trials.CE,
            *overrides,
            f"model.path={home}",
            "trainer.batching=random",
            "trainer.precision=32",
        ]
        padding = {"padded": "true"} if dropout else {"padded": "true", "packed": "false"}
        jobs = {
            kind: compose.Composer("config").run([*asked, f"trainer.padding={on}"])
            for kind, on in padding.items()
        }
    if dropout:
        classifier.build = seeded(classifier.build)
    job = jobs["padded"]
    data = sources.build_run_data(job)
    training = trials.training(job, home, data, folder, ["test"])
    order = training.training_batches().batch_sampler
    begun, wanted = by_trainer(job, data, home, folder, order)
    steps, failed = job.epochs * len(order), False
    for kind, own in jobs.items():
        found = fit(replace(training, trainer=own.trainer)).network.state_dict()
        if found.keys() != wanted.keys():
            raise SystemExit(f"{kind}: other parameters: {sorted(found.keys() ^ wanted.keys())}")
        apart = {name: float((found[name] - value).abs().max()) for name, value in wanted.items()}
        moved = {name: float((value - begun[name]).abs().max()) for name, value in wanted.items()}
        print(
            f"{kind}, {steps} steps: at most {max(apart.values()):.1e} apart; the largest move is {max(moved.values()):.1e}"
        )
        for name in sorted(apart, key=lambda name: -apart[name])[:SHOWN]:
            print(f"  {name}: {apart[name]:.1e}, moved by {moved[name]:.1e}")
        failed |= max(apart.values()) > MOST * max(moved.values())
    if failed:
        raise SystemExit("not the same steps")


def by_trainer(
    job: Any, data: Any, home: Path, folder: Path, order: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the Trainer begins with, and what it makes of the same batches."""
    from torch.utils.data import DataLoader
    from transformers import TrainerCallback

    class Epoch(TrainerCallback):
        def on_epoch_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            order.sampler.set_epoch(round(state.epoch))

    trainer = hf_trainer.trainer("trainer", None, job, data, home, folder)
    trainer.add_callback(Epoch())
    collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
    loader = DataLoader(trainer.train_dataset, batch_sampler=order, collate_fn=collate)
    trainer.get_train_dataloader = lambda: loader
    begun = {name: value.cpu().clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    return begun, {name: value.cpu() for name, value in trainer.model.state_dict().items()}


def copied(home: Path, folder: Path, dropout: bool) -> Path:
    """A copy of an encoder, its configuration without dropout unless that is to stay."""
    shutil.copytree(home, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {key: 0.0 for key in config if not dropout and key.endswith(("dropout_prob", "dropout"))}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def seeded(build: Callable[..., Any]) -> Callable[..., Any]:
    """Networks whose i-th pass of training draws by seed i."""
    import torch

    def made(*args: Any) -> Any:
        network, passes = build(*args), count()

        def seed(module: Any, _: Any) -> None:
            if module.training:
                torch.manual_seed(next(passes))

        network.register_forward_pre_hook(seed)
        return network

    return made


if __name__ == "__main__":
    main()
