"""The encoders that can do without padding, by family: what their modules are called, and what they differ in.

A text that holds the padding token itself, which no tokenizer writes, has other positions here than in RoBERTa and MPNet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Embed = Callable[[Tensor, Tensor | None, Tensor], Tensor]
Bias = Callable[[int], Tensor | None]
Mixed = Any  # of transformers: modules whose parts have names, but no types


@dataclass(frozen=True)
class Layer:
    """The modules of one layer, whatever the encoder calls them: post-norm attention and feed-forward."""

    query: Mixed
    key: Mixed
    value: Mixed
    out: Mixed
    attention_norm: Mixed
    up: Mixed
    activation: Callable[[Tensor], Tensor]
    down: Mixed
    norm: Mixed


@dataclass(frozen=True)
class Encoder:
    """What the families differ in.

    embed: (ids, types or None, positions), all [tokens], to [tokens, hidden]. bias: of a width, what is added to the
    scores, [1, heads, width, width], or None. head: of the first tokens' states, [batch, hidden], the logits.
    """

    heads: int
    attention_dropout: float
    hidden_dropout: float
    embed: Embed
    layers: list[Layer]
    bias: Bias
    head: Callable[[Tensor], Tensor]


def layer(of: Mixed, query: Mixed, key: Mixed, value: Mixed, out: Mixed, norm: Mixed) -> Layer:
    """The rest of a layer has the same names in every family."""
    up = of.intermediate
    return Layer(query, key, value, out, norm, up.dense, up.intermediate_act_fn, of.output.dense, of.output.LayerNorm)


def like_bert(of: Mixed) -> Layer:
    inner, out = of.attention.self, of.attention.output
    return layer(of, inner.query, inner.key, inner.value, out.dense, out.LayerNorm)


def like_mpnet(of: Mixed) -> Layer:
    inner = of.attention.attn
    return layer(of, inner.q, inner.k, inner.v, inner.o, of.attention.LayerNorm)


def typed(at: Mixed, types: Tensor | None) -> Tensor:
    return at.token_type_embeddings.weight[0] if types is None else at.token_type_embeddings(types)


def bert(network: Mixed) -> Encoder:
    base, at = network.bert, network.bert.embeddings

    def embed(ids: Tensor, types: Tensor | None, positions: Tensor) -> Tensor:
        return at.LayerNorm(at.word_embeddings(ids) + typed(at, types) + at.position_embeddings(positions))

    def head(first: Tensor) -> Tensor:
        pooled = base.pooler.activation(base.pooler.dense(first))
        return network.classifier(network.dropout(pooled))

    return encoder(network, embed, [like_bert(of) for of in base.encoder.layer], lambda _: None, head)


def roberta(network: Mixed) -> Encoder:
    base, at = network.roberta, network.roberta.embeddings

    def embed(ids: Tensor, types: Tensor | None, positions: Tensor) -> Tensor:
        places = at.position_embeddings(positions + at.padding_idx + 1)
        return at.LayerNorm(at.word_embeddings(ids) + typed(at, types) + places)

    return encoder(network, embed, [like_bert(of) for of in base.encoder.layer], lambda _: None, of_first(network))


def mpnet(network: Mixed) -> Encoder:
    base, at = network.mpnet, network.mpnet.embeddings

    def embed(ids: Tensor, _: Tensor | None, positions: Tensor) -> Tensor:
        return at.LayerNorm(at.word_embeddings(ids) + at.position_embeddings(positions + at.padding_idx + 1))

    def bias(width: int) -> Tensor:
        return base.encoder.compute_position_bias(base.encoder.relative_attention_bias.weight.new_empty(1, width))

    return encoder(network, embed, [like_mpnet(of) for of in base.encoder.layer], bias, of_first(network))


def of_first(network: Mixed) -> Callable[[Tensor], Tensor]:
    """A head that takes the first token's states from [batch, tokens, hidden] itself."""
    return lambda first: network.classifier(first[:, None])


def encoder(network: Mixed, embed: Embed, layers: list[Layer], bias: Bias, head: Callable[[Tensor], Tensor]) -> Encoder:
    of = network.config
    return Encoder(of.num_attention_heads, of.attention_probs_dropout_prob, of.hidden_dropout_prob, embed, layers, bias, head)


FAMILIES: dict[str, Callable[[Mixed], Encoder]] = {"bert": bert, "roberta": roberta, "xlm-roberta": roberta, "mpnet": mpnet}
