"""The word embedding, for the words that a training meets: half of a small encoder's parameters are words that none of its
texts has, and clearing, clipping and stepping them costs more than the attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.tokenization import TokenizedTexts


class Vocabulary:
    """The words of some texts. A word's number among them takes the place of its id."""

    def __init__(self, splits: list[TokenizedTexts], padding: int | None) -> None:
        """padding: the id that the encoder knows padding by; it and those below keep their places."""
        met = np.zeros(1 + max(padding or 0, *(max(split.pad, int(split.ids.max(initial=0))) for split in splits)), bool)
        met[: (padding if padding is not None else -1) + 1] = True
        for split in splits:
            met[split.ids] = met[split.pad] = True
        self.ids = np.flatnonzero(met)
        self.numbers = np.cumsum(met) - 1

    def tokens(self, split: TokenizedTexts) -> TokenizedTexts:
        """The same texts, whose batches hold their words' numbers: the ids stay where they are, in a file as a rule."""
        return replace(split, id_map=self.numbers)

    @contextmanager
    def narrowed(self, network: nn.Module) -> Iterator[None]:
        """Within it the network's word embedding has the rows of these words alone.

        The other rows get no gradient, so that all that AdamW would do to them is to shrink them by its decay. A row of
        ones goes along, whose value at the end is by how much.
        """
        words: Any = network.get_input_embeddings()  # type: ignore[operator]
        whole: Tensor = words.weight.data
        words.weight = nn.Parameter(torch.cat([whole[self.ids], torch.ones_like(whole[:1])]))
        try:
            yield
        finally:
            rows = words.weight.data
            whole = whole.to(rows) * rows[-1, 0]
            whole[self.ids] = rows[:-1]
            words.weight = nn.Parameter(whole)
