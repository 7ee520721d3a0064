"""Tiny models with random weights, built from configs, for the tests of this room."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Blip2VisionConfig,
    Blip2VisionModel,
    BloomConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextV2Config,
    ConvNextV2Model,
    GPT2Config,
    LlamaConfig,
    MT5Config,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    ResNetConfig,
    ResNetModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    ViTConfig,
    ViTModel,
)

from polylens.data.images import ImageProcessor
from polylens.data.sample import Sample, Turn
from polylens.models.checkpoints.blip2 import save_blip2
from polylens.models.checkpoints.build import compose, keep_untied
from polylens.models.config import ModelConfig, ResamplerConfig
from polylens.models.parts.vision import VisionTower
from polylens.models.vlm import VisionLanguageModel

SIZE = 32
PROCESSOR = ImageProcessor(height=SIZE, width=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ :?!."
SPECIAL = ["<pad>", "</s>", "<s>", "<unk>"]
VOCABULARY = len(SPECIAL) + len(LETTERS)
IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "vocab_size": VOCABULARY}

DECODERS = {
    "llama": LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        **IDS,
    ),
    "qwen2": Qwen2Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        **IDS,
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **IDS),
    "opt": OPTConfig(
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        **IDS,
    ),
    "bloom": BloomConfig(hidden_size=32, n_layer=2, n_head=4, **IDS),
}
SEQ2SEQ_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.1}
ENCODER_DECODERS = {
    "t5": T5Config(decoder_start_token_id=0, **SEQ2SEQ_SIZES, **IDS),
    "mt5": MT5Config(decoder_start_token_id=0, feed_forward_proj="gated-gelu", **SEQ2SEQ_SIZES, **IDS),
}
LANGUAGE_MODELS = DECODERS | ENCODER_DECODERS

VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "image_size": SIZE,
    "patch_size": 8,
}
CONV = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "image_size": SIZE}
VISION = {
    "vit": (ViTModel, ViTConfig(**VIT)),
    "clip": (CLIPVisionModel, CLIPVisionConfig(**VIT)),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(**VIT)),
    "blip2": (Blip2VisionModel, Blip2VisionConfig(**VIT)),
    "convnext": (ConvNextV2Model, ConvNextV2Config(**CONV)),
    "resnet": (ResNetModel, ResNetConfig(embedding_size=8, layer_type="basic", **CONV)),
}

RESAMPLERS = {
    "qformer": ResamplerConfig(kind="qformer", num_tokens=3, width=16, depth=2, num_heads=2),
    "perceiver": ResamplerConfig(kind="perceiver", num_tokens=3, width=16, depth=2, num_heads=2),
    "mlp": ResamplerConfig(kind="mlp"),
}


def tiny_tokenizer(encoder_decoder: bool) -> PreTrainedTokenizerFast:
    """One token per letter; an encoder's texts are closed with `</s>`."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if encoder_decoder:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


def tiny_language_model(name: str) -> torch.nn.Module:
    config = copy.deepcopy(LANGUAGE_MODELS[name])  # a model may change its own
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = kind.from_config(config)
    # Random weights of the usual size are almost deaf: larger ones let the pictures and the prompt matter.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def tiny_vision(name: str) -> VisionTower:
    kind, config = VISION[name]
    return VisionTower(kind(config))


def tiny_vlm(
    lm: str = "llama", vision: str = "vit", resampler: str = "perceiver", seed: int = 0, **config: object
) -> VisionLanguageModel:
    torch.manual_seed(seed)
    settings = ModelConfig(resampler=RESAMPLERS[resampler], **config)
    language_model = tiny_language_model(lm)
    model = compose(
        settings,
        tiny_vision(vision),
        language_model,
        tiny_tokenizer(language_model.config.is_encoder_decoder),
        PROCESSOR,
    )
    return model.eval()


@dataclass(frozen=True)
class NoisePicture:
    """A picture of noise; `loads` of the class counts how often any was decoded."""

    seed: int

    @property
    def key(self) -> str:
        return f"noise-{self.seed}"

    def load(self) -> Image.Image:
        noise = torch.randint(0, 256, (40, 50, 3), generator=torch.Generator().manual_seed(self.seed))
        return Image.fromarray(noise.to(torch.uint8).numpy())


def sample(prompt: str, answer: str = "", pictures: tuple[int, ...] = (0,), name: str = "s") -> Sample:
    return Sample(
        name, tuple(NoisePicture(i) for i in pictures), (Turn(prompt, answer),), "de", "caption", "test"
    )


def save_language_model(name: str, folder: Path) -> Path:
    torch.manual_seed(1)
    model = tiny_language_model(name)
    model.save_pretrained(folder)
    tiny_tokenizer(model.config.is_encoder_decoder).save_pretrained(folder)
    return folder


def save_vision(name: str, folder: Path) -> Path:
    torch.manual_seed(2)
    tiny_vision(name).model.save_pretrained(folder)
    PROCESSOR.save(folder)
    return folder


def save_released_blip2(name: str, folder: Path, shards: bool = True) -> Path:
    """A BLIP-2 folder as transformers 4 left it: a head apart from the embeddings where the model has its own, no
    image token in config or tokenizer, weights in `.bin` shards that each hold a few tensors.
    """
    model = tiny_vlm(name, vision="blip2", resampler="qformer", seed=3)
    head = model.lm.get_output_embeddings()
    if model.is_encoder_decoder:
        head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
        keep_untied(model.lm)
    save_blip2(model, folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    rows = len(tiny_tokenizer(model.is_encoder_decoder))
    for key in state:  # the row of the image token
        if state[key].shape[:1] == (rows + 1,):
            state[key] = state[key][:rows].clone()
    parts = ("vision_model.", "q", "language_projection.", "language_model.")
    grouped = [{n: t for n, t in state.items() if n.startswith(part)} for part in parts]
    weight_map = {}
    for number, tensors in enumerate(grouped if shards else [state], 1):
        file = f"pytorch_model-{number:05d}-of-00004.bin" if shards else "pytorch_model.bin"
        torch.save(tensors, folder / file)
        weight_map |= dict.fromkeys(tensors, file)
    if shards:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    config = json.loads((folder / "config.json").read_text())
    config.pop("image_token_index", None)
    config.pop("image_token_id", None)
    config["text_config"]["vocab_size"] = rows
    (folder / "config.json").write_text(json.dumps(config))
    tiny_tokenizer(model.is_encoder_decoder).save_pretrained(folder)
    (folder / "processor_config.json").unlink()
    return folder
