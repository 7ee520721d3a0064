"""Pictures: from any file that people have to an upright RGB image, or one clear sentence on why not.

file or zip member -> bytes -> decode_image -> RGB image -> ImageProcessor -> float32 (N, 3, H, W)
"""

import io
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.files import write_atomic

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MAX_PIXELS = 120_000_000
MAX_BYTES = 512 * 2**20
MAX_SIDE_RATIO = 200
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIF_ORIENTATION = 0x0112
# How Pillow makes 8 bits of samples that a file holds with fewer, or (of colours) with 16.
FROM_STORED: dict[str, Callable[[int], int]] = {
    "L;2": lambda sample: 85 * sample,
    "L;4": lambda sample: 17 * sample,
    "RGB;16B": lambda sample: sample >> 8,
}

CONFIG_NAME = "preprocessor_config.json"
COMBINED_CONFIG_NAME = "processor_config.json"
MAX_SIDE = 4096
# Above this side ConvNeXt's own rule squeezes the whole image instead of cropping it.
CONVNEXT_FULL_SIDE = 384


@runtime_checkable
class StoredPicture(Protocol):
    """A picture that has bytes somewhere, which is what splits are made by."""

    def read(self) -> bytes: ...


@dataclass(frozen=True)
class FilePicture:
    """A picture in a file of its own."""

    path: Path

    @property
    def key(self) -> str:
        """The absolute path with size and time of change. Raises `UserError` when the file is missing."""
        status = self._stat()
        return f"{os.path.abspath(self.path)}:{status.st_size}:{status.st_mtime_ns}"

    def read(self) -> bytes:
        """The file's bytes. Raises `UserError` when it is missing, unreadable, no file, or too big."""
        _check_bytes(self._stat().st_size, str(self.path))
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise UserError(f"The image '{self.path}' cannot be read: {_reason(error)}.") from error

    def load(self) -> Image.Image:
        return decode_image(self.read(), str(self.path))

    def _stat(self) -> os.stat_result:
        try:
            status = os.stat(self.path)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(f"The image '{self.path}' does not exist: check the path.") from error
        except OSError as error:
            raise UserError(f"The image '{self.path}' cannot be read: {_reason(error)}.") from error
        if not os.path.isfile(self.path):
            raise UserError(f"'{self.path}' is a folder or a device, not an image: give an image file.")
        return status


@dataclass(frozen=True)
class ArchivePicture:
    """A picture in a zip archive. Safe to read from threads and from forked workers."""

    archive: Path
    member: str

    @property
    def name(self) -> str:
        return f"{self.archive}!{self.member}"

    @property
    def key(self) -> str:
        """Names of archive and member, size and checksum. Raises `UserError` when either is missing.

        The checksum tells one picture from another wherever the archive lies, and random views, which are drawn from
        the key, are the same on every machine.
        """
        info = self._info()
        return f"{self.archive.name}!{self.member}:{info.file_size}:{info.CRC:08x}"

    def read(self) -> bytes:
        """The member's bytes. Raises `UserError` when it is missing, damaged, encrypted, or too big."""
        info = self._info()
        _check_bytes(info.file_size, self.name)
        try:
            return _open_zip(*self._identity()).read(info)
        except Exception as error:  # zipfile raises its own, zlib's, and RuntimeError for encrypted members
            raise UserError(f"The image '{self.name}' cannot be unpacked: {_reason(error)}.") from error

    def load(self) -> Image.Image:
        return decode_image(self.read(), self.name)

    def _identity(self) -> tuple[str, int, int]:
        return str(self.archive), os.stat(self.archive).st_mtime_ns, os.getpid()

    def _info(self) -> zipfile.ZipInfo:
        try:
            return _only(_open_zip(*self._identity()), self.member)
        except FileNotFoundError as error:
            raise UserError(f"The archive '{self.archive}' does not exist: check the path.") from error
        except KeyError as error:
            raise UserError(f"The archive '{self.archive}' holds no image '{self.member}'.") from error
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"'{self.archive}' is no readable zip archive: {_reason(error)}.") from error


def _only(archive: zipfile.ZipFile, member: str) -> zipfile.ZipInfo:
    found = _members(archive).get(member, ())
    if len(found) > 1:
        raise UserError(
            f"The archive '{archive.filename}' holds '{member}' {len(found)} times: give each its own name."
        )
    return found[0] if found else archive.getinfo(member)


@lru_cache(maxsize=16)
def _members(archive: zipfile.ZipFile) -> dict[str, list[zipfile.ZipInfo]]:
    members: dict[str, list[zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        members.setdefault(info.filename, []).append(info)
    return members


# Keyed by process as well: a forked worker that shared the file offset would read another worker's bytes.
@lru_cache(maxsize=16)
def _open_zip(path: str, changed: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode a picture to upright 8-bit RGB; transparency shows white, animations their first frame.

    16-bit samples are scaled, CMYK and palettes converted. Raises `UserError` with `name` for what is empty,
    of an unknown kind, damaged, cut short, a thin strip, or over `MAX_PIXELS` (before decoding it).
    """
    if not data:
        raise UserError(f"The image '{name}' is empty (0 bytes): get the file again.")
    # Pillow warns of what is refused or read all the same. Other threads may undo this, and lose no warning by it.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        return _decoded(data, name)


def begins_as_image(data: bytes) -> bool:
    """Whether the first bytes are those of an image of a known kind, however it goes on."""
    Image.init()
    begins = (Image.OPEN[kind][1] for kind in FORMATS if kind in Image.OPEN)
    return any(accepts is not None and accepts(data[:16]) is True for accepts in begins)


def _decoded(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_many_pixels(name, int(pixels[0]) if pixels else MAX_PIXELS) from error
    except Exception as error:  # on broken bytes decoders raise nearly anything
        raise UserError(f"'{name}' is not an image of a known kind ({', '.join(FORMATS)}).") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(name, width * height)
    if max(width, height) > MAX_SIDE_RATIO * min(width, height):
        raise UserError(
            f"The image '{name}' is a strip of {width:,} x {height:,} pixels, and its sides may differ"
            f" by a factor of {MAX_SIDE_RATIO} at most: crop it."
        )
    try:
        return _to_rgb(image, name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The image '{name}' cannot be decoded, it is damaged or cut short ({_reason(error)}):"
            " get it again."
        ) from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    # An MPO's other frames are previews or the other eye of the same photograph.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        logger.warning("'%s' has %d frames; only the first is used.", name, getattr(image, "n_frames", 0))
        image.seek(0)
    stored = _stored_as(image)
    image.load()
    turn = UPRIGHT.get(_orientation(image))
    if image.mode == "F":
        raise UserError(f"The image '{name}' holds floating-point samples: save it with 8 or 16 bits each.")
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        image = _scaled_from_16_bits(image, name, transparent)
    elif transparent is not None and stored in FROM_STORED:
        # The transparent colour is one of the file's samples, which are shown with 8 bits.
        scale = FROM_STORED[stored]
        several = isinstance(transparent, tuple)
        image.info["transparency"] = tuple(map(scale, transparent)) if several else scale(transparent)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image.transpose(turn) if turn is not None else image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # a picture with broken notes is still a picture
        return 1


def _stored_as(image: Image.Image) -> str:
    """Pillow's name for how the file holds samples ("L;4", "RGB;16B"), before it is loaded."""
    tile = getattr(image, "tile", None)
    stored = tile[0][3] if tile else ""
    return str(stored[0] if isinstance(stored, tuple) and stored else stored)


def _scaled_from_16_bits(image: Image.Image, name: str, transparent: int | None) -> Image.Image:
    samples = np.asarray(image).astype(np.int64)
    if samples.size and (samples.min() < 0 or samples.max() > 0xFFFF):
        raise UserError(f"The image '{name}' holds 32-bit samples: save it with 8 or 16 bits each.")
    grays = Image.fromarray(((samples * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))
    if transparent is not None:
        grays.putalpha(Image.fromarray(np.where(samples == transparent, 0, 255).astype(np.uint8)))
    return grays


def _too_many_pixels(name: str, pixels: int) -> UserError:
    return UserError(f"The image '{name}' has {pixels:,} pixels, more than {MAX_PIXELS:,}: make it smaller.")


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise UserError(f"The image '{name}' takes {size:,} bytes, more than {MAX_BYTES:,}: make it smaller.")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """Resizes, crops and normalises with Pillow and numpy, exactly as transformers' Pillow backend does.

    Without `shortest_edge` the image is squeezed to `height` x `width`. With it, the shorter side is resized
    to that many pixels and the middle is cut out, with black where the image is too small.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shortest_edge: int | None = None
    resample: int = int(Image.Resampling.BICUBIC)
    rescale_factor: float = 1 / 255

    def __post_init__(self) -> None:
        for name in ("height", "width", "shortest_edge"):
            side = getattr(self, name)
            if side is not None and not 1 <= side <= MAX_SIDE:
                raise UserError(f"An image processor's {name} is {side}: it must be from 1 to {MAX_SIDE}.")
        if len(self.mean) != 3 or len(self.std) != 3 or 0 in self.std:
            raise UserError(
                f"An image processor's mean {list(self.mean)} and std {list(self.std)} must be 3 numbers"
                " each, and no std 0."
            )
        if self.resample not in list(Image.Resampling):
            raise UserError(
                f"An image processor's resample is {self.resample}: it must be from 0 to 5, as in Pillow."
            )

    def __call__(self, images: Sequence[Image.Image]) -> "torch.Tensor":
        """Images of any size -> float32 (N, 3, height, width)."""
        import torch  # What only reads pictures starts seconds sooner without it.

        pixels_NCHW = np.empty((len(images), 3, self.height, self.width), np.float32)
        for row_CHW, image in zip(pixels_NCHW, images, strict=True):
            samples_HWC = np.asarray(self._fit(image if image.mode == "RGB" else image.convert("RGB")))
            for channel, table in enumerate(self._tables):
                row_CHW[channel] = table[samples_HWC[..., channel]]
        return torch.from_numpy(pixels_NCHW)

    def _fit(self, image: Image.Image) -> Image.Image:
        if self.shortest_edge is None:
            return image.resize((self.width, self.height), self.resample)
        width, height = image.size
        short = min(width, height)
        size = [
            self.shortest_edge if side == short else self.shortest_edge * side // short for side in image.size
        ]
        image = image.resize((size[0], size[1]), self.resample)
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))

    # 8-bit samples take 256 values, so normalising is a look-up; the steps and types are transformers'.
    @cached_property
    def _tables(self) -> np.ndarray:
        samples = (np.arange(256, dtype=np.float64) * self.rescale_factor).astype(np.float32)
        return np.stack(
            [(samples - np.float32(m)) / np.float32(s) for m, s in zip(self.mean, self.std, strict=True)]
        )

    @classmethod
    def from_folder(cls, folder: str | Path) -> "ImageProcessor":
        """Read `preprocessor_config.json`, or the image part of `processor_config.json`, of a model folder.

        Raises `UserError` when neither is there or says something that this processor cannot do.
        """
        for name in (CONFIG_NAME, COMBINED_CONFIG_NAME):
            path = Path(folder) / name
            if path.is_file():
                config = read_json(path)
                if not isinstance(config, dict):
                    raise UserError(f"'{path}' holds no JSON object: is it an image processor's file?")
                return cls.from_dict(config.get("image_processor", config), str(path))
        raise UserError(f"'{folder}' has no {CONFIG_NAME}: is it a model folder?")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], name: str = CONFIG_NAME) -> "ImageProcessor":
        """Read a transformers image processor's settings; `name` is what errors call them."""
        try:
            return cls(**_settings(config, name))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"'{name}' holds no settings of an image processor ({error!r}): check it."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The settings as transformers' CLIP or BLIP image processor reads them."""
        settings: dict[str, Any] = {
            "image_processor_type": "BlipImageProcessor"
            if self.shortest_edge is None
            else "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_center_crop": self.shortest_edge is not None,
            "size": {"height": self.height, "width": self.width},
            "resample": int(self.resample),
            "rescale_factor": self.rescale_factor,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        if self.shortest_edge is not None:
            settings["crop_size"] = settings["size"]
            settings["size"] = {"shortest_edge": self.shortest_edge}
        return settings

    def save(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json`, which transformers reads as well."""
        write_atomic(Path(folder) / CONFIG_NAME, json.dumps(self.to_dict(), indent=2) + "\n")


def _settings(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    for step in ("do_resize", "do_convert_rgb"):
        if config.get(step) is False:
            raise UserError(
                f"'{name}' has {step} false, and images of one size in RGB are needed: set it to true."
            )
    if config.get("do_pad"):
        raise UserError(f"'{name}' pads images, which is not supported: give a size and a crop instead.")
    for key in ("size", "image_mean", "image_std"):
        if config.get(key) is None:
            raise UserError(f"'{name}' has no {key}: add the vision model's own.")
    settings = {
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "resample": config.get("resample", int(Image.Resampling.BICUBIC)),
        "rescale_factor": config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
    }
    if config.get("do_normalize", True):
        settings |= {"mean": tuple(config["image_mean"]), "std": tuple(config["image_std"])}
    return settings | _sizes(config, name)


def _sizes(config: Mapping[str, Any], name: str) -> dict[str, int]:
    size, crop = config["size"], config.get("crop_size")
    crops = config.get("do_center_crop", crop is not None)
    if isinstance(size, int):
        size = {"shortest_edge": size} if crops else {"height": size, "width": size}
    edge = size.get("shortest_edge")
    if edge is None and not crops:
        return {"height": size["height"], "width": size["width"]}
    if edge is not None and not crops and config.get("crop_pct"):
        if edge >= CONVNEXT_FULL_SIDE:
            return {"height": edge, "width": edge}
        return {"height": edge, "width": edge, "shortest_edge": int(edge / config["crop_pct"])}
    if edge is None or not crops or size.get("longest_edge"):
        raise UserError(
            f"'{name}' has size {size} and {'a' if crops else 'no'} crop: give height and width, or a"
            " shortest_edge with a crop_size, so that all images come out the same."
        )
    height, width = (
        (crop, crop) if isinstance(crop, int) else (config["crop_size"][side] for side in ("height", "width"))
    )
    return {"height": height, "width": width, "shortest_edge": edge}
