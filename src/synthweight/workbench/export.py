"""One folder out: a Hugging Face model with its card, the audit, a report and the run's row; and the hub."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copy2, copytree, rmtree
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .. import __version__
from ..atomic_io import part_path
from ..errors import UserError, first_line
from ..models import classifier
from . import audit, report
from .audit import AuditRow
from .read import Columns

SETTINGS, AUDIT, REPORT = "fit.json", "synthetic_audit.csv", "report.html"
WITH_TEXTS = (AUDIT, REPORT)


@dataclass(frozen=True)
class Fit:
    """All that the folder says about a fit; JSON values but for the audit.

    Attributes:
        method: The name of what was trained.
        words: What it is.
        labels: Sorted by name.
        pairs: Whether examples have two texts.
        max_length: In tokens.
        columns: Names of the user's columns.
        encoder: The pretrained encoder's name.
        counts: Examples of each set by label.
        facts: Further counts in words: conflicts, overlaps, long texts.
        choice: `Choice.as_dict`, or None where the method was given.
        estimate: The chosen method's metrics over the folds, or None.
        test: Its metrics on the test set, or None.
        reliability: Bins of estimate or test: mean confidence, accuracy, n.
        confusion: True by predicted label, of the same predictions, or None.
        temperature: By which the classifier's logits are divided, fitted to its predictions over the folds;
            None where there are none.
        checker_temperature: Of the quality checker.
        checker: The quality checker's out-of-fold metrics.
        seed: Of every run.
        row: The id of the final run.
    """

    method: str
    words: str
    labels: list[str]
    pairs: bool
    max_length: int
    columns: Columns
    encoder: str
    counts: dict[str, dict[str, int]]
    facts: list[str]
    choice: dict[str, Any] | None
    estimate: dict[str, Any] | None
    test: dict[str, Any] | None
    reliability: list[dict[str, float]] | None
    confusion: list[list[int]] | None
    temperature: float | None
    checker_temperature: float
    checker: dict[str, Any]
    seed: int
    row: str

    def as_dict(self) -> dict[str, Any]:
        """For `fit.json`."""
        return {"format": 2, "synthweight": __version__, **vars(self), "columns": vars(self.columns)}


def check_target(folder: Path, overwrite: bool) -> None:
    """Raises UserError where the folder cannot be written, or exists and may not be replaced."""
    if folder.exists():
        if not overwrite:
            raise UserError(f"{folder}: exists already: name another folder, or replace it by --overwrite")
        if not (folder / SETTINGS).is_file():
            raise UserError(f"{folder}: --overwrite replaces what `synthweight fit` made, and this is none")
    part = part_path(folder)
    try:
        part.mkdir(parents=True)
        part.rmdir()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}): name another folder") from error


def write(
    folder: Path,
    fit: Fit,
    rows: list[AuditRow],
    model: Path,
    row_files: list[Path],
    texts: bool = True,
    overwrite: bool = False,
) -> None:
    """Writes the folder, whole or not at all.

    Args:
        folder: Where.
        fit: What there is to say.
        rows: The audit.
        model: The run's model, a Hugging Face folder.
        row_files: The run's row: JSON and Parquet.
        texts: Whether the audit and the report hold the synthetic texts.
        overwrite: Replace an earlier one.
    """
    name = folder.resolve().name

    def fill(part: Path) -> None:
        copytree(model, part)
        if fit.temperature is not None:
            classifier.divide_logits(part, tuple(fit.labels), fit.temperature)
        save_tokenizer(part, fit.max_length)
        for file in row_files:
            copy2(file, part / f"row{file.suffix}")
        settings = json.dumps(fit.as_dict(), indent=1, ensure_ascii=False)
        (part / SETTINGS).write_text(settings + "\n", encoding="utf-8")
        audit.write(part / AUDIT, rows, texts)
        (part / REPORT).write_text(report.page(name, fit.as_dict(), rows, texts), encoding="utf-8")
        (part / "README.md").write_text(card(name, fit, rows), encoding="utf-8")

    place(folder, fill, overwrite)


def place(folder: Path, fill: Callable[[Path], Any], overwrite: bool) -> None:
    """A folder that appears when `fill` has filled it, with the permissions that new files get (umask)."""
    check_target(folder, overwrite)
    part = part_path(folder)
    try:
        fill(part)
        mask = os.umask(0)
        os.umask(mask)
        for path in [part, *part.rglob("*")]:
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        if folder.exists():
            old = part.with_suffix(".old")
            folder.rename(old)
            try:
                part.rename(folder)
            except BaseException:
                old.rename(folder)
                raise
            rmtree(old)
        else:
            part.rename(folder)
    finally:
        rmtree(part, ignore_errors=True)


def save_tokenizer(folder: Path, max_length: int) -> None:
    """Writes the tokenizer again, so that `truncation=True` cuts where the training did."""
    from ..data.tokenization import load_tokenizer

    tokenizer = load_tokenizer(folder)
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)


def card(name: str, fit: Fit, rows: list[AuditRow]) -> str:
    """The model card: the metadata block that the hub renders, and what a reader wants to know."""
    counts = audit.counts(rows)
    return report.render(
        "card.md.j2", name=name, fit=fit.as_dict(), metadata=_metadata(name, fit), counts=counts
    )


def _metadata(name: str, fit: Fit) -> str:
    results = []
    where = {"test": (fit.test, "the user's own test set")}
    if fit.choice is not None:
        k = fit.choice["folds"]
        where["folds"] = (fit.estimate, f"the user's own real examples, {k}-fold cross-validation")
    for key, (metrics, dataset) in where.items():
        for metric, kind in (("accuracy", "accuracy"), ("macro_f1", "f1")):
            if metrics is not None:
                results.append(
                    EvalResult(
                        task_type="text-classification",
                        dataset_type=f"user-{key}",
                        dataset_name=dataset,
                        metric_type=kind,
                        metric_name={"accuracy": "Accuracy", "macro_f1": "Macro F1"}[metric],
                        metric_value=round(metrics[metric], 4),
                    )
                )
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["synthetic-data", "synthweight"],
        base_model=fit.encoder if "/" in fit.encoder else None,
        model_name=name,
        eval_results=results or None,
    )
    return data.to_yaml()


def push(folder: Path, repository: str, private: bool = False, texts: bool = False) -> str:
    """Uploads a fitted folder to the hub, and returns its address.

    Args:
        folder: What `fit` made.
        repository: `USER/NAME`.
        private: Whether others may see it.
        texts: Upload the audit and the report too, which hold the synthetic texts.

    Raises:
        UserError: The folder is none of `fit`'s; the hub refuses or is not reachable.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not (folder / SETTINGS).is_file():
        raise UserError(f"{folder}: not a folder that `synthweight fit` made")
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Upload a classifier fitted by synthweight",
            ignore_patterns=None if texts else list(WITH_TEXTS),
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = first_line(error, type(error).__name__)
        raise UserError(f"{repository}: the hub refuses it ({reason}); log in by `hf auth login`") from error
    return str(address)
