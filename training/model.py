"""The network: a causal session Transformer with a head for each thing that is predicted."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from training.architecture import Architecture
from training.row_features import FEATURES, RowFeatures
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, FeatureSpec

#: Spread of the embeddings at the start, small against the features, so that rare ids begin near "unknown".
_EMBEDDING_SPREAD = 0.02
_CATEGORY, _BRAND = CODES.index("category"), CODES.index("brand")


class Heads(NamedTuple):
    """Logits after each row.

    hazard [B, T, 2, 5] · churn [B, T] · next_type [B, T, 8] · next_item [B, T, item_width], to be matched with the item table
    """

    hazard: Tensor
    churn: Tensor
    next_type: Tensor
    next_item: Tensor


class IntentModel(nn.Module):
    """codes int [B, T, 6], numbers float [B, T, 18], right padded -> `Heads`.

    Causal, so padding on the right never touches what comes before it. The trunk is Hugging Face's Llama without its token
    table: RMSNorm, rotary positions, SwiGLU, no biases.
    """

    def __init__(self, spec: FeatureSpec, architecture: Architecture) -> None:
        super().__init__()
        self.spec, self.architecture = spec, architecture
        width = architecture.width
        self.features = RowFeatures()
        sizes = (len(EVENT_TYPES) + 1, spec.item_buckets, spec.category_buckets, spec.brand_buckets, 25, 8)
        self.tables = nn.ModuleList(
            nn.Embedding(size, architecture.item_width if name == "item" else width)
            for name, size in zip(CODES, sizes, strict=True)
        )
        self.item_in = nn.Linear(architecture.item_width, width, bias=False)
        self.numbers_in = nn.Linear(FEATURES, width)
        self.dropout = nn.Dropout(architecture.dropout)
        self.trunk = LlamaModel(_trunk_config(spec, architecture))
        hazards = len(HAZARD_HEADS) * len(HORIZONS)
        self.hazard = nn.Linear(width, hazards)
        self.churn = nn.Linear(width, 1)
        self.next_type = nn.Linear(width, len(EVENT_TYPES))
        self.next_item = nn.Linear(width, architecture.item_width, bias=False)
        self.item_bias = nn.Parameter(torch.zeros(spec.item_buckets))
        # The wide part: what plain logistic regression on the newest row would say, and what its category and brand are like.
        self.wide = nn.Linear(FEATURES + len(EVENT_TYPES) + 1, hazards + 1, bias=False)
        self.wide_category = nn.Embedding(spec.category_buckets, hazards + 1)
        self.wide_brand = nn.Embedding(spec.brand_buckets, hazards + 1)
        self._start()

    def forward(self, codes: Tensor, numbers: Tensor) -> Heads:
        features = self.features(codes, numbers)  # [B, T, FEATURES]
        embedded = self.numbers_in(features)
        for k, name in enumerate(CODES):
            found = self.table(name)(codes[..., k])
            embedded = embedded + (self.item_in(found) if name == "item" else found)
        position = torch.arange(codes.shape[1], device=codes.device).unsqueeze(0)
        hidden = self.trunk(inputs_embeds=self.dropout(embedded), position_ids=position, use_cache=False).last_hidden_state
        hidden = self.dropout(hidden)  # [B, T, width]
        wide = self._wide(codes, features)
        return Heads(
            hazard=(self.hazard(hidden) + wide[..., :-1]).unflatten(-1, (len(HAZARD_HEADS), len(HORIZONS))),
            churn=self.churn(hidden)[..., 0] + wide[..., -1],
            next_type=self.next_type(hidden),
            next_item=self.next_item(hidden),
        )

    def table(self, name: str) -> nn.Embedding:
        """The embeddings of a code."""
        table = self.tables[CODES.index(name)]
        assert isinstance(table, nn.Embedding)
        return table

    def item_logits(self, query: Tensor) -> Tensor:
        """[..., item_width] -> [..., item_buckets]; bucket 0, "no item", never comes next."""
        logits: Tensor = query @ self.table("item").weight.T + self.item_bias
        return logits

    def _wide(self, codes: Tensor, features: Tensor) -> Tensor:
        types = F.one_hot(codes[..., 0].long(), len(EVENT_TYPES) + 1).to(features.dtype)
        linear = self.wide(torch.cat([features, types], dim=-1))
        total: Tensor = linear + self.wide_category(codes[..., _CATEGORY]) + self.wide_brand(codes[..., _BRAND])
        return total  # [B, T, hazards + 1]

    def _start(self) -> None:
        """Start values: heads and the wide part at 0, so that a head without positives stays at its prior."""
        for name in CODES:
            nn.init.normal_(self.table(name).weight, std=_EMBEDDING_SPREAD)
        for part in (self.hazard, self.churn, self.next_type):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        for wide in (self.wide, self.wide_category, self.wide_brand):
            nn.init.zeros_(wide.weight)
        with torch.no_grad():
            self.item_bias[0] = -30.0


def _trunk_config(spec: FeatureSpec, architecture: Architecture) -> LlamaConfig:
    config = LlamaConfig(
        vocab_size=1,
        hidden_size=architecture.width,
        intermediate_size=architecture.feed_forward,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        max_position_embeddings=spec.window + 8,
        attention_dropout=architecture.dropout,
        attn_implementation="sdpa",
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return config
