"""Sizes of a CPM-Bee."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

# Names in the released `config.json` files, for what is called otherwise here and in transformers.
RELEASED = {
    "dim_model": "hidden_size",
    "dim_ff": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "dim_head": "head_dim",
    "position_bias_num_buckets": "num_position_buckets",
    "position_bias_num_segment_buckets": "num_segment_buckets",
    "position_bias_max_distance": "max_distance",
    "vocab_size": "vocab_size",
    "eps": "eps",
}


class CpmBeeConfig(PreTrainedConfig):
    """The defaults are those of CPM-Bee 10B."""

    model_type = "polylens_cpm_bee"

    def __init__(
        self,
        vocab_size: int = 86_583,
        hidden_size: int = 4096,
        intermediate_size: int = 10_240,
        num_hidden_layers: int = 48,
        num_attention_heads: int = 32,
        head_dim: int = 128,
        num_position_buckets: int = 256,
        num_segment_buckets: int = 256,
        max_distance: int = 2048,
        eps: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.head_dim = head_dim
        self.num_position_buckets = num_position_buckets
        self.num_segment_buckets = num_segment_buckets
        self.max_distance = max_distance
        self.eps = eps
        super().__init__(**kwargs)

    @classmethod
    def from_released(cls, values: Mapping[str, Any]) -> "CpmBeeConfig":
        """From the keys of a released configuration file (`dim_model`, ...), or of the transformers port, which has
        some of transformers' names; others are passed over.
        """
        own = {key: value for key, value in values.items() if key in RELEASED.values()}
        return cls(**own | {RELEASED[key]: value for key, value in values.items() if key in RELEASED})
