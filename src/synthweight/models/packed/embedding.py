"""The token embedding, pruned to the ids that a training meets.

Half of a small encoder's parameters are rows for ids that none of its texts has, and clearing, clipping and
stepping them costs more than the attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.tokenization import TokenizedTexts


class TokenVocabulary:
    """The token ids of some texts, numbered from 0.

    Args:
        splits: the texts.
        padding: the id by which the encoder knows padding, if it does; it and those below keep their numbers.
    """

    def __init__(self, splits: list[TokenizedTexts], padding: int | None) -> None:
        highest = max(padding or 0, *(max(split.pad, int(split.ids.max(initial=0))) for split in splits))
        met = np.zeros(1 + highest, bool)
        met[: (padding if padding is not None else -1) + 1] = True
        for split in splits:
            met[split.ids] = met[split.pad] = True
        self.ids = np.flatnonzero(met)
        self.id_map = np.cumsum(met) - 1

    def remap(self, split: TokenizedTexts) -> TokenizedTexts:
        """The same texts, whose batches hold the new numbers; the ids stay where they are, usually in a file."""
        return replace(split, id_map=self.id_map)

    @contextmanager
    def pruned_embedding(self, network: nn.Module) -> Iterator[None]:
        """Within it the network's token embedding has the rows of these ids alone.

        The other rows get no gradient, so that all that AdamW would do to them is to shrink them by its
        decay. A row of ones goes along, whose value at the end is by how much.
        """
        embedding: Any = network.get_input_embeddings()  # type: ignore[operator]
        whole: Tensor = embedding.weight.data
        embedding.weight = nn.Parameter(torch.cat([whole[self.ids], torch.ones_like(whole[:1])]))
        try:
            yield
        finally:
            rows = embedding.weight.data
            whole = whole.to(rows) * rows[-1, 0]
            whole[self.ids] = rows[:-1]
            embedding.weight = nn.Parameter(whole)
