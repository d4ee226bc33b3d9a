"""The models that SunGen trains repeatedly in the classifier's place: small ones, or the classifier itself."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..base import LabelledTexts, LearnerContext
from .functional_model import INPUTS, FunctionalClassifier
from .gradients import Params

CHUNK = 64  # texts of a pass through the encoder


class Proxy(Protocol):
    """A model of its own parameters.

    initial: where each inner training begins. precision: a context to train in. logits: [n, classes] at any
    parameters.
    """

    initial: Params

    def precision(self) -> AbstractContextManager[Any]: ...

    def logits(self, params: Params, index: np.ndarray, dev: bool = False) -> Tensor: ...


def build(kind: str, context: LearnerContext, hidden: int) -> Proxy:
    """The proxy of a kind.

    Its parameters are drawn by the run's seed, without a draw from the training's own stream.

    Args:
        kind: "lstm", "head" or "encoder".
        context: the training.
        hidden: width of its hidden layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        kinds: dict[str, Callable[[LearnerContext, int], Proxy]] = {
            "head": Head,
            "lstm": Lstm,
            "encoder": Encoder,
        }
        return kinds[kind](context, hidden)


class Module:
    """A small network, in fp32."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network = network.to(device)
        self.initial = {name: p.detach().clone() for name, p in self.network.named_parameters()}

    def precision(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()


class Head(Module):
    """Two layers on frozen features: the encoder's mean-pooled last layer, standardised."""

    def __init__(self, context: LearnerContext, hidden: int) -> None:
        self.train, mean, sd = self.features(context, context.train, None)
        self.dev = self.features(context, context.dev, (mean, sd))[0] if context.dev is not None else None
        width = self.train.shape[1]
        network = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, len(context.labels)))
        super().__init__(network, context.device)

    @staticmethod
    def features(
        context: LearnerContext, texts: LabelledTexts, scale: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[n, width], fp32, with the means and standard deviations that scaled them."""
        network = FunctionalClassifier(context)
        encoder: Any = context.network.base_model
        if encoder.config.is_encoder_decoder:  # the decoder's states are of the text to come
            encoder = encoder.get_encoder()
        order = np.argsort(-texts.lengths, kind="stable")
        parts = []
        with network.evaluation(), torch.no_grad(), context.precision():
            for start in range(0, len(order), CHUNK):
                batch = {
                    k: v.to(context.device)
                    for k, v in texts.batch(order[start : start + CHUNK].tolist()).items()
                }
                states = encoder(**{k: batch[k] for k in INPUTS if k in batch}).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
                parts.append(((states * mask).sum(1) / mask.sum(1)).float())
        pooled = torch.empty_like(stacked := torch.cat(parts))
        pooled[torch.from_numpy(order).to(context.device)] = stacked
        mean, sd = scale or (pooled.mean(0), pooled.std(0).clamp_min(1e-6))
        return (pooled - mean) / sd, mean, sd

    def logits(self, params: Params, index: np.ndarray, dev: bool = False) -> Tensor:
        features = self.dev if dev else self.train
        assert features is not None
        return functional_call(self.network, params, (features[torch.from_numpy(index).to(features.device)],))


class Recurrent(nn.Module):
    """An embedding, one LSTM layer, and a linear layer on the state after the last token."""

    def __init__(self, words: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, classes)

    def forward(self, ids: Tensor, last: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(ids))
        return self.out(states[torch.arange(len(ids), device=ids.device), last])


class Lstm(Module):
    """The official "tiny context model", over the encoder's token ids, its embedding learned from scratch."""

    def __init__(self, context: LearnerContext, hidden: int) -> None:
        self.context = context
        known = np.unique(
            np.concatenate(
                [self.ids(context.train, [i]).flatten() for i in range(len(context.train.targets))]
            )
        )
        self.places = torch.zeros(int(known.max()) + 1, dtype=torch.long)
        # 0 is a token that training never shows
        self.places[torch.from_numpy(known)] = torch.arange(1, len(known) + 1)
        super().__init__(Recurrent(len(known) + 1, hidden, len(context.labels)), context.device)

    @staticmethod
    def ids(texts: LabelledTexts, index: list[int]) -> np.ndarray:
        return texts.batch(index)["input_ids"].numpy()

    def logits(self, params: Params, index: np.ndarray, dev: bool = False) -> Tensor:
        texts = self.context.dev if dev else self.context.train
        assert texts is not None
        batch = texts.batch(index.tolist())
        # texts that are padded on the left
        first = batch["attention_mask"].argsort(dim=1, descending=True, stable=True)
        ids = batch["input_ids"].gather(1, first)
        ids = self.places[ids.clamp_max(len(self.places) - 1)] * (ids < len(self.places))
        last = batch["attention_mask"].sum(1) - 1
        return functional_call(
            self.network, params, (ids.to(self.context.device), last.to(self.context.device))
        )


class Encoder:
    """The classifier itself, from where its training will begin, without dropout."""

    def __init__(self, context: LearnerContext, hidden: int) -> None:
        self.context, self.network = context, FunctionalClassifier(context)
        self.initial = {name: p.clone() for name, p in self.network.params().items()}

    def precision(self) -> AbstractContextManager[Any]:
        return self.context.precision()

    def logits(self, params: Params, index: np.ndarray, dev: bool = False) -> Tensor:
        texts = self.context.dev if dev else self.context.train
        assert texts is not None
        batch = {k: v.to(self.context.device) for k, v in texts.batch(index.tolist()).items() if k in INPUTS}
        with self.network.evaluation():
            return functional_call(self.context.network, params, (), batch).logits
