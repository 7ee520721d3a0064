"""The weights of VisCPM-Chat, named as in the released file: `vpm.beit3.*`, `query`, `mapping.*`, `llm.*`.

Shapes: N images, Q queries, V width of BEiT-3, D width of CPM-Bee.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from polylens.viscpm.beit3 import Beit3, Beit3Config
from polylens.viscpm.cpm_bee.config import CpmBeeConfig
from polylens.viscpm.cpm_bee.modeling import CpmBee, CpmBeePreTrainedModel, make_quantizable

INITIAL_SPREAD = 0.02


class VisCpmConfig(PreTrainedConfig):
    """The defaults are those of the released model."""

    model_type = "polylens_viscpm"
    sub_configs = {"llm": CpmBeeConfig, "vision": Beit3Config}  # noqa: RUF012 (transformers reads it from the class)

    def __init__(
        self,
        llm: CpmBeeConfig | dict[str, Any] | None = None,
        vision: Beit3Config | dict[str, Any] | None = None,
        num_queries: int = 64,
        **kwargs: Any,
    ) -> None:
        self.llm = llm if isinstance(llm, CpmBeeConfig) else CpmBeeConfig(**(llm or {}))
        self.vision = vision if isinstance(vision, Beit3Config) else Beit3Config(**(vision or {}))
        self.num_queries = num_queries
        super().__init__(**kwargs)


class VisCpm(PreTrainedModel):
    """Pictures to what CPM-Bee reads in their places, and CPM-Bee itself."""

    config_class = VisCpmConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    _no_split_modules = ["Layer", "Embedding", "Positions"]  # noqa: RUF012 (as above)
    _supports_sdpa = True

    def __init__(self, config: VisCpmConfig) -> None:
        super().__init__(config)
        self.vpm = nn.ModuleDict({"beit3": Beit3(config.vision)})
        self.query = nn.Parameter(torch.empty(config.num_queries, config.vision.hidden_size))
        width = config.llm.hidden_size
        self.mapping = nn.Sequential(
            nn.Linear(config.vision.hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.llm = CpmBee(config.llm)
        make_quantizable(self)
        self.post_init()

    def see(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pixels to the queries' states (N, Q, V)."""
        return self.vpm["beit3"](pixel_values, self.query)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pixels to visual tokens (N, Q, D)."""
        return self.mapping(self.see(pixel_values))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.weight, std=INITIAL_SPREAD)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_SPREAD)
        elif module is self:
            nn.init.normal_(self.query, std=INITIAL_SPREAD)
        else:  # only CPM-Bee has linear layers without biases
            CpmBeePreTrainedModel._init_weights(self.llm, module)
