"""Export to LLaVA's format (`LlavaForConditionalGeneration`), which many servers of decoders can run.

For models whose resampler is the plain MLP (LLaVA-1.5's projector, arXiv 2310.03744) and whose language
model is a decoder.
"""

import json
from pathlib import Path

import torch
from accelerate import init_empty_weights
from PIL.Image import Image
from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration

from polylens.data.collate import IMAGE_MARK
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.files import replacing_folder, write_atomic
from polylens.models.checkpoints.export import IMAGE_TOKEN, TextSide, special_ids, text_side
from polylens.models.parts.resamplers import MLP
from polylens.models.vlm import VisionLanguageModel

PROBE = "What is this?"


def save_llava(model: VisionLanguageModel, folder: str | Path, max_shard_size: str = "5GB") -> None:
    """Write `model` as a LLaVA folder that plain transformers loads and that answers identically.

    Raises `UserError` for a model that LLaVA's format cannot express, saying why, and for LoRA not merged.
    """
    tower, resampler = model.vision, model.resampler
    if model.is_encoder_decoder:
        raise UserError("LLaVA's format is for decoders, and this language model is an encoder-decoder.")
    if not isinstance(resampler, MLP) or resampler.pixel_shuffle:
        raise UserError(
            "LLaVA's format is for the plain MLP (resampler.kind mlp without pixel_shuffle), not "
            f"{type(resampler).__name__}{' with pixel shuffle' if isinstance(resampler, MLP) else ''}."
        )
    if not hasattr(model.lm.base_model, "embed_tokens"):
        raise UserError(f"LLaVA's format has no place for the embeddings of {type(model.lm).__name__}.")
    strategy, in_front = _selection(model)
    text = text_side(model)
    _check_row(model, text)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=type(model.lm.config).from_dict(text.config),
        image_token_index=text.image_token,
        image_seq_length=model.num_image_tokens,
        projector_hidden_act="gelu",
        vision_feature_layer=-1 if tower.layer == "last" else -2,
        vision_feature_select_strategy=strategy,
        tie_word_embeddings=model.lm.get_output_embeddings().weight is model.lm.get_input_embeddings().weight,
    )
    with init_empty_weights():
        plain = LlavaForConditionalGeneration(config)
    _fill(plain, model, text)
    _compare(plain, model)
    plain.generation_config = GenerationConfig(**special_ids(model))
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": tower.config.patch_size,
        "num_additional_image_tokens": in_front,
        "vision_feature_select_strategy": strategy,
        "image_token": IMAGE_TOKEN,
    }

    with replacing_folder(folder) as new:
        plain.save_pretrained(new, max_shard_size=max_shard_size)
        model.processor.save(new)
        text.tokenizer.save_pretrained(new)
        write_atomic(new / "processor_config.json", json.dumps(processor, indent=2) + "\n")


def _selection(model: VisionLanguageModel) -> tuple[str, int]:
    """(LLaVA's name for the states taken, how many stand in front of the grid)."""
    tower, processor = model.vision, model.processor
    if getattr(tower.config, "hidden_sizes", None) or not isinstance(tower.config.patch_size, int):
        raise UserError("LLaVA's format is for image encoders of square patches, not for feature maps.")
    grid = (processor.height // tower.config.patch_size) * (processor.width // tower.config.patch_size)
    whole = type(tower)(tower.model, tower.layer, class_token=True)
    in_front = whole.num_patches(processor.height, processor.width) - grid
    if tower.class_token or not in_front:
        return "full", in_front
    if in_front > 1:
        raise UserError(
            f"LLaVA's format drops one token in front of the grid, and this encoder has {in_front}: "
            "train with vision.class_token true."
        )
    return "default", in_front


def _check_row(model: VisionLanguageModel, text: TextSide) -> None:
    """LLaVA has its pictures where the prompt says; ours must stand at the same places."""
    sample = Sample("probe", (_NoPicture(),), (Turn(PROBE, ""),), "en", "caption", "")
    batch = model.collator(with_pictures=False)([sample], answers=False)
    ours = batch.input_ids[0].masked_fill(batch.image_mask[0], text.image_token).tolist()
    prompt, chat = IMAGE_TOKEN + PROBE, model.config.layout.kind == "chat"
    if chat:
        prompt = text.tokenizer.apply_chat_template(
            [{"role": "user", "content": IMAGE_MARK + PROBE}], tokenize=False, add_generation_prompt=True
        ).replace(IMAGE_MARK, IMAGE_TOKEN)
    expanded = prompt.replace(IMAGE_TOKEN, IMAGE_TOKEN * model.num_image_tokens)
    theirs = text.tokenizer(expanded, add_special_tokens=not chat).input_ids
    if ours != theirs:
        raise UserError(
            "LLaVA's format puts a begin-of-sequence token before the pictures, and this model was trained "
            "with another row: train with layout.bos first, or a chat layout."
        )


def _fill(plain: LlavaForConditionalGeneration, model: VisionLanguageModel, text: TextSide) -> None:
    """Hand our tensors over, without copies."""
    resampler = model.resampler
    assert isinstance(resampler, MLP)
    names = set(plain.state_dict())
    head = next(n for n, m in model.lm.named_modules() if m is model.lm.get_output_embeddings())
    inside = f"{model.lm.base_model_prefix}."
    state = {
        "model.multi_modal_projector.linear_1.weight": resampler.up.weight,
        "model.multi_modal_projector.linear_1.bias": resampler.up.bias,
        "model.multi_modal_projector.linear_2.weight": resampler.down.weight,
        "model.multi_modal_projector.linear_2.bias": resampler.down.bias,
    }
    for name, tensor in text.state.items():
        if name.startswith(f"{head}."):
            state[f"lm_head.{name.removeprefix(f'{head}.')}"] = tensor
        else:
            state[f"model.language_model.{name.removeprefix(inside)}"] = tensor
    for name, tensor in model.vision.model.state_dict().items():
        plainly = f"model.vision_tower.{name}"
        # Some encoders' own classes hold the transformer one level further down.
        state[plainly if plainly in names else f"model.vision_tower.vision_model.{name}"] = tensor
    unknown = sorted(set(state) - names)
    # What is tied follows from its source; heads that pool the patches are not used.
    optional = set(plain.all_tied_weights_keys)
    missing = sorted(n for n in names - set(state) - optional if ".pooler" not in n and ".head." not in n)
    if unknown or missing:
        raise UserError(
            f"LLaVA's format has no place for this model: {(unknown or missing)[0]} "
            f"({'one too many' if unknown else 'missing'}); its encoder or language model has another shape."
        )
    plain.load_state_dict({n: t.detach() for n, t in state.items()}, strict=False, assign=True)
    plain.tie_weights()
    plain.eval()


@torch.no_grad()
def _compare(plain: LlavaForConditionalGeneration, model: VisionLanguageModel) -> None:
    """LLaVA may take other states of the encoder, or leave out a scaling of logits: find out, and refuse."""
    pixels = torch.linspace(-1, 1, 3 * model.processor.height * model.processor.width, device=model.device)
    pixels = pixels.view(1, 3, model.processor.height, model.processor.width)
    seen = model.visual_tokens(model.encode(pixels))
    features = plain.model.get_image_features(pixels.to(seen.dtype)).pooler_output[0]
    if (seen[0] - features).abs().max() > 1e-3 * seen.abs().max():
        raise UserError(
            f"LLaVA's format takes the last states of {type(model.vision.model).__name__} without its closing "
            "norm: train with vision.layer penultimate."
        )
    ids = torch.tensor([model.tokenizer(PROBE).input_ids], device=model.device)
    ours = model.lm(input_ids=ids).logits
    theirs = plain(input_ids=ids).logits[..., : ours.shape[-1]]
    if (ours - theirs).abs().max() > 1e-3 * ours.abs().max():
        raise UserError(
            f"{type(model.lm).__name__} does more to its logits than LLaVA's format does (such as scaling "
            "them), so answers would differ: there is no export for it."
        )


class _NoPicture:
    """Takes the places of a picture; nobody looks at it."""

    key = "probe"

    def load(self) -> Image:
        raise NotImplementedError
