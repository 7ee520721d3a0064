"""What the exports to formats of others share: an image token, and adapters merged."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from polylens.errors import UserError
from polylens.models.checkpoints.build import part_state
from polylens.models.parts.lora import has_adapters
from polylens.models.parts.precision import is_quantized
from polylens.models.vlm import VisionLanguageModel

IMAGE_TOKEN = "<image>"


@dataclass(frozen=True)
class TextSide:
    """A language model with a token for pictures: its tokenizer, that token's id, its weights and config."""

    tokenizer: PreTrainedTokenizerBase
    image_token: int
    state: dict[str, torch.Tensor]
    config: dict[str, Any]


def text_side(model: VisionLanguageModel) -> TextSide:
    """The model's language side with an image token.

    Where the embeddings have no spare row for it, a row is added: the mean of the others, which no answer
    prefers. Raises `UserError` for adapters that are not merged, for weights in 8 or 4 bits, and for a
    projector that is not linear.
    """
    if model.config.projector.kind != "linear":
        raise UserError(
            f"Other formats have no projector of the kind '{model.config.projector.kind}': only models with "
            "projector.kind linear can be exported."
        )
    if has_adapters(model.lm):
        raise UserError("The model carries LoRA adapters: merge them (merge_lora) before exporting.")
    if is_quantized(model.lm):
        raise UserError("A model in 8 or 4 bits cannot be exported: load it in bfloat16 or float32.")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    state = part_state(model, "language_model")
    lm: Any = model.lm
    config = lm.config.to_dict()
    if image_token >= lm.get_input_embeddings().weight.shape[0]:
        state = _with_rows(model, state, image_token + 1)
        config["vocab_size"] = image_token + 1
    return TextSide(tokenizer, image_token, _named_once(model, state), config)


def _named_once(model: VisionLanguageModel, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied tensors under the one name that the others are tied to: readers look for it."""
    tied = model.lm.all_tied_weights_keys
    return {
        name: tensor
        for name, tensor in state.items()
        if name not in tied or state[tied[name]].data_ptr() != tensor.data_ptr()
    }


def _with_rows(
    model: VisionLanguageModel, state: dict[str, torch.Tensor], wanted: int
) -> dict[str, torch.Tensor]:
    """The language model's state with the embeddings and the head filled up to `wanted` rows."""
    modules = (model.lm.get_input_embeddings(), model.lm.get_output_embeddings())
    grown = {}
    for tensor in (t.detach() for module in modules for t in module.parameters()):
        mean = tensor.float().mean(0, keepdim=True).to(tensor.dtype)
        grown[tensor.data_ptr()] = torch.cat([tensor, mean.expand(wanted - len(tensor), *tensor.shape[1:])])
    return {name: grown.get(tensor.data_ptr(), tensor) for name, tensor in state.items()}


def special_ids(model: VisionLanguageModel) -> dict[str, Any]:
    """The ids that generation begins and ends with."""
    own = model.lm.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    return {name: getattr(own, name) for name in names if getattr(own, name, None) is not None}
