"""Encoders without padding: a forward pass of our own over an encoder's own modules.

A batch of texts of unlike length is mostly linear layers, and those need no padding: the texts' tokens lie
end to end, [tokens, hidden], and are laid out as [batch, width] for the attention alone. The parameters stay
where they are, in the network that transformers built, so that what is saved, copied or differentiated is the
same.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from ...data.tokenization import TokenizedTexts
from .architectures import FAMILIES, EncoderLayer, HFModule
from .embedding import TokenVocabulary
from .graphs import Graphs
from .layout import EVALUATION, TRAINING, Group, Layout, PaddingPolicy, Sequences

logger = logging.getLogger(__name__)


class PackedForward:
    """The forward pass of a sequence classifier of one of `FAMILIES`, called as the network's own.

    Args:
        network: of transformers, whose parameters are used.
        stacked: whether it is called under `vmap`, which supports torch's own random draws alone.
    """

    def __init__(self, network: nn.Module, stacked: bool = False) -> None:
        """stacked: to be called under `vmap`, which knows torch's own draws alone."""
        self.network, self.stacked = network, stacked
        config: HFModule = network.config
        self.encoder = FAMILIES[config.model_type](network)
        self.graphs: Graphs | None = None

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """As the network's own.

        The batch is best on the CPU: counting its tokens on a GPU would wait for it.
        """
        device = next(self.network.parameters()).device
        if self.takes_sequences(device):
            return SequenceClassifierOutput(
                logits=self.of_sequences(input_ids, attention_mask, token_type_ids, device)
            )
        layout = self.layout(attention_mask)
        ids = input_ids.flatten()[layout.token_index].to(device)
        types = None if token_type_ids is None else token_type_ids.flatten()[layout.token_index].to(device)
        return SequenceClassifierOutput(logits=self.logits(ids, types, layout.to(device)))

    def takes_sequences(self, device: torch.device) -> bool:
        """Whether attention is over sequences of variable length: on a GPU in bf16 or fp16.

        Not where weights are learned, which takes gradients in evaluation mode and forward mode; nor for an
        encoder that adds a bias to attention's scores.
        """
        half = torch.is_autocast_enabled("cuda") or next(self.network.parameters()).dtype in (
            torch.bfloat16,
            torch.float16,
        )
        read = self.network.training or torch.is_inference_mode_enabled()
        return device.type == "cuda" and half and read and not self.stacked and self.encoder.bias(1) is None

    def of_sequences(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None, device: torch.device
    ) -> Tensor:
        """The logits of a batch by attention over sequences, [batch, classes].

        Args:
            input_ids: [batch, width].
            attention_mask: [batch, width].
            token_type_ids: [batch, width], or None.
            device: that computes.
        """
        indices, shape = Sequences.pack(input_ids, attention_mask, token_type_ids, self.policy)
        logits = None
        if self.captures(device):
            self.graphs = self.graphs or Graphs(self)
            logits = self.graphs(indices, shape)
        if logits is None:
            batch = Sequences.unpack(indices.to(device, non_blocking=True), shape)
            logits = self.logits(batch.ids, batch.types, batch)
        return logits[: len(input_ids)]

    def captures(self, device: torch.device) -> bool:
        """Whether a pass is CUDA graphs: in training on one GPU, where it is not compiled."""
        alone = "logits" not in vars(self) and not torch.distributed.is_initialized()
        return device.type == "cuda" and alone and self.network.training and torch.is_grad_enabled()

    @property
    def policy(self) -> PaddingPolicy:
        return TRAINING if self.network.training else EVALUATION

    def layout(self, attention_mask: Tensor) -> Layout:
        return Layout.from_mask(attention_mask, self.policy, by_length=not self.network.training)

    def text_index(self, attention_mask: Tensor) -> dict[int, Tensor]:
        """The text of each row of a pass, by the number of rows: a batch's tokens, or its texts."""
        layout = self.layout(attention_mask)
        of_tokens = layout.token_index // attention_mask.shape[1]
        texts = torch.arange(len(attention_mask), device=attention_mask.device)
        return {
            len(of_tokens): of_tokens,
            len(texts): texts if layout.order is None else layout.order.argsort(),
        }

    def logits(self, ids: Tensor, types: Tensor | None, layout: Layout | Sequences) -> Tensor:
        """[batch, classes] of tokens that lie end to end, [tokens].

        Args:
            ids: [tokens].
            types: segment ids, [tokens], or None.
            layout: where the tokens lie.
        """
        encoder = self.encoder
        states = self.dropout(encoder.embed(ids, types, layout.positions), encoder.hidden_dropout)
        bias = encoder.bias(layout.width)
        *layers, last = encoder.layers
        for layer in layers:
            states = self.feed_forward(layer, self.attention(layer, states, layout, bias), states)
        # the head reads the first tokens alone: nothing else of the last layer is computed
        cls_states = states.index_select(0, layout.cls_index)
        attended = self.cls_attention(last, states, cls_states, layout, bias)
        logits = encoder.head(self.feed_forward(last, attended, cls_states))
        return logits if layout.order is None else logits.index_select(0, layout.order)

    def feed_forward(self, layer: EncoderLayer, attended: Tensor, states: Tensor) -> Tensor:
        """The rest of a layer, row by row, [rows, hidden].

        Args:
            layer: of the encoder.
            attended: what its attention gave.
            states: what came in.
        """
        p = self.encoder.hidden_dropout
        states = layer.attention_norm(self.dropout(layer.out(attended), p) + states)
        return layer.norm(self.dropout(layer.down(layer.activation(layer.up(states))), p) + states)

    def attention(
        self, layer: EncoderLayer, states: Tensor, layout: Layout | Sequences, bias: Tensor | None
    ) -> Tensor:
        """softmax(QKᵀ/√d + bias)·V of each text, [tokens, hidden].

        Args:
            layer: its parameters.
            states: [tokens, hidden].
            layout: where the tokens lie.
            bias: added to the scores, or None.
        """
        projected = self.projected(states, (layer.query, layer.key, layer.value))
        if isinstance(layout, Sequences):
            query, key, value = projected.unbind(1)
            return self.sequence_attention(query, key, value, layout.starts, layout.width, layout)
        attended = []
        for group in layout.groups:
            query, key, value = self.to_slots(projected, group)
            attended.append(self.attend(query, key, value, group, bias).flatten(0, 1))
        return concatenated(attended).index_select(0, layout.slot_index)

    def sequence_attention(
        self, query: Tensor, key: Tensor, value: Tensor, starts: Tensor, width: int, layout: Sequences
    ) -> Tensor:
        """The attention of each sequence by FlashAttention, [queries, hidden].

        Args:
            query: [queries, heads, size of a head].
            key: [tokens, heads, size of a head].
            value: [tokens, heads, size of a head].
            starts: of the queries, as `layout` has them of the keys.
            width: the most queries of a sequence.
            layout: where the keys are.
        """
        dropout = self.encoder.attention_dropout if self.network.training else 0.0
        widths = width, layout.width
        return varlen_attention(query, key, value, (starts, layout.starts), widths, dropout).flatten(1)

    def cls_attention(
        self,
        layer: EncoderLayer,
        states: Tensor,
        cls_states: Tensor,
        layout: Layout | Sequences,
        bias: Tensor | None,
    ) -> Tensor:
        """The same for the first token of each text, whose states come too, [batch, hidden].

        Args:
            layer: its parameters.
            states: [tokens, hidden].
            cls_states: of the first tokens, [batch, hidden].
            layout: where the tokens lie.
            bias: added to the scores, or None.
        """
        projected = self.projected(states, (layer.key, layer.value))
        if isinstance(layout, Sequences):
            query = layer.query(cls_states).unflatten(1, (self.encoder.heads, -1))
            key, value = projected.unbind(1)
            return self.sequence_attention(query, key, value, layout.counts, 1, layout)
        queries = layer.query(cls_states).unflatten(1, (self.encoder.heads, 1, -1))
        attended = []
        for query, group in zip(
            queries.split([group.shape[0] for group in layout.groups]), layout.groups, strict=True
        ):
            key, value = self.to_slots(projected, group)
            attended.append(self.attend(query, key, value, group, bias).flatten(0, 1))
        return concatenated(attended)

    def projected(self, states: Tensor, projections: tuple[HFModule, ...]) -> Tensor:
        """The projections of all tokens, [tokens, projections, heads, size of a head]; one product for all.

        Args:
            states: [tokens, hidden].
            projections: such as query, key and value.
        """
        weight, shift = torch.cat([m.weight for m in projections]), torch.cat([m.bias for m in projections])
        return F.linear(states, weight, shift).unflatten(1, (len(projections), self.encoder.heads, -1))

    def to_slots(self, projected: Tensor, group: Group) -> tuple[Tensor, ...]:
        """A group's projections in their slots, each [texts, heads, width, size of a head].

        Args:
            projected: [tokens, projections, heads, size of a head].
            group: of texts.
        """
        # index_select: the backward pass of [] is several times slower on a CPU
        slots = projected.index_select(0, group.token_index).unflatten(0, group.shape)
        return slots.permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, group: Group, bias: Tensor | None) -> Tensor:
        """Attention of [texts, heads, queries, size], [texts, queries, hidden].

        Args:
            query: [texts, heads, queries, size].
            key: [texts, heads, width, size].
            value: [texts, heads, width, size].
            group: of texts.
            bias: added to the scores, or None.
        """
        # else softmax, and what follows it, would be in fp32
        with torch.autocast(query.device.type, enabled=False):
            # in this order: dynamo cannot trace the second
            if not self.network.training and torch.is_inference_mode_enabled():
                return self.fused_attention(query, key, value, group, bias)
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            if bias is not None:
                scores = scores + bias[..., : scores.shape[-2], : scores.shape[-1]].to(scores.dtype)
            scores = scores.float() if group.fp32_softmax and scores.dtype == torch.bfloat16 else scores
            # added: the backward pass of masked_fill is one more over all scores
            scores += torch.where(group.mask, 0.0, -torch.inf).to(scores.dtype)
            shares = scores.softmax(-1).to(value.dtype)
            return (self.dropout(shares, self.encoder.attention_dropout) @ value).transpose(1, 2).flatten(2)

    def fused_attention(
        self, query: Tensor, key: Tensor, value: Tensor, group: Group, bias: Tensor | None
    ) -> Tensor:
        """The same by torch's own kernel, which knows no dropout on a CPU and has no forward mode.

        Args:
            query: as for `attend`.
            key: as for `attend`.
            value: as for `attend`.
            group: of texts.
            bias: added to the scores, or None.
        """
        added = torch.where(group.mask, 0.0, -torch.inf).to(query.dtype)
        if bias is not None:
            added = added + bias[..., : query.shape[-2], : key.shape[-2]].to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=added).transpose(1, 2).flatten(2)

    def dropout(self, values: Tensor, p: float) -> Tensor:
        """Dropout with probability p.

        On a CPU by 16 bits an element: torch's own draws are a sixth of a step.

        Args:
            values: any shape.
            p: the probability that one is dropped.
        """
        if not self.network.training or p == 0:
            return values
        if self.stacked or values.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(values, p)
        dropped = round(p * 2**16)
        if dropped == 0:
            return values
        least = dropped - 2**15
        bits = (
            torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        )
        # 0 or 1; faster than >=
        kept = bits[: values.numel()].view(values.shape).clamp_(least - 1, least).sub_(least - 1)
        scale = torch.tensor(2**16 / (2**16 - dropped), dtype=values.dtype)
        if values.dtype == torch.bfloat16:
            # its bits, or none: faster than a cast
            return values * kept.mul_(int(scale.view(torch.int16))).view(torch.bfloat16)
        return values * kept.to(values.dtype).mul_(scale)


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: tuple[Tensor, Tensor],
    widths: tuple[int, int],
    dropout: float,
) -> Tensor:
    """softmax(QKᵀ/√d)·V of each sequence by torch's FlashAttention, [queries, heads, size of a head].

    The operator is the one that nested tensors call; `torch.nn.attention.varlen` has no dropout.

    Args:
        query: [queries, heads, size of a head]; bf16 or fp16.
        key: [keys, heads, size of a head].
        value: as key.
        starts: of queries and keys, int32, [sequences + 1]: the first of each sequence, and the number of
            all.
        widths: of queries and keys: no sequence has more.
        dropout: probability with which a share of attention is dropped.
    """
    forward = torch.ops.aten._flash_attention_forward
    return forward(query, key, value, *starts, *widths, dropout, False, False)[0]


def concatenated(parts: list[Tensor]) -> Tensor:
    """The parts one after the other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def can_be_packed(network: nn.Module) -> bool:
    """Whether the network's family is a known one; logs once per family where it is not."""
    config: HFModule = network.config
    # some families then mask later tokens, which the packed attention does not
    causal = getattr(config, "is_decoder", False)
    if config.model_type in FAMILIES and not causal:
        return True
    log_padded(f"causal {config.model_type}" if causal else config.model_type)
    return False


@cache
def log_padded(kind: str) -> None:
    """Logs, once per process, that encoders of this kind are padded."""
    logger.info("%s encoders are padded; those packed are %s", kind, ", ".join(FAMILIES))


def is_packed(network: nn.Module) -> bool:
    """Whether the network's forward pass is the packed one."""
    return isinstance(network.forward, PackedForward)


def graphs_of(network: nn.Module) -> Graphs | None:
    """The CUDA graphs of a network's steps, where there are any."""
    graphs = network.forward.graphs if isinstance(network.forward, PackedForward) else None
    return graphs if graphs is not None and graphs.passes else None


@contextmanager
def packed_forward(network: nn.Module) -> Iterator[None]:
    """Within it the network's forward pass is the packed one; its own where its family is not a known one."""
    if is_packed(network) or not can_be_packed(network):
        yield
        return
    network.forward = PackedForward(network)
    try:
        yield
    finally:
        del network.forward


@contextmanager
def packed_network(
    network: nn.Module, splits: list[TokenizedTexts]
) -> Iterator[Callable[[TokenizedTexts], TokenizedTexts]]:
    """Within it the network is packed and its token embedding has the ids of these texts alone.

    Gives what renumbers a split's ids. An encoder of another family stays as it is: it may look for an id, of
    a last token say, in ways not known here.

    Args:
        network: of a known family, or another.
        splits: whose token ids the embedding keeps.
    """
    if not can_be_packed(network):
        yield lambda tokens: tokens
        return
    embedding: Any = network.get_input_embeddings()  # type: ignore[operator]
    vocabulary = TokenVocabulary(splits, embedding.padding_idx)
    with vocabulary.pruned_embedding(network), packed_forward(network):
        yield vocabulary.remap
