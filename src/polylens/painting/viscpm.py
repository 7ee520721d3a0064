"""VisCPM-Paint's released file: `trans_block.*`, `unet.*` and `llm.*`, beside a Stable Diffusion 2.1-base folder."""

import json
from pathlib import Path

import torch

from polylens.errors import UserError
from polylens.painting.bridge import new_bridge
from polylens.painting.config import DenoiserConfig, PainterConfig, SpaceConfig, TextConfig
from polylens.painting.painter import Painter
from polylens.painting.parts import DENOISERS, context_width, load_schedule, load_space, part_folder
from polylens.painting.parts import load_denoiser as new_denoiser
from polylens.painting.text import CpmBeeText
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer
from polylens.viscpm.files import read_released_cpm_bee, read_tensors

BRIDGE, UNET = "trans_block.", "unet."


def read_released_painter(
    path: str | Path,
    base: str,
    vocabulary: str | Path,
    *,
    sizes: str | Path | None = None,
    language_model: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> Painter:
    """The painter of a released file.

    `base` is a Stable Diffusion 2.1-base folder, whose autoencoder, scheduler and sizes of the UNet are taken, not its
    weights; `vocabulary` CPM-Bee's vocab.txt; `sizes` a JSON file of CPM-Bee's sizes, where they are not those of
    10B; `language_model` the file with CPM-Bee, where the painter's own does not hold it.

    Raises `UserError` for files that are damaged or do not fit.
    """
    tensors = read_tensors(Path(path))
    if not any(name.startswith(BRIDGE) for name in tensors):
        chats = any(name.startswith("vpm.") for name in tensors)
        kind = "VisCPM-Chat, which answers and draws nothing" if chats else "no VisCPM-Paint"
        raise UserError(
            f"'{path}' is {kind}: give VisCPM-Paint's file, which holds '{BRIDGE}*' and '{UNET}*'."
        )
    text = TextConfig()
    tokenizer = CpmBeeTokenizer.from_pretrained(vocabulary)
    reader = CpmBeeText(read_released_cpm_bee(language_model or path, sizes, dtype), tokenizer, text)
    settings = json.loads((part_folder(base, DENOISERS) / "config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        denoiser = new_denoiser(DenoiserConfig(config=settings), dtype)
    config = PainterConfig(text=text, space=SpaceConfig(path=base))
    config.schedule = load_schedule(base)
    bridge = new_bridge(config.bridge, reader.width, context_width(denoiser)).to(dtype)
    for module, prefix in ((bridge, BRIDGE), (denoiser, UNET)):
        own = {n.removeprefix(prefix): t.to(dtype) for n, t in tensors.items() if n.startswith(prefix)}
        found, wanted = _shapes(own), _shapes(module.state_dict())
        if found != wanted:
            name = next(n for n in [*wanted, *found] if wanted.get(n) != found.get(n))
            raise UserError(
                f"'{path}' does not fit: '{prefix}{name}' is {found.get(name, 'missing')} there, and "
                f"{wanted.get(name, 'not there')} in '{base}' and the language model: give those it was trained with."
            )
        module.load_state_dict(own, assign=True)
    space = load_space(config.space, dtype)
    config.size = int(settings["sample_size"]) * space.factor
    painter = Painter(reader, bridge, denoiser, space, config.schedule, config)
    return painter.requires_grad_(False).eval()


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
