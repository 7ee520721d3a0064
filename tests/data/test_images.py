import io
import json
import logging
import multiprocessing
import struct
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from polylens.data.images import MAX_PIXELS, ArchivePicture, FilePicture, ImageProcessor, decode_image
from polylens.data.sample import Picture
from polylens.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners() -> Image.Image:
    """24 x 16: red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (24, 16), WHITE)
    for colour, place in ((RED, (0, 0)), (GREEN, (12, 0)), (BLUE, (0, 8))):
        image.paste(colour, (*place, place[0] + 12, place[1] + 8))
    return image


def near(
    image: Image.Image, place: tuple[int, int], colour: tuple[int, int, int], tolerance: int = 0
) -> bool:
    return bool(np.abs(np.subtract(image.getpixel(place), colour)).max() <= tolerance)


def png_of_size(width: int, height: int) -> bytes:
    """A real, tiny file: rows of zero bits compress to nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF", "MPO"]
)
def test_kinds_that_people_have(kind):
    image = decode_image(encoded(corners(), kind), "x")
    assert (image.mode, image.size) == ("RGB", (24, 16))
    for place, colour in (((5, 3), RED), ((18, 3), GREEN), ((5, 12), BLUE), ((18, 12), WHITE)):
        assert near(image, place, colour, tolerance=40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(kind, orientation):
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]
    stored = corners() if undo is None else corners().transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(stored, kind, exif=exif), "x")
    assert image.size == (24, 16)
    assert near(image, (5, 3), RED, 40)
    assert near(image, (18, 3), GREEN, 40)
    assert near(image, (5, 12), BLUE, 40)


def test_broken_exif_is_no_reason_to_refuse_a_picture():
    data = encoded(corners(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decode_image(data, "x").size == (24, 16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(kind):
    grey = np.array([[0, 128, 257, 32768, 65535]] * 4, np.uint16)
    image = decode_image(encoded(Image.fromarray(grey), kind), "x")
    assert [image.getpixel((x, 0))[0] for x in range(5)] == [0, 0, 1, 128, 255]


def test_16_bit_pgm_is_scaled():
    data = b"P5 2 1 65535\n" + struct.pack(">HH", 65535, 32768)
    image = decode_image(data, "x")
    assert [image.getpixel((x, 0))[0] for x in range(2)] == [255, 128]


def test_samples_without_a_scale_are_refused():
    floats = encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")
    with pytest.raises(UserError, match="'x' holds floating-point samples"):
        decode_image(floats, "x")
    wide = encoded(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF")
    with pytest.raises(UserError, match="'x' holds 32-bit samples"):
        decode_image(wide, "x")


def test_cmyk_and_greyscale():
    image = decode_image(encoded(corners().convert("CMYK"), "JPEG", quality=95), "x")
    assert near(image, (5, 3), RED, 30)
    assert near(image, (18, 12), WHITE, 10)
    assert decode_image(encoded(corners().convert("L"), "JPEG"), "x").mode == "RGB"
    assert decode_image(encoded(corners().convert("1")), "x").mode == "RGB"


def test_transparency_shows_white():
    image = corners().convert("RGBA")
    image.putalpha(0)
    image.paste((255, 0, 0, 128), (0, 0, 12, 8))
    decoded = decode_image(encoded(image), "x")
    assert near(decoded, (5, 3), (255, 127, 127), 1)
    assert near(decoded, (18, 3), WHITE)
    palette = corners().convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    clear = palette.getpixel((0, 0))
    for kind in ("PNG", "GIF"):
        decoded = decode_image(encoded(palette, kind, transparency=clear), "x")
        assert near(decoded, (5, 3), WHITE)
        assert near(decoded, (18, 3), GREEN, 40)
    grey = Image.new("LA", (4, 4), (0, 0))
    assert near(decode_image(encoded(grey), "x"), (1, 1), WHITE)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame_and_say_so(kind, caplog):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    with caplog.at_level(logging.WARNING):
        image = decode_image(data, "dance.gif")
    assert near(image, (8, 8), RED, 10)
    assert "'dance.gif' has 3 frames" in caplog.text


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(20_000, 20_000))
    assert path.stat().st_size < 200_000
    with pytest.raises(
        UserError, match=r"bomb\.png' has 400,000,000 pixels, more than 120,000,000: make it smaller"
    ):
        FilePicture(path).load()
    with pytest.raises(UserError, match="has 121,000,000 pixels"):
        decode_image(png_of_size(11_000, 11_000), "x")
    assert MAX_PIXELS < 11_000 * 11_000
    assert decode_image(png_of_size(3_000, 2_000), "x").size == (3_000, 2_000)


def test_strips_are_refused():
    with pytest.raises(UserError, match="strip of 3,000 x 1 pixels"):
        decode_image(png_of_size(3_000, 1), "x")


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    cases = {
        "missing.png": "missing.png' does not exist",
        "text.png": "text.png' is not an image of a known kind",
        "empty.jpg": r"empty.jpg' is empty \(0 bytes\)",
        "folder.png": "folder.png' is a folder",
        "text.png/x.png": "x.png' cannot be read: Not a directory",
        "a\0b": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            FilePicture(tmp_path / name).load()
    with pytest.raises(UserError, match="not an image of a known kind"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "x.eps")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_files_cut_short_are_named(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(UserError, match=r"'cut' (cannot be decoded|is not an image)"):
        decode_image(data[: len(data) // 2], "cut")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_broken_bytes_give_a_picture_or_a_user_error(kind, changes, kept):
    data = bytearray(encoded(corners(), kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    with suppress(UserError):
        assert decode_image(bytes(data[: int(kept * len(data))]), "x").mode == "RGB"


def test_keys_name_the_content(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(corners()))
    picture = FilePicture(path)
    assert isinstance(picture, Picture)
    before = picture.key
    assert FilePicture(path).key == before
    assert picture.load().size == (24, 16)
    path.write_bytes(encoded(corners().resize((30, 30))))
    assert picture.key != before
    path.unlink()
    with pytest.raises(UserError, match=r"a\.png' does not exist"):
        _ = picture.key


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(40):
            file.writestr(f"ü/{i}.png", encoded(Image.new("RGB", (8 + i, 8), (i, 0, 0))))
        file.writestr("broken.png", encoded(corners())[:60])
    return path


def test_a_picture_in_an_archive_is_known_by_its_content_wherever_the_archive_lies(archive, tmp_path):
    elsewhere, changed = tmp_path / "elsewhere" / archive.name, tmp_path / "changed" / archive.name
    for copy in (elsewhere, changed):
        copy.parent.mkdir()
    elsewhere.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(changed, "w") as file:
        file.writestr("ü/3.png", encoded(Image.new("RGB", (11, 8), (4, 0, 0))))
    key, same, other = (ArchivePicture(path, "ü/3.png").key for path in (archive, elsewhere, changed))
    assert key == same != other


def test_pictures_in_archives(archive, tmp_path):
    picture = ArchivePicture(archive, "ü/3.png")
    assert isinstance(picture, Picture)
    assert picture.load().size == (11, 8)
    assert picture.key == ArchivePicture(archive, "ü/3.png").key != ArchivePicture(archive, "ü/4.png").key
    with pytest.raises(UserError, match=r"pictures\.zip!broken\.png' cannot be decoded"):
        ArchivePicture(archive, "broken.png").load()
    with pytest.raises(UserError, match=r"pictures\.zip' holds no image 'none\.png'"):
        ArchivePicture(archive, "none.png").load()
    with pytest.raises(UserError, match=r"gone\.zip' does not exist"):
        ArchivePicture(tmp_path / "gone.zip", "a").load()
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(UserError, match=r"text\.zip' is no readable zip archive"):
        ArchivePicture(tmp_path / "text.zip", "a").load()
    data = bytearray(archive.read_bytes())
    data[60:64] = b"\xff\xff\xff\xff"
    (tmp_path / "damaged.zip").write_bytes(data)
    with pytest.raises(UserError, match="cannot be unpacked"):
        ArchivePicture(tmp_path / "damaged.zip", "ü/0.png").load()


def _widths(archive: Path) -> list[int]:
    return [ArchivePicture(archive, f"ü/{i % 40}.png").load().width for i in range(400)]


def test_forked_workers_do_not_disturb_each_other(archive):
    ArchivePicture(archive, "ü/0.png").load()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for widths in pool.map(_widths, [archive] * 4):
            assert widths == [8 + i % 40 for i in range(400)]


THEIRS = {
    "blip": BlipImageProcessorPil(size={"height": 28, "width": 28}),
    "blip-384": BlipImageProcessorPil(size={"height": 64, "width": 48}, resample=2),
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    "clip-pads": CLIPImageProcessorPil(size={"shortest_edge": 21}, crop_size={"height": 32, "width": 35}),
    "siglip": SiglipImageProcessorPil(size={"height": 32, "width": 32}),
    "vit": ViTImageProcessorPil(size={"height": 32, "width": 32}),
    "convnext": ConvNextImageProcessorPil(size={"shortest_edge": 30}, crop_pct=0.875),
    "convnext-384": ConvNextImageProcessorPil(size={"shortest_edge": 384}, crop_pct=0.875),
    "raw": BlipImageProcessorPil(size={"height": 8, "width": 8}, do_rescale=False, do_normalize=False),
}


@pytest.mark.parametrize("name", THEIRS)
def test_equals_transformers_and_reads_its_files(name, tmp_path):
    theirs, rng = THEIRS[name], np.random.default_rng(0)
    theirs.save_pretrained(tmp_path)
    ours = ImageProcessor.from_folder(tmp_path)
    for size in [(40, 60), (61, 37), (1, 1), (32, 32), (7, 300), (333, 5), (20, 21)]:
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        assert torch.equal(ours([image]), theirs(image, return_tensors="pt")["pixel_values"])
    ours.save(tmp_path / "again")
    assert ImageProcessor.from_folder(tmp_path / "again") == ours
    written = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    reader = CLIPImageProcessorPil if written["image_processor_type"][:4] == "CLIP" else BlipImageProcessorPil
    again = reader.from_pretrained(tmp_path / "again")
    assert torch.equal(ours([image]), again(image, return_tensors="pt")["pixel_values"])


def test_a_batch_is_its_images(tmp_path):
    ours = ImageProcessor.from_dict(THEIRS["clip"].to_dict())
    images = [corners(), corners().convert("L"), corners().resize((99, 31))]
    batch = ours(images)
    assert batch.dtype == torch.float32
    assert batch.shape == (3, 3, 32, 32)
    assert torch.equal(batch, torch.cat([ours([image]) for image in images]))
    assert ours([]).shape == (0, 3, 32, 32)


def test_older_and_combined_files(tmp_path):
    base = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 20}
    assert ImageProcessor.from_dict(base).shortest_edge is None
    clip = ImageProcessor.from_dict(base | {"do_center_crop": True, "crop_size": 16})
    assert (clip.shortest_edge, clip.height, clip.width) == (20, 16, 16)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": base}))
    assert ImageProcessor.from_folder(tmp_path).height == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": None}, "has no size"),
        ({"image_mean": None}, "has no image_mean"),
        ({"size": {"shortest_edge": 20}}, "give height and width"),
        ({"size": {"shortest_edge": 20, "longest_edge": 30}}, "give height and width"),
        ({"size": {"height": 20}}, "no settings of an image processor"),
        ({"size": {"height": 0, "width": 5}}, "height is 0: it must be from 1 to"),
        ({"size": {"height": 10**9, "width": 5}}, "must be from 1 to 4096"),
        ({"size": "big"}, "no settings of an image processor"),
        ({"image_std": [0.5, 0.5]}, "3 numbers each"),
        ({"image_std": [0.5, 0, 1]}, "no std 0"),
        ({"resample": 9}, "resample is 9"),
        ({"do_resize": False}, "do_resize false"),
        ({"do_pad": True}, "pads images"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(change, message):
    with pytest.raises(UserError, match=message):
        ImageProcessor.from_dict({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 20} | change)


def test_folders_without_a_processor(tmp_path):
    with pytest.raises(UserError, match="has no preprocessor_config"):
        ImageProcessor.from_folder(tmp_path)
    for text in ("{", "[]", "null"):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(UserError, match=r"not valid JSON|no JSON object"):
            ImageProcessor.from_folder(tmp_path)


def png(width, depth, kind, row, *chunks):
    """A PNG of one row, byte by byte: Pillow does not write all kinds that it reads."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


GRAY, RGB, GRAY_ALPHA, RGB_ALPHA, HALF = 0, 2, 4, 6, 32896


@pytest.mark.parametrize(
    ("depth", "kind", "row", "transparent", "expected"),
    [
        (1, GRAY, bytes([0b01010101]), [1], (0, 255)),
        (1, GRAY, bytes([0b01010101]), [0], (255, 255)),
        (2, GRAY, bytes([0b01100110, 0b01100110]), [1], (255, 170)),
        (4, GRAY, bytes([0x38] * 4), [3], (255, 136)),
        (8, GRAY, bytes([3, 128] * 4), [3], (255, 128)),
        (16, GRAY, struct.pack(">8H", *[0, HALF] * 4), [0], (255, 128)),
        (16, GRAY, struct.pack(">8H", *[1000, HALF] * 4), [1000], (255, 128)),
        (16, GRAY, struct.pack(">8H", *[1001, HALF] * 4), [1000], (4, 128)),
        (8, RGB, bytes([3, 3, 3, 128, 128, 128] * 4), [3, 3, 3], (255, 128)),
        (16, RGB, struct.pack(">24H", *[1000] * 3, *[HALF] * 3, *[HALF] * 18), [1000] * 3, (255, 128)),
        (16, RGB, struct.pack(">24H", *[0] * 3, *[HALF] * 3, *[HALF] * 18), [256] * 3, (0, 128)),
        (16, GRAY_ALPHA, struct.pack(">16H", *[0, 0, HALF, 65535] * 4), None, (255, 128)),
        (16, RGB_ALPHA, struct.pack(">32H", *[0, 0, 0, 0, HALF, HALF, HALF, 65535] * 4), None, (255, 128)),
    ],
)
@pytest.mark.parametrize("upside_down", [False, True])
def test_transparency_shows_white_at_any_depth(depth, kind, row, transparent, expected, upside_down):
    chunks = [(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))] if transparent else []
    if upside_down:
        chunks.append((b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x04\0\0\0\0\0\0"))
    image = decode_image(png(8, depth, kind, row, *chunks), "x")
    assert (image.getpixel((0, 0)), image.getpixel((1, 0))) == tuple((gray,) * 3 for gray in expected)


def test_no_warning_of_a_library_comes_through():
    pictures = [
        encoded(corners(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"),
        png(8, 8, RGB, bytes(24), (b"iCCP", b"x\0\0no profile")),
        encoded(Image.new("1", (10_000, 9_500)), "PNG"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in pictures:
            decode_image(data, "x")
