"""Files of VisCPM-Chat: the released one, and folders of sharded safetensors.

    released          one .pt or .bin with vpm.*, query, mapping.*, llm.*; vocab.txt apart
    FOLDER            config.json  model-0000x-of-0000y.safetensors  vocab.txt  preprocessor_config.json  README.md

A released file is mapped into memory and its tensors become the model's as they are, so that there is never a second
copy; another type is made tensor by tensor.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.files import WEIGHT_SUFFIXES, make_writable_folder, write_atomic
from polylens.models.checkpoints.families import Stream
from polylens.models.checkpoints.inventory import read_headers
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import Quantization
from polylens.models.parts.precision import loading_settings
from polylens.pretrained import load_whole
from polylens.viscpm.beit3 import RELEASED as RELEASED_VISION
from polylens.viscpm.beit3 import Beit3Config, resize_positions
from polylens.viscpm.cpm_bee.config import CpmBeeConfig
from polylens.viscpm.cpm_bee.modeling import CpmBee
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer
from polylens.viscpm.modeling import VisCpm, VisCpmConfig

IGNORED_PREFIX = "vpm.mim_head."
HALF = (0.5, 0.5, 0.5)
VOCABULARIES = ("vocab.txt", "bee.txt")
CPM_BEE = "openbmb/cpm-bee-10b"
RELEASED_TYPE = "cpmbee"  # of the hub's folder, whose tensors are `cpmbee.*`
PORTED = "cpmbee."


def is_viscpm(folder: Path) -> bool:
    """Whether the folder's config says that it is a VisCPM-Chat."""
    return _model_type(folder) == VisCpmConfig.model_type


def is_cpm_bee(folder: Path) -> bool:
    """Whether the folder's config says that it is a CPM-Bee alone."""
    return _model_type(folder) == CpmBeeConfig.model_type


def is_released_painter(path: Path) -> bool:
    """Whether a file is VisCPM-Paint as it was released."""
    return path.is_file() and any(tensor.name.startswith("trans_block.") for tensor in read_headers(path))


def is_released_cpm_bee(folder: Path) -> bool:
    """Whether the folder is CPM-Bee as it was released, whose config has names of its own."""
    return _model_type(folder) == RELEASED_TYPE


def _model_type(folder: Path) -> str | None:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None


def viscpm_processor(image_size: int) -> ImageProcessor:
    """How pictures are prepared: squeezed to a square, bicubic, mean and deviation one half."""
    return ImageProcessor(height=image_size, width=image_size, mean=HALF, std=HALF)


def read_released_viscpm(
    path: str | Path, config: str | Path | None = None, dtype: torch.dtype | None = None
) -> VisCpm:
    """The model of a released file, in the file's own type unless another is given.

    `config` is a JSON file of sizes where they are not those of VisCPM-Chat 10B: {"llm": {...}, "vision": {...},
    "query_num": 64}, with the keys of the original's configurations.

    Raises `UserError` for a file that is damaged, lacks tensors or has others.
    """
    tensors = read_tensors(Path(path))
    sizes = _read_sizes(config) if config else {}
    model_config = VisCpmConfig(
        llm=CpmBeeConfig.from_released(sizes.get("llm", {})),
        vision=Beit3Config(
            **{
                RELEASED_VISION[key]: value
                for key, value in sizes.get("vision", {}).items()
                if key in RELEASED_VISION
            }
        ),
        num_queries=sizes.get("query_num", 64),
    )
    return _assemble(VisCpm, model_config, tensors, dtype, path)


def read_released_cpm_bee(
    path: str | Path, config: str | Path | None = None, dtype: torch.dtype | None = None
) -> CpmBee:
    """CPM-Bee alone, out of its own file (`encoder.*`, ...) or one of VisCPM (`llm.*`); `config` and errors as in
    `read_released_viscpm`, whose file of sizes will do as well. `path` may be the released folder, with its config.
    """
    path = Path(path)
    if path.is_dir():
        config = config or path / "config.json"
        path = released_file(path)
    tensors = read_tensors(path)
    if any(name.startswith("llm.") for name in tensors):
        tensors = {n.removeprefix("llm."): t for n, t in tensors.items() if n.startswith("llm.")}
    if any(name.startswith(PORTED) for name in tensors):
        # The transformers port writes the embeddings a second time, as its head.
        tensors = {n.removeprefix(PORTED): t for n, t in tensors.items() if n.startswith(PORTED)}
    sizes = _read_sizes(config) if config else {}
    return _assemble(CpmBee, CpmBeeConfig.from_released(sizes.get("llm", sizes)), tensors, dtype, path)


def find_vocabulary(folder: Path) -> Path:
    """CPM-Bee's vocabulary file in `folder` (`vocab.txt`, or `bee.txt` as the original program has it), else that of
    CPM-Bee on the hub: the released repositories of VisCPM bring none.

    Raises `UserError` when there is none.
    """
    for name in VOCABULARIES:
        if (folder / name).is_file():
            return folder / name
    try:
        return resolve_model(f"{CPM_BEE}/{VOCABULARIES[0]}")
    except UserError as error:
        raise UserError(
            f"'{folder}' has no {VOCABULARIES[0]}, and that of {CPM_BEE} cannot be fetched ({error}): put it there."
        ) from error


def released_file(folder: Path) -> Path:
    """The one weight file of a folder. Raises `UserError` when there are several."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in WEIGHT_SUFFIXES]
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise UserError(
            f"'{folder}' must hold one released weight file, and has {names}: name the file, as in "
            "openbmb/VisCPM-Chat/FILE."
        )
    return files[0]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a released file by name, mapped into memory. Raises `UserError` when it cannot be read."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:
        raise UserError(f"The weights '{path}' cannot be read ({error}): download them again.") from error
    if not isinstance(tensors, dict):
        raise UserError(f"'{path}' holds no weights by name: is it the released file?")
    return {name: t for name, t in tensors.items() if not name.startswith(IGNORED_PREFIX)}


def _read_sizes(path: str | Path) -> dict[str, Any]:
    try:
        sizes = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The sizes '{path}' cannot be read: {error}") from error
    if not isinstance(sizes, dict):
        raise UserError(f"'{path}' holds no JSON object of sizes.")
    return sizes


def _assemble(
    kind: Any,
    config: Any,
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype | None,
    path: str | Path,
) -> Any:
    with torch.device("meta"):
        model = kind(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = next((name for name in [*wanted, *found] if wanted.get(name) != found.get(name)), None)
    if wrong:
        raise UserError(
            f"'{path}' does not fit: '{wrong}' is {found.get(wrong, 'missing')} there, and "
            f"{wanted.get(wrong, 'not there')} in a model of these sizes; give its own config."
        )
    for name, tensor in tensors.items():  # one at a time: never two copies of the whole
        model.load_state_dict({name: tensor.to(dtype or tensor.dtype)}, strict=False, assign=True)
    return model.eval()


def read_viscpm(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    stream: Stream | None = None,
    image_size: int | None = None,
) -> VisCpm:
    """The model of a folder.

    `quantization` holds CPM-Bee's linear layers in 8 or 4 bits. With `stream`, CPM-Bee's layers stay on the "cpu" or on
    "disk", and each is brought to where it runs when its turn comes. For another `image_size` the positions of the
    picture are interpolated. Raises `UserError` when the folder lacks something.
    """
    settings = loading_settings(dtype, quantization)
    if quantization:
        settings["quantization_config"].llm_int8_skip_modules = ["vpm", "mapping"]
    model = _from_folder(VisCpm, folder, settings, stream, "llm.encoder.layers")
    if quantization:
        _widen_eyes(model, folder, dtype)
    if image_size is not None:
        set_image_size(model, image_size)
    return model


def _widen_eyes(model: VisCpm, folder: Path, dtype: torch.dtype) -> None:
    """Give all but CPM-Bee its weights in `dtype`, which may be wider than what a model in few bits is loaded in."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            names = [name for name in opened.keys() if not name.startswith("llm.")]  # noqa: SIM118
            state = {name: opened.get_tensor(name).to(dtype) for name in names}
        model.load_state_dict(state, strict=False, assign=True)


def read_cpm_bee(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    stream: Stream | None = None,
) -> CpmBee:
    """CPM-Bee alone out of a folder; see `read_viscpm`."""
    return _from_folder(CpmBee, folder, loading_settings(dtype, quantization), stream, "encoder.layers")


def _from_folder(
    kind: Any, folder: Path, settings: dict[str, Any], stream: Stream | None, layers: str
) -> Any:
    if stream is not None:
        settings["device_map"] = _device_map(kind, folder, stream, layers)
    try:
        with warnings.catch_warnings():
            # The queries are a parameter of the whole, not of a module: accelerate places them all the same.
            warnings.filterwarnings("ignore", "The following device_map keys do not match", UserWarning)
            model = load_whole(kind, folder, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"No {kind.__name__} can be loaded from '{folder}': {error}") from error
    return model.eval()


def _device_map(kind: Any, folder: Path, stream: Stream, layers: str) -> dict[str, Any]:
    """All but the layers on the device that computes."""
    main: int | str = 0 if torch.cuda.is_available() else "cpu"
    if main == "cpu" and stream == "cpu":
        raise UserError(
            "There is no GPU to stream to: without one, weights can be streamed from 'disk' only."
        )
    with torch.device("meta"):
        model = kind(kind.config_class.from_pretrained(folder))
    places: dict[str, Any] = {}
    for name, module in model.named_modules():
        above = name.rpartition(".")[0]
        if above == layers:
            places[name] = stream
        elif not above or f"{layers}.".startswith(f"{above}."):
            own = [f"{name}.{key}" if name else key for key, _ in module.named_parameters(recurse=False)]
            around = not name or f"{layers}.".startswith(f"{name}.")
            places |= dict.fromkeys(own if around else [name], main)
    return places


def set_image_size(model: VisCpm, image_size: int) -> None:
    """Make the model see pictures of another size, its positions interpolated."""
    patch = model.config.vision.patch_size
    if image_size < patch or image_size % patch:
        raise UserError(
            f"The image size is {image_size}: it must be a multiple of the patches' {patch} pixels."
        )
    positions: Any = model.vpm["beit3"].get_submodule("encoder.embed_positions.A")
    positions.weight = torch.nn.Parameter(resize_positions(positions.weight.data, (image_size // patch) ** 2))
    positions.num_embeddings = len(positions.weight)
    model.config.vision.image_size = image_size


def save_folder(
    model: PreTrainedModel, tokenizer: CpmBeeTokenizer, folder: str | Path, max_shard_size: str = "5GB"
) -> Path:
    """Write a model of either kind as sharded safetensors, with vocabulary, picture settings and a card."""
    folder = make_writable_folder(folder)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    lines = list(_card(model))
    if isinstance(model, VisCpm):
        viscpm_processor(model.config.vision.image_size).save(folder)
    write_atomic(folder / "README.md", "\n".join(lines) + "\n")
    return folder


def _card(model: PreTrainedModel) -> Iterator[str]:
    sees = isinstance(model, VisCpm)
    millions = round(sum(parameter.numel() for parameter in model.parameters()) / 1e6)
    yield from ("---", "language: [en, zh]", "library_name: polylens")
    yield from (f"pipeline_tag: {'image-text-to-text' if sees else 'text-generation'}", "---", "")
    yield from (f"# {'VisCPM-Chat' if sees else 'CPM-Bee'}, for Polylens", "")
    yield f"{millions:,} million parameters in {str(model.dtype).removeprefix('torch.')}, as sharded safetensors."
    yield "The weights are those of the file that this folder was made from; its licence goes on to hold."
    yield from ("", "```", "polylens chat THIS_FOLDER" + (" --image photo.jpg" if sees else ""), "```", "")
    if sees:
        yield "The method is MPM's: *Large Multilingual Models Pivot Zero-Shot Multimodal Learning*, arXiv 2308.12038."
