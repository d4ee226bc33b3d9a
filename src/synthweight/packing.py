"""Encoders without padding: a forward pass of our own over an encoder's own modules.

A batch of texts of unlike length is mostly linear layers, and those need no padding: the texts' tokens lie end to end,
[tokens, hidden], and are laid out as [batch, width] for the attention alone. The parameters stay where they are, in the
network that transformers built, so that what is saved, copied or differentiated is the same.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from .data.tokens import Tokens
from .families import FAMILIES, Layer, Mixed
from .vocabulary import Vocabulary

ROUND = 32  # tokens: products of few shapes, since each new one costs a CPU's library a kernel of its own, a tenth of a step


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie: end to end, and in the slots of [batch, width]."""

    slots: Tensor  # [tokens]: of each token; at the end the first one's again, up to a multiple of `ROUND`
    tokens: Tensor  # [batch · width]: the token in each slot; 0 where there is none, which `mask` hides
    first: Tensor  # [batch]: the first token of each text
    mask: Tensor  # [batch, 1, 1, width], boolean: False hides a slot from attention
    shape: tuple[int, int]

    @classmethod
    def of(cls, attention_mask: Tensor) -> "Layout":
        """Of a mask that is 1 at tokens and 0 at the padding behind them, [batch, width]."""
        there = attention_mask.bool()
        slots = there.flatten().nonzero().flatten()
        tokens = torch.zeros(there.numel(), dtype=torch.long, device=there.device)
        tokens[slots] = torch.arange(len(slots), device=there.device)
        count, width = there.shape
        more = slots[:1].expand(-len(slots) % ROUND)
        return cls(torch.cat([slots, more]), tokens, tokens.view(count, width)[:, 0], there[:, None, None, :], (count, width))


class Packed:
    """The forward pass of a sequence classifier of one of `FAMILIES`; takes and gives what the network's own does."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        config: Mixed = network.config
        self.encoder = FAMILIES[config.model_type](network)

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        parts, layout = self.encoder, Layout.of(attention_mask)
        types = None if token_type_ids is None else token_type_ids.flatten()[layout.slots]
        states = parts.embed(input_ids.flatten()[layout.slots], types, layout.slots % layout.shape[1])
        states = self.drop(states, parts.hidden_dropout)
        bias = parts.bias(layout.shape[1])
        for of in parts.layers[:-1]:
            states = self.rest(of, self.attention(of, states, layout, bias), states)
        of = parts.layers[-1]  # the head reads the first tokens alone: nothing else of the last layer is computed
        states = self.rest(of, self.first_attention(of, states, layout, bias), states.index_select(0, layout.first))
        return SequenceClassifierOutput(logits=parts.head(states))

    def rest(self, of: Layer, mixed: Tensor, states: Tensor) -> Tensor:
        """The rest of a layer, row by row: what attention mixed, and the states that came in."""
        p = self.encoder.hidden_dropout
        states = of.attention_norm(self.drop(of.out(mixed), p) + states)
        return of.norm(self.drop(of.down(of.activation(of.up(states))), p) + states)

    def attention(self, of: Layer, states: Tensor, layout: Layout, bias: Tensor | None) -> Tensor:
        """softmax(QKᵀ/√d + bias)·V of each text, [tokens, hidden]."""
        query, key, value = self.laid(states, (of.query, of.key, of.value), layout)
        mixed = self.mixed(query, key, value, layout, bias)
        return mixed.flatten(0, 1).index_select(0, layout.slots)

    def first_attention(self, of: Layer, states: Tensor, layout: Layout, bias: Tensor | None) -> Tensor:
        """The same for the first token of each text, [batch, hidden]."""
        key, value = self.laid(states, (of.key, of.value), layout)
        query = of.query(states.index_select(0, layout.first)).unflatten(1, (self.encoder.heads, 1, -1))
        return self.mixed(query, key, value, layout, None if bias is None else bias[:, :, :1]).flatten(0, 1)

    def laid(self, states: Tensor, projections: tuple[Mixed, ...], layout: Layout) -> tuple[Tensor, ...]:
        """The projections of all tokens in their slots, each [batch, heads, width, size of a head]; one product for all."""
        (count, width), heads = layout.shape, self.encoder.heads
        weight, shift = torch.cat([m.weight for m in projections]), torch.cat([m.bias for m in projections])
        projected = F.linear(states, weight, shift)
        # index_select: the backward pass of [] is several times slower on a CPU
        laid = projected.index_select(0, layout.tokens).view(count, width, len(projections), heads, -1)
        return laid.permute(2, 0, 3, 1, 4).unbind(0)

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, layout: Layout, bias: Tensor | None) -> Tensor:
        """Attention of [batch, heads, queries, size], [batch, queries, hidden]."""
        with torch.autocast(query.device.type, enabled=False):  # else softmax, and what follows it, would be in fp32
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            if bias is not None:
                scores = scores + bias.to(scores.dtype)
            scores = scores.masked_fill(~layout.mask, torch.finfo(scores.dtype).min)
            return (self.drop(scores.softmax(-1), self.encoder.attention_dropout) @ value).transpose(1, 2).flatten(2)

    def drop(self, values: Tensor, p: float) -> Tensor:
        """Dropout with probability p. On a CPU by 16 bits an element: torch's own draws are a sixth of a step."""
        if not self.network.training or p == 0:
            return values
        if values.device.type != "cpu":
            return F.dropout(values, p)
        dropped = round(p * 2**16)
        bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = bits[: values.numel()].view(values.shape) >= dropped - 2**15
        return values * kept.to(values.dtype).mul_(2**16 / (2**16 - dropped))


def packs(network: nn.Module) -> bool:
    """Whether the network's family is one that is known here; says so where it is not."""
    config: Mixed = network.config
    if config.model_type in FAMILIES:
        return True
    warnings.warn(
        f"trainer.packing: {config.model_type} encoders are padded; those packed are {', '.join(FAMILIES)}", stacklevel=3
    )
    return False


@contextmanager
def packed(network: nn.Module) -> Iterator[None]:
    """Within it the network's forward pass is the packed one; its own where its family is not known here."""
    if not packs(network):
        yield
        return
    network.forward = Packed(network)
    try:
        yield
    finally:
        del network.forward


@contextmanager
def compact(network: nn.Module, splits: list[Tokens]) -> Iterator[Callable[[Tokens], Tokens]]:
    """Within it the network is packed and knows the words of these splits alone; gives what turns a split's ids into theirs.

    An encoder of another family stays as it is: it may look for an id, of a last token say, in ways not known here.
    """
    if not packs(network):
        yield lambda tokens: tokens
        return
    words: Any = network.get_input_embeddings()  # type: ignore[operator]
    vocabulary = Vocabulary(splits, words.padding_idx)
    with vocabulary.narrowed(network), packed(network):
        yield vocabulary.tokens
