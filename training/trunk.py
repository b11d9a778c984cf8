"""The trunk: Hugging Face's Llama without its token table. Trained over all rows; served for the newest row alone."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from training.architecture import Architecture
from training.packed import Packed
from worker.contract.features import FeatureSpec

#: Added to the weight of a later row: none is left of it.
_UNSEEN = -1e9


def make_trunk(spec: FeatureSpec, architecture: Architecture) -> LlamaModel:
    """A new one, with its weights by torch's random state: RMSNorm, rotary positions, SwiGLU, no biases."""
    return LlamaModel(
        LlamaConfig(
            vocab_size=1,
            hidden_size=architecture.width,
            intermediate_size=architecture.feed_forward,
            num_hidden_layers=architecture.layers,
            num_attention_heads=architecture.heads,
            max_position_embeddings=spec.window + 8,
            attention_dropout=architecture.dropout,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def after_each(trunk: nn.Module, rows: Tensor) -> Tensor:
    """[B, T, width] -> [B, T, width]: what the trunk makes of each row and of those before it."""
    hidden: Tensor = trunk(inputs_embeds=rows, position_ids=_positions(rows), use_cache=False).last_hidden_state
    return hidden


class _Rows(NamedTuple):
    """Packed rows [N, width], and of each one's place the cosines and sines of its rotary angles, [N, width]."""

    rows: Tensor
    cos: Tensor
    sin: Tensor
    where: Packed


def after_newest(trunk: LlamaModel, rows: Tensor, where: Packed) -> Tensor:
    """[N, width] -> [B, width]: what `after_each` makes of each session's last row, for less.

    Of the last layer only the keys and values of the other rows are needed, and no library's mask is built.
    """
    *lower, top = trunk.layers
    steps = torch.arange(where.number.shape[1], device=rows.device)  # [T]
    unseen = (steps > steps[:, None]).to(rows.dtype) * _UNSEEN  # [T, T]
    cos, sin = (
        F.embedding(where.place, angles[0].repeat(1, trunk.config.num_attention_heads))
        for angles in trunk.rotary_emb(rows, position_ids=steps[None])
    )
    asked = _Rows(rows, cos, sin, where)
    for layer in lower:
        asked = asked._replace(rows=_layer(layer, asked, asked, unseen))
    rows, cos, sin, place = (values.index_select(0, where.last) for values in (asked.rows, cos, sin, where.place))
    each = torch.arange(rows.shape[0], device=rows.device)
    newest = _Rows(rows, cos, sin, Packed(each, torch.zeros_like(each), each[:, None]))
    unseen = F.embedding(place, unseen)[:, None, None]  # [B, 1, 1, T]
    return _normed(trunk.norm, _layer(top, newest, asked, unseen))


def _layer(layer: Any, asking: _Rows, asked: _Rows, unseen: Tensor) -> Tensor:
    """What a layer makes of the rows that ask [M, width]; `unseen` [..., Q, T] takes rows out that are asked."""
    attention = layer.self_attn
    heads = torch.arange(attention.config.num_attention_heads, device=unseen.device)

    def by_head(values: Tensor, number: Tensor) -> Tensor:
        """values [N, width], number [B, T] -> [B, heads, T, head]"""
        return F.embedding(number[:, None] * len(heads) + heads[:, None], values.reshape(-1, attention.head_dim))

    normed = _normed(layer.input_layernorm, asked.rows)
    normed_asking = normed if asking is asked else _normed(layer.input_layernorm, asking.rows)
    query = by_head(_turned(normed_asking, attention.q_proj.weight, attention.head_dim, asking), asking.where.number)
    key = by_head(_turned(normed, attention.k_proj.weight, attention.head_dim, asked), asked.where.number)
    value = by_head(attention.v_proj(normed), asked.where.number)
    weight = torch.softmax(query @ key.transpose(-1, -2) * attention.scaling + unseen, dim=-1)
    each = asking.where.session[:, None] * len(heads) + heads
    each = each * query.shape[2] + asking.where.place[:, None]  # [M, heads] in [B * heads * Q]
    mixed = F.embedding(each, (weight @ value).flatten(0, 2)).flatten(1)
    rows = asking.rows + attention.o_proj(mixed)
    out: Tensor = rows + layer.mlp(_normed(layer.post_attention_layernorm, rows))
    return out


def _turned(rows: Tensor, weight: Tensor, head: int, angles: _Rows) -> Tensor:
    """[N, width] times a weight, then turned by rotary positions (Su et al. 2021). The half that is added is a product, too."""
    first, second = weight.reshape(-1, 2, head // 2, weight.shape[1]).unbind(dim=1)
    crossed = torch.stack([-second, first], dim=1).reshape(weight.shape)
    return F.linear(rows, weight) * angles.cos + F.linear(rows, crossed) * angles.sin


def _normed(norm: Any, rows: Tensor) -> Tensor:
    """RMSNorm in the form that runtimes know as one operation."""
    scaled: Tensor = rows / torch.sqrt(rows.pow(2).mean(dim=-1, keepdim=True) + norm.variance_epsilon) * norm.weight
    return scaled


def _positions(rows: Tensor) -> Tensor:
    return torch.arange(rows.shape[1], device=rows.device)[None]
