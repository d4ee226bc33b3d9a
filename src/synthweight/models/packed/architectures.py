"""The encoders that need no padding, by family: the names of their modules, and what they differ in.

A text that holds the padding token itself, which no tokenizer writes, has other positions here than in
RoBERTa and MPNet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Embed = Callable[[Tensor, Tensor | None, Tensor], Tensor]
Bias = Callable[[int], Tensor | None]
Head = Callable[[Tensor], Tensor]
HFModule = Any  # of transformers: its parts have names, but no types


@dataclass(frozen=True)
class EncoderLayer:
    """The modules of one layer, whatever the encoder calls them: post-norm attention and feed-forward."""

    query: HFModule
    key: HFModule
    value: HFModule
    out: HFModule
    attention_norm: HFModule
    up: HFModule
    activation: Callable[[Tensor], Tensor]
    down: HFModule
    norm: HFModule


@dataclass(frozen=True)
class Architecture:
    """What the families differ in.

    Args:
        heads: of the attention.
        attention_dropout: probability for a share of attention.
        hidden_dropout: probability for the other states.
        embed: (ids, types or None, positions), all [tokens], to [tokens, hidden].
        layers: at least one.
        bias: of a width, what is added to attention's scores, [1, heads, width, width], or None.
        head: of the first tokens' states, [batch, hidden], the logits.
    """

    heads: int
    attention_dropout: float
    hidden_dropout: float
    embed: Embed
    layers: list[EncoderLayer]
    bias: Bias
    head: Head


def bert(network: HFModule) -> Architecture:
    """BERT: absolute positions, a pooler before the classifier."""
    body, embeddings = network.bert, network.bert.embeddings

    def embed(ids: Tensor, types: Tensor | None, positions: Tensor) -> Tensor:
        states = embeddings.word_embeddings(ids) + _type_embedding(embeddings, types)
        return embeddings.LayerNorm(states + embeddings.position_embeddings(positions))

    def head(cls_states: Tensor) -> Tensor:
        pooled = body.pooler.activation(body.pooler.dense(cls_states))
        return network.classifier(network.dropout(pooled))

    layers = [_bert_layer(layer) for layer in body.encoder.layer]
    return _architecture(network, embed, layers, lambda _: None, head)


def roberta(network: HFModule) -> Architecture:
    """RoBERTa and XLM-R: positions counted from the padding id on."""
    body, embeddings = network.roberta, network.roberta.embeddings

    def embed(ids: Tensor, types: Tensor | None, positions: Tensor) -> Tensor:
        states = embeddings.word_embeddings(ids) + _type_embedding(embeddings, types)
        return embeddings.LayerNorm(
            states + embeddings.position_embeddings(positions + embeddings.padding_idx + 1)
        )

    layers = [_bert_layer(layer) for layer in body.encoder.layer]
    return _architecture(network, embed, layers, lambda _: None, _sequence_head(network))


def mpnet(network: HFModule) -> Architecture:
    """MPNet: no types, a bias by distance in every layer's attention."""
    body, embeddings = network.mpnet, network.mpnet.embeddings

    def embed(ids: Tensor, _: Tensor | None, positions: Tensor) -> Tensor:
        positions = positions + embeddings.padding_idx + 1
        return embeddings.LayerNorm(
            embeddings.word_embeddings(ids) + embeddings.position_embeddings(positions)
        )

    def bias(width: int) -> Tensor:
        return body.encoder.compute_position_bias(
            body.encoder.relative_attention_bias.weight.new_empty(1, width)
        )

    layers = [_mpnet_layer(layer) for layer in body.encoder.layer]
    return _architecture(network, embed, layers, bias, _sequence_head(network))


def _bert_layer(layer: HFModule) -> EncoderLayer:
    inner, out = layer.attention.self, layer.attention.output
    return _encoder_layer(layer, inner.query, inner.key, inner.value, out.dense, out.LayerNorm)


def _mpnet_layer(layer: HFModule) -> EncoderLayer:
    inner = layer.attention.attn
    return _encoder_layer(layer, inner.q, inner.k, inner.v, inner.o, layer.attention.LayerNorm)


def _encoder_layer(
    layer: HFModule, query: HFModule, key: HFModule, value: HFModule, out: HFModule, norm: HFModule
) -> EncoderLayer:
    """The rest of a layer has the same names in every family."""
    up, down = layer.intermediate, layer.output
    return EncoderLayer(
        query, key, value, out, norm, up.dense, up.intermediate_act_fn, down.dense, down.LayerNorm
    )


def _type_embedding(embeddings: HFModule, types: Tensor | None) -> Tensor:
    return (
        embeddings.token_type_embeddings.weight[0]
        if types is None
        else embeddings.token_type_embeddings(types)
    )


def _sequence_head(network: HFModule) -> Head:
    """A head that takes the first token's states from [batch, tokens, hidden] itself."""
    return lambda cls_states: network.classifier(cls_states[:, None])


def _architecture(
    network: HFModule, embed: Embed, layers: list[EncoderLayer], bias: Bias, head: Head
) -> Architecture:
    config = network.config
    dropouts = config.attention_probs_dropout_prob, config.hidden_dropout_prob
    return Architecture(config.num_attention_heads, *dropouts, embed, layers, bias, head)


FAMILIES: dict[str, Callable[[HFModule], Architecture]] = {
    "bert": bert, "roberta": roberta, "xlm-roberta": roberta, "mpnet": mpnet,
}  # fmt: skip
