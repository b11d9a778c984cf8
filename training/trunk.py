"""The trunk: Hugging Face's Llama without its token table. Trained over all rows; served for the newest row alone."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from training.architecture import Architecture
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


def after_newest(trunk: LlamaModel, rows: Tensor, last: Tensor) -> Tensor:
    """[B, T, width], last int [B] -> [B, width]: the row `last` of `after_each`, for less.

    Of the last layer only the keys and values of the other rows are needed, and no library's mask is built.
    """
    *lower, top = trunk.layers
    cos, sin = trunk.rotary_emb(rows, position_ids=_positions(rows))  # [1, T, head]
    place = _positions(rows)[0]
    unseen = (place > place[:, None]).to(rows.dtype) * _UNSEEN  # [T, T]
    for layer in lower:
        rows = _layer(layer, rows, rows, (cos, sin), (cos, sin), unseen)
    newest = rows[torch.arange(rows.shape[0], device=rows.device), last][:, None]  # [B, 1, width]
    rotary = cos[0, last][:, None], sin[0, last][:, None]  # [B, 1, head]
    hidden: Tensor = trunk.norm(_layer(top, newest, rows, rotary, (cos, sin), unseen[last][:, None, None]))
    return hidden[:, 0]


def _layer(
    layer: Any, asking: Tensor, rows: Tensor, asking_rotary: tuple[Tensor, Tensor], rotary: tuple[Tensor, Tensor], unseen: Tensor
) -> Tensor:
    """What a layer makes of the rows that ask [B, Q, width] of rows [B, T, width]; `unseen` [..., Q, T] takes some out."""
    attention = layer.self_attn

    def by_head(values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:2], -1, attention.head_dim).transpose(1, 2)  # [B, heads, rows, head]

    normed = layer.input_layernorm(rows)
    normed_asking = normed if asking is rows else layer.input_layernorm(asking)
    query = _turned(by_head(attention.q_proj(normed_asking)), asking_rotary)
    key, value = _turned(by_head(attention.k_proj(normed)), rotary), by_head(attention.v_proj(normed))
    weight = torch.softmax(query @ key.transpose(-1, -2) * attention.scaling + unseen, dim=-1)
    asking = asking + attention.o_proj((weight @ value).transpose(1, 2).flatten(-2))
    out: Tensor = asking + layer.mlp(layer.post_attention_layernorm(asking))
    return out


def _turned(values: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (Su et al. 2021): [B, heads, rows, head] by the angles of each row."""
    cos, sin = rotary[0][:, None], rotary[1][:, None]
    first, second = values.chunk(2, dim=-1)
    return values * cos + torch.cat([-second, first], dim=-1) * sin


def _positions(rows: Tensor) -> Tensor:
    return torch.arange(rows.shape[1], device=rows.device)[None]
