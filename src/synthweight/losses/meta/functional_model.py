"""The classifier's losses at any parameters, and the batches of D_P' that it is measured by."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from ...errors import UserError
from ..base import LabelledTexts, LearnerContext
from ..functional import nll
from . import gradients
from .gradients import Params

logger = logging.getLogger(__name__)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CHUNK = 64  # texts of the dev set a pass: bounds the memory where the whole of D_P' is asked for


class FunctionalClassifier:
    """Per-example losses of the classifier at any parameters, without dropout.

    Passes that are compared do not differ by dropout.

    Within `pruned` the word embedding has only the rows of a few texts' tokens, whose ids are replaced by the
    rows' numbers: half of a small encoder's parameters belong to tokens that no text of a batch has.

    Args:
        context: of the training.
    """

    def __init__(self, context: LearnerContext) -> None:
        self.network, self.device = context.network, context.device
        self.named = {name: p for name, p in context.network.named_parameters() if p.requires_grad}
        embedding = context.network.get_input_embeddings()  # type: ignore[operator]
        # other networks may look for an id, of a last token say
        packed = hasattr(context.network.forward, "text_index")
        self.embedding = next(
            (name for name, p in self.named.items() if p is embedding.weight and packed), None
        )
        padding = -1 if embedding.padding_idx is None else embedding.padding_idx
        self.first = padding + 1  # rows that keep their numbers
        self.rows: Tensor | None = None

    def params(self) -> Params:
        """The current θ, detached."""
        params = {name: p.detach() for name, p in self.named.items()}
        if self.rows is not None and self.embedding is not None:
            params[self.embedding] = params[self.embedding][self.rows]
        return params

    @contextlib.contextmanager
    def pruned(self, *batches: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Restricts the word embedding to the tokens of these batches. Other tokens would change nothing.

        Yields:
            The rows that are kept, by the embedding's name; empty where the embedding is not trained.
        """
        if self.embedding is None:
            yield {}
            return
        kept = torch.arange(self.first, device=self.device)
        found = torch.cat([kept, *(batch["input_ids"].to(self.device).flatten() for batch in batches)])
        self.rows = found.unique()  # sorted: the first rows, the padding's among them, keep their numbers
        self.id_map = torch.zeros(len(self.named[self.embedding]), dtype=torch.long, device=self.device)
        self.id_map[self.rows] = torch.arange(len(self.rows), device=self.device)
        try:
            yield {self.embedding: self.rows}
        finally:
            self.rows = None

    def losses(self, params: Params, batch: dict[str, Tensor], targets: Tensor) -> Tensor:
        """ℓ_i = −log p̂(y_i|x_i; θ) in nats, at least fp32, [n].

        Args:
            params: θ.
            batch: its inputs.
            targets: label positions, [n].
        """
        inputs = {key: batch[key].to(self.device) for key in INPUTS if key in batch}
        if self.rows is not None:
            inputs["input_ids"] = self.id_map[inputs["input_ids"]]
        logits = functional_call(self.network, params, (), inputs).logits
        return nll(logits, targets.to(self.device))

    def text_of_rows(self, batch: dict[str, Tensor]) -> dict[int, Tensor]:
        """The text, by its position in the batch, of each row of a packed pass, by the number of its rows.

        Raises:
            NotImplementedError: the network is not packed.
        """
        texts: Callable[[Tensor], dict[int, Tensor]] | None = getattr(
            self.network.forward, "text_index", None
        )
        if texts is None:
            raise NotImplementedError("it needs trainer.padding=false and an encoder that can be packed")
        return texts(batch["attention_mask"].to(self.device))

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """Evaluation mode, after which autocast's bf16 copies of the weights are dropped."""
        training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(training)
            torch.clear_autocast_cache()


@cache
def log_small_dev_set(size: int, n: int) -> None:
    """Logs, once, that a dev batch is all of D_P'.

    Args:
        size: `loss.dev_batch`.
        n: examples of D_P'.
    """
    logger.info("loss.dev_batch=%d: D_P' has %d examples, all of them are taken at every step", size, n)


class DevSet:
    """Batches of D_P', drawn by seed and step alone.

    Args:
        texts: D_P'.
        labels: of the task.
        per_class: examples of each class in a batch, or None.
        drawn: "step" or "fixed".
        size: examples in a batch; None takes all.
        seed: of the run.

    Raises:
        UserError: D_P' has fewer examples than a batch is to have.
    """

    def __init__(
        self,
        texts: LabelledTexts,
        labels: tuple[str, ...],
        per_class: int | None,
        drawn: str,
        size: int | None,
        seed: int,
    ) -> None:
        self.texts, self.per_class, self.drawn, self.size, self.seed = texts, per_class, drawn, size, seed
        targets, n = texts.targets, per_class
        self.by_class = [np.flatnonzero(targets == c) for c in range(len(labels))]
        smallest = min(range(len(labels)), key=lambda c: len(self.by_class[c]))
        if n is not None and n > len(self.by_class[smallest]):
            raise UserError(
                f"loss.dev_per_class={n}: class {labels[smallest]!r} has {len(self.by_class[smallest])} examples in D_P'"
            )
        if size is not None and size > len(targets):
            log_small_dev_set(size, len(targets))
            self.size = None

    def draw(self, step: int) -> np.ndarray:
        """The positions of a step's dev batch in D_P'."""
        rng = np.random.default_rng([self.seed, 5, 0 if self.drawn == "fixed" else step])
        if self.per_class is not None:
            return np.concatenate(
                [rng.choice(members, self.per_class, replace=False) for members in self.by_class]
            )
        if self.size is not None:
            return rng.choice(len(self.texts.targets), self.size, replace=False)
        return np.arange(len(self.texts.targets))

    def batch(self, step: int) -> dict[str, Tensor]:
        """The encoder's inputs of a step's dev batch."""
        return self.texts.batch(self.draw(step).tolist())

    def gradient(self, network: FunctionalClassifier, params: Params, step: int) -> Params:
        """∇L_dev(θ), L_dev the mean cross-entropy of the step's dev batch.

        Args:
            network: the classifier.
            params: θ.
            step: of the training, from 0.
        """
        chosen = self.draw(step)
        chosen = chosen[np.argsort(-self.texts.lengths[chosen], kind="stable")]
        leaves = gradients.detached_leaves(params)
        total: Params = {}
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK].tolist()
            targets = torch.from_numpy(self.texts.targets[part])
            value = network.losses(leaves, self.texts.batch(part), targets).sum() / len(chosen)
            found = gradients.gradient(value, leaves)
            total = gradients.add(total, found)
        return total
