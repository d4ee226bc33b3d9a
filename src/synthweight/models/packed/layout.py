"""Where the tokens of a batch without padding are.

They are end to end for what is done row by row, and in slots for the attention.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# of sequences at least: attention's kernels skip what none has, and each width is a CUDA graph of its own
WIDTH = 128
LANES = (
    32  # of bf16 in a CPU's vector: a softmax over rows that fill them badly is twice as slow as one in fp32
)


@dataclass(frozen=True)
class PaddingPolicy:
    """What token counts and attention's widths are rounded up to.

    A CPU's library compiles a kernel for each product of a new shape, which takes a tenth of a step and half
    a MiB: a few padded tokens cost less than many shapes.

    Args:
        buckets_per_octave: at most this many sizes between a number and its double.
        tokens: token counts are multiples of this.
        width: widths are multiples of this.
    """

    buckets_per_octave: int
    tokens: int = 128
    width: int = 8

    def padding(self, n: int, multiple: int) -> int:
        """How many must be added to n to reach the next size.

        Args:
            n: tokens, or a width.
            multiple: that the size is one of.
        """
        return -n % max(multiple, 2 ** (n.bit_length() - 1) // self.buckets_per_octave)


TRAINING, EVALUATION = PaddingPolicy(buckets_per_octave=8), PaddingPolicy(buckets_per_octave=16)


def softmax_in_fp32(width: int, device: torch.device) -> bool:
    """Whether the softmax over rows of so many bf16 scores is faster in fp32.

    It is on a CPU, where the rows fill vectors badly.

    Args:
        width: of a row.
        device: that computes.
    """
    return device.type == "cpu" and (width < LANES or width % LANES > LANES // 4)


@dataclass(frozen=True)
class Group:
    """Texts whose attention is computed together, in the slots of [texts, width].

    Args:
        token_index: [texts · width]: the token in each slot; 0 in empty slots, which `mask` hides.
        mask: [texts, 1, 1, width], boolean: False hides a slot from attention.
        cls_index: [texts]: the first token of each text.
        shape: texts and width.
        fp32_softmax: whether the softmax is in fp32 even where the scores are in bf16.
    """

    token_index: Tensor  # [texts · width]: the token in each slot; 0 in empty slots, which `mask` hides
    mask: Tensor  # [texts, 1, 1, width], boolean: False hides a slot from attention
    cls_index: Tensor  # [texts]: the first token of each text
    shape: tuple[int, int]
    fp32_softmax: bool = False  # even where the scores are in bf16

    def to(self, device: torch.device) -> "Group":
        """The same on another device, whose softmax is as fast in bf16."""
        token_index, mask, cls_index = (
            values.to(device) for values in (self.token_index, self.mask, self.cls_index)
        )
        return Group(token_index, mask, cls_index, self.shape)

    @classmethod
    def from_mask(cls, index: Tensor, mask: Tensor, policy: PaddingPolicy) -> "Group":
        """The slots of some texts.

        Args:
            index: of each token among all tokens, [texts, width].
            mask: True where there is a token, [texts, width].
            policy: what the width is rounded up to.
        """
        padding = policy.padding(mask.shape[1], policy.width)
        if padding:
            index, mask = F.pad(index, (0, padding)), F.pad(mask, (0, padding))
        texts, width = index.shape
        fp32 = softmax_in_fp32(width, mask.device)
        return cls(index.flatten(), mask[:, None, None, :], index[:, 0], (texts, width), fp32)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch are: end to end, in the order of its texts, and in groups' slots."""

    token_index: (
        Tensor  # [tokens]: of each in the batch's [batch · width]; at the end copies of the first, as padding
    )
    slot_index: Tensor  # [tokens]: of each in the groups' slots, one group after the other
    positions: Tensor  # [tokens]: of each in its text
    groups: list[Group]
    order: Tensor | None  # [batch]: where each text lies in the groups; None: where it lies in the batch

    @property
    def cls_index(self) -> Tensor:
        """[batch]: the first token of each text, in the order of the groups."""
        return torch.cat([group.cls_index for group in self.groups])

    @property
    def width(self) -> int:
        """Slots of the longest text."""
        return max(group.shape[1] for group in self.groups)

    def to(self, device: torch.device) -> "Layout":
        """The same on a device."""
        if device == self.token_index.device:
            return self
        order = None if self.order is None else self.order.to(device)
        token_index, slot_index = self.token_index.to(device), self.slot_index.to(device)
        groups = [group.to(device) for group in self.groups]
        return Layout(token_index, slot_index, self.positions.to(device), groups, order)

    @classmethod
    def from_mask(cls, attention_mask: Tensor, policy: PaddingPolicy, by_length: bool = False) -> "Layout":
        """The layout of a batch.

        Args:
            attention_mask: [batch, width], 1 at tokens and 0 at the padding behind them.
            policy: what token count and widths are rounded up to.
            by_length: long and short texts in groups of their own, where that saves much of the attention's
                work.
        """
        mask = attention_mask.bool()
        token_index = mask.flatten().nonzero().flatten()
        index = torch.zeros_like(mask, dtype=torch.long)
        index.view(-1)[token_index] = torch.arange(len(token_index), device=mask.device)
        padding = token_index[:1].expand(policy.padding(len(token_index), policy.tokens))
        token_index = torch.cat([token_index, padding])
        rows, positions = token_index // mask.shape[1], token_index % mask.shape[1]
        halves = split_by_length(mask.sum(1)) if by_length else []
        if not halves:
            group = Group.from_mask(index, mask, policy)
            return cls(token_index, rows * group.shape[1] + positions, positions, [group], None)
        groups, slots = [], 0
        start = torch.zeros(len(mask), dtype=torch.long, device=mask.device)  # of each text's slots
        for texts, width in halves:
            group = Group.from_mask(index[texts, :width], mask[texts, :width], policy)
            groups.append(group)
            start[texts] = slots + group.shape[1] * torch.arange(len(texts), device=mask.device)
            slots += len(texts) * group.shape[1]
        order = torch.cat([texts for texts, _ in halves]).argsort()
        return cls(token_index, start[rows] + positions, positions, groups, order)


def split_by_length(lengths: Tensor) -> list[tuple[Tensor, int]]:
    """The longer and the shorter half of the texts, each with its width; none where their lengths are alike.

    That is where it saves less than a quarter of attention's scores: many small products have a price of
    their own.
    """
    order = lengths.argsort(descending=True, stable=True)
    halves = [(texts, int(lengths[texts[0]])) for texts in order.tensor_split(2) if len(texts)]
    return halves if halves[-1][1] ** 2 <= halves[0][1] ** 2 / 2 else []


class SequenceShape(NamedTuple):
    """The sizes of `Sequences`, which decide the kernels of a pass."""

    tokens: int
    sequences: int
    width: int  # at least the tokens of the longest sequence
    typed: bool  # whether the encoder distinguishes segments


class Sequences(NamedTuple):
    """The tokens of a batch end to end, as attention over sequences of variable length reads them; int32.

    One tensor holds all indices, so that a batch is one copy to the device, of which these are views. The
    tokens that round the count up are a sequence of their own behind the others, never an empty one: no row
    is outside of all sequences, where the attention's kernels leave memory as they find it.
    """

    ids: Tensor  # [tokens]
    types: Tensor | None  # [tokens]
    positions: Tensor  # [tokens]: of each token in its sequence; 0 for those that fill up
    starts: Tensor  # [sequences + 1]: the first token of each sequence, and the number of tokens
    counts: Tensor  # [sequences + 1]: 0, 1, ...: the same where each sequence has one token
    width: int
    order: None = None  # sequences lie as in the batch

    @property
    def cls_index(self) -> Tensor:
        """[sequences]: the first token of each."""
        return self.starts[:-1]

    @staticmethod
    def pack(
        input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None, policy: PaddingPolicy
    ) -> tuple[Tensor, SequenceShape]:
        """All indices of a batch as one tensor, and what `unpack` needs to take it apart.

        Args:
            input_ids: [batch, width]; best on the CPU, where counting tokens waits for no device.
            attention_mask: [batch, width], 1 at tokens and 0 at the padding behind them.
            token_type_ids: [batch, width], or None.
            policy: what the token count is rounded up to.
        """
        mask = attention_mask.bool()
        lengths = mask.sum(1)
        count = int(lengths.sum())
        fill = 1 + policy.padding(count + 1, policy.tokens)
        longest = max(int(lengths.max()), fill)
        width = max(WIDTH, 2 ** (longest - 1).bit_length())
        shape = SequenceShape(count + fill, len(mask) + 1, width, token_type_ids is not None)
        position = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        columns = [input_ids, position] if token_type_ids is None else [input_ids, token_type_ids, position]
        tokens = [F.pad(column[mask], (0, fill)) for column in columns]
        starts = F.pad(lengths.cumsum(0), (1, 1), value=0)
        starts[-1] = shape.tokens
        counts = torch.arange(shape.sequences + 1, device=mask.device)
        return torch.cat([*tokens, starts, counts]).to(torch.int32), shape

    @classmethod
    def unpack(cls, indices: Tensor, shape: SequenceShape) -> "Sequences":
        """Views of what `pack` made."""
        ends = [shape.sequences + 1] * 2
        *tokens, starts, counts = indices.split([shape.tokens] * (2 + shape.typed) + ends)
        types = tokens[1] if shape.typed else None
        return cls(tokens[0], types, tokens[-1], starts, counts, shape.width)
