"""A training by Hugging Face's Trainer, as `throughput.py` compares it: the defaults, tuned, and the authors'
recipe.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JUDGED = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Done:
    """A finished training: seconds of its steps alone, how many texts and tokens those took, and test at its
    end.
    """

    seconds: float
    texts: int
    tokens: int
    network: Any
    test: dict[str, Any] | None


def theirs(system: str, steps: int | None) -> Callable[[Any, Any, Path, Path], Done]:
    """A training by Hugging Face's Trainer."""
    import torch
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments  # noqa: F401, before the clock starts

    from synthweight.models import classifier  # noqa: F401

    def train(job: Any, data: Any, home: Path, folder: Path) -> Done:
        made, clock = trainer(system, steps, job, data, home, folder), lap(torch)
        made.add_callback(clock)
        made.train()
        found = None if steps else made.evaluate()
        texts = steps * job.optim.batch_size if steps else job.epochs * len(data.train)
        tokens = sum(row["length"] for row in made.train_dataset) * texts // len(data.train)
        return Done(
            clock.seconds, texts, tokens, made.model, found and {k: found[f"eval_{k}"] for k in JUDGED}
        )

    return train


def trainer(system: str, steps: int | None, job: Any, data: Any, home: Path, folder: Path) -> Any:
    """The Trainer of a run: `trainer`, `tuned` or `authors`."""
    import torch
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    from synthweight import metrics
    from synthweight.models import classifier

    set_seed(job.seed)
    tokenizer, optim = AutoTokenizer.from_pretrained(home), job.optim
    width, padding = (128, "max_length") if system == "authors" else (optim.max_length, False)

    def encoded(part: Any) -> list[dict[str, Any]]:
        pairs = [e.text_pair for e in part] if part[0].text_pair is not None else None
        rows = tokenizer([e.text for e in part], pairs, truncation=True, max_length=width, padding=padding)
        lengths, targets = [sum(mask) for mask in rows["attention_mask"]], data.targets(part).tolist()
        return [
            {key: rows[key][i] for key in rows} | {"labels": targets[i], "length": lengths[i]}
            for i in range(len(part))
        ]

    def judged(found: Any) -> dict[str, Any]:
        scores = torch.from_numpy(found.predictions).float().log_softmax(-1).numpy()
        return {
            k: v for k, v in metrics.evaluate(scores, found.label_ids, data.labels).items() if k in JUDGED
        }

    split = {name: encoded(getattr(data, name)) for name in ("train", "test")}
    network = classifier.build(home, data.labels)
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=job.epochs, max_steps=steps or -1, seed=job.seed,
        per_device_train_batch_size=optim.batch_size, per_device_eval_batch_size=64, learning_rate=optim.lr,
        weight_decay=optim.weight_decay, lr_scheduler_type=optim.schedule, warmup_steps=optim.warmup,
        max_grad_norm=optim.clip_norm, eval_strategy="no", save_strategy="no", logging_strategy="no",
        report_to="none", disable_tqdm=True, use_cpu=not torch.cuda.is_available(), bf16=system == "tuned",
        train_sampling_strategy="group_by_length" if system == "tuned" else "random",
    )  # fmt: skip
    return Trainer(
        model=network, args=arguments, train_dataset=split["train"], compute_metrics=judged,
        data_collator=DataCollatorWithPadding(tokenizer), eval_dataset=split["test"],
    )  # fmt: skip


def lap(torch: Any) -> Any:
    """Seconds of the epochs' steps alone."""
    from transformers import TrainerCallback

    class Lap(TrainerCallback):
        seconds = 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - self.started

    return Lap()
