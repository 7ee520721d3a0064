"""A new model from parts that exist: an image encoder, a language model, and a fresh (or taken) resampler."""

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.models.checkpoints.blip2_files import is_blip2
from polylens.models.checkpoints.blip2_parts import (
    read_language_model,
    read_projector,
    read_qformer,
    read_vision,
)
from polylens.models.checkpoints.card import MANIFEST, card_languages
from polylens.models.checkpoints.manifest import read_checkpoint_projector, read_checkpoint_qformer
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import ModelConfig, Quantization, VisionConfig
from polylens.models.parts.lora import plain_state
from polylens.models.parts.precision import loading_settings
from polylens.models.parts.projectors import new_projector
from polylens.models.parts.resamplers import QFormer, Resampler, new_resampler
from polylens.models.parts.vision import VisionTower
from polylens.models.vlm import VisionLanguageModel
from polylens.pretrained import load_whole

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes
# Heads over the patch states of a vision model. The patch states are all that is read of it.
UNUSED = ("pooler", "head.")


def compose(
    config: ModelConfig,
    vision: VisionTower,
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    processor: ImageProcessor,
    resampler: Resampler | None = None,
) -> VisionLanguageModel:
    """Join loaded parts by a new resampler (unless one is given) and a new projector, random from torch's
    seed.
    """
    if resampler is None:
        lm_width = language_model.get_input_embeddings().weight.shape[1]
        num_patches = vision.num_patches(processor.height, processor.width)
        resampler = new_resampler(config.resampler, vision.width, num_patches, lm_width)
    return VisionLanguageModel(
        vision,
        resampler,
        new_projector(config.projector, resampler, language_model),
        language_model,
        tokenizer,
        processor,
        config,
    )


def build_model(config: ModelConfig, dtype: torch.dtype = torch.float32) -> VisionLanguageModel:
    """Load the parts that `config` names and join them; the pictures are prepared as the encoder's folder
    says.

    Raises `UserError` for parts that are missing or do not fit.
    """
    config = config.model_copy(deep=True)
    vision = load_vision(config.vision, dtype)
    processor = ImageProcessor.from_folder(resolve_model(str(config.vision.path), part="vision"))
    language_model, tokenizer = load_language_model(
        config.language_model.path, dtype, config.language_model.quantization
    )
    resampler = None
    if config.resampler.path is not None:
        resampler = _taken_qformer(config.resampler.path, dtype)
        if resampler.model.config.encoder_hidden_size != vision.width:
            raise UserError(
                f"The Q-Former of '{config.resampler.path}' reads states of width "
                f"{resampler.model.config.encoder_hidden_size}, and the vision part gives {vision.width}: "
                "take both from one folder."
            )
        config.resampler = config.resampler.model_copy(update={"num_tokens": resampler.num_tokens})
    if config.language_model.languages is None:
        config.language_model.languages = card_languages(
            resolve_model(str(config.language_model.path), part="language_model")
        )
    model = compose(config, vision, language_model, tokenizer, processor, resampler)
    if config.projector.path is not None:
        _keep_projector(model.projector, config.projector.path)
    model.resampler.to(dtype)
    model.projector.to(dtype)
    remember_parts(model)
    return model


def _taken_qformer(path: str, dtype: torch.dtype) -> QFormer:
    folder = resolve_model(path, part="resampler")
    if (folder / MANIFEST).is_file():
        return read_checkpoint_qformer(folder, dtype)
    if not is_blip2(folder):
        raise UserError(
            f"resampler.path '{path}' is neither a checkpoint nor a BLIP-2 folder: "
            "leave it out for a new resampler."
        )
    return read_qformer(folder, dtype)


def _keep_projector(projector: nn.Module, path: str) -> None:
    folder = resolve_model(path, part="projector")
    if (folder / MANIFEST).is_file():
        state = read_checkpoint_projector(folder)
    elif is_blip2(folder):
        state = read_projector(folder).state_dict()
    else:
        raise UserError(
            f"projector.path '{path}' is neither a checkpoint nor a BLIP-2 folder: leave it out for a new one."
        )
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in projector.state_dict().items()}
    if found != wanted:
        raise UserError(
            f"The projection of '{path}' is {found or 'none'}, and this model's must be {wanted or 'none'}: "
            "it fits only the language model it was trained for; leave projector.path out for a new one."
        )
    projector.load_state_dict(state)


def load_vision(config: VisionConfig, dtype: torch.dtype = torch.float32) -> VisionTower:
    """The encoder in the folder (or hub repository) `config.path`; of a two-tower model, its vision tower.

    Raises `UserError` when the path is missing or holds no vision model.
    """
    if config.path is None:
        raise UserError(
            "The vision part has no path: set vision.path to a model folder, a packaged name or a hub id."
        )
    source = resolve_model(config.path, part="vision")
    if is_blip2(source):
        return VisionTower(read_vision(source, dtype), config.layer, config.class_token)
    try:
        model_config = AutoConfig.from_pretrained(source)
        try:
            model = load_whole(AutoModel, source, unused=UNUSED, dtype=dtype)
        except ValueError:
            # Some vision models stand in no Auto table; their folder names their class.
            named = getattr(transformers, model_config.architectures[0])
            model = load_whole(named, source, unused=UNUSED, dtype=dtype)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"No vision model can be loaded from '{config.path}': {error}") from error
    model = getattr(model, "vision_model", None) if hasattr(model.config, "vision_config") else model
    if model is None or getattr(model, "main_input_name", "pixel_values") != "pixel_values":
        raise UserError(f"'{config.path}' holds no vision model: give the folder of an image encoder.")
    return VisionTower(model, config.layer, config.class_token)


def load_language_model(
    path: str | None, dtype: torch.dtype = torch.float32, quantization: Quantization | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model and tokenizer of a folder, packaged name or hub id.

    An output head that differs from the input embeddings in the folder stays untied, whatever the config
    says. Raises `UserError` when nothing can be loaded, or the tokenizer knows no end of sequence.
    """
    if path is None:
        raise UserError(
            "The language model has no path: set language_model.path to a folder, a name or a hub id."
        )
    source = resolve_model(path, part="language_model")
    settings = loading_settings(dtype, quantization)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        if is_blip2(source):
            model = read_language_model(source, dtype, quantization)
        else:
            config = AutoConfig.from_pretrained(source)
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            model = load_whole(kind, source, **settings)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"No language model can be loaded from '{path}': {error}") from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"The tokenizer of '{path}' has no end-of-sequence token: set eos_token in its folder."
        )
    keep_untied(model)
    return model, tokenizer


def keep_untied(model: PreTrainedModel) -> None:
    """Make the config, and the list of tied weights, say what is: a head apart from the embeddings stays
    apart.

    transformers 5 makes T5 and MT5 configs say "tied", and a later `tie_weights()` would overwrite a
    trained head.
    """
    head, inputs = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is inputs.weight:
        return
    model.config.tie_word_embeddings = False
    name = next(name for name, module in model.named_modules() if module is head)
    model._tied_weights_keys = {
        target: source
        for target, source in (model._tied_weights_keys or {}).items()
        if target != f"{name}.weight"
    }
    model.all_tied_weights_keys = {
        target: source for target, source in model.all_tied_weights_keys.items() if target != f"{name}.weight"
    }


def part_state(model: VisionLanguageModel, part: str) -> dict[str, torch.Tensor]:
    """The tensors of the part "vision" or "language_model", under the names of its own class, adapters left
    out.
    """
    return plain_state(model.vision.model if part == "vision" else model.lm)


def fingerprint(tensor: torch.Tensor) -> tuple[int, int]:
    """Two numbers that change with the tensor's values, the same on every device: the bits' parity and
    their sum.
    """
    bits = tensor.detach().view(INTEGERS[tensor.element_size()])
    return int(torch.hash_tensor(bits).item()), int(bits.sum(dtype=torch.int64).item())


def remember_parts(model: VisionLanguageModel) -> None:
    """Note the parts' weights, fresh from their folders, so that saving finds what has changed."""
    halves = {torch.bfloat16, torch.float16}
    model.fingerprints = {
        f"{part}.{name}": {dtype: fingerprint(tensor.to(dtype)) for dtype in {tensor.dtype, *halves}}
        for part in ("vision", "language_model")
        for name, tensor in part_state(model, part).items()
    }
