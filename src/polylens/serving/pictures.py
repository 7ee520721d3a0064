"""Pictures that come inside a request, as data URIs."""

import base64
import binascii
import hashlib
import io
import re
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from polylens.data.images import FORMATS, decode_image
from polylens.errors import UserError

MAX_PIXELS = 40_000_000
DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,", re.ASCII)
# Names of one format; a JPEG with several frames is one too.
SAME = {"image/jpg": "image/jpeg", "image/mpo": "image/jpeg", "image/vnd.microsoft.icon": "image/x-icon"}


@dataclass(frozen=True)
class SentPicture:
    """The bytes of a picture that a client sent. `name` says which one in messages."""

    content: bytes
    name: str

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def load(self) -> Image.Image:
        return decode_image(self.content, self.name)


def read_data_uri(url: str, name: str) -> SentPicture:
    """The picture of a data URI, looked at as far as its header. Raises `UserError` for everything else.

    Nothing is ever fetched. The type that is named must be that of the content, so that no other program can take
    the bytes for something else than what was checked here.
    """
    matched = DATA_URI.match(url)
    if matched is None:
        raise UserError(
            f"The {name} is no data URI, and this server fetches nothing: send 'data:image/png;base64,...'."
        )
    try:
        content = base64.b64decode(url[matched.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"The {name} is not valid base64: encode the file's bytes once more.") from error
    _check_header(content, matched["type"].lower(), name)
    return SentPicture(content, name)


def _check_header(content: bytes, named: str, name: str) -> None:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            found, (width, height) = str(image.get_format_mimetype()).lower(), image.size
    except Image.DecompressionBombError as error:
        raise UserError(f"The {name} has more than {MAX_PIXELS:,} pixels: make it smaller.") from error
    except Exception as error:  # on broken bytes decoders raise nearly anything
        raise UserError(f"The {name} is not an image of a known kind ({', '.join(FORMATS)}).") from error
    if width * height > MAX_PIXELS:
        raise UserError(
            f"The {name} has {width * height:,} pixels, more than {MAX_PIXELS:,}: make it smaller."
        )
    if SAME.get(named, named) != SAME.get(found, found):
        raise UserError(f"The {name} is called {named}, but it is {found}: name its own type.")
