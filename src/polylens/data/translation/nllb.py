"""What both NLLB engines share: the model's folder, its tokenizer and its language codes.

A text goes in as [source language] tokens </s>, and comes out as [target language] tokens </s>.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polylens.data.plain_text import encode_renamed, renamed_copy
from polylens.errors import UserError
from polylens.files import sha256_folder
from polylens.languages import language

END = "</s>"
TOKENIZER = "tokenizer.json"
# NLLB was trained on sentences of at most 512 tokens; longer ones it would cut short without a word.
MAX_TOKENS = 510
# Some languages take twice the tokens of their source; what has not ended by then is not kept.
MAX_NEW_TOKENS = 512


class NllbTokenizer:
    """Tokens of NLLB, read from the `tokenizer.json` of a model folder.

    Raises `UserError` when there is none, or it does not know any language.
    """

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self._where = folder
        if not (folder / TOKENIZER).is_file():
            raise UserError(f"'{folder}' has no {TOKENIZER}: copy it there from the model it was made of.")
        try:
            self.tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # tokenizers raises nothing narrower
            raise UserError(f"'{folder / TOKENIZER}' cannot be read ({error}): get it again.") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        added = self.tokenizer.get_added_tokens_decoder()
        self._special = {number for number, token in added.items() if token.special}
        if self.tokenizer.token_to_id("eng_Latn") is None:
            raise UserError(f"'{folder}' is no NLLB model: its tokenizer does not know 'eng_Latn'.")

    def language_token(self, code: str) -> str:
        """NLLB's token of a BCP 47 code. Raises `UserError` when the model does not have that language."""
        entry = language(code)
        if entry.nllb is None:
            raise UserError(f"NLLB does not know {entry.name} ('{entry.code}'): leave it out of --lang.")
        if self.tokenizer.token_to_id(entry.nllb) is None:
            raise UserError(
                f"The model in '{self._where}' does not know {entry.name} ('{entry.nllb}'): leave '{entry.code}'"
                " out of --lang."
            )
        return entry.nllb

    def encode(self, texts: Sequence[str], source: str) -> list[list[int] | None]:
        """Ids of each text with those around it; None for one that is too long to be translated whole."""
        first, last = self.id_of(self.language_token(source)), self.id_of(END)
        return [[first, *ids, last] if len(ids) <= MAX_TOKENS else None for ids in self._plain(texts)]

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts as data: a "</s>" or "deu_Latn" in one is no special token."""
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        rows: list[list[int]] = [each.ids for each in encoded]
        marked = [place for place, ids in enumerate(rows) if not self._special.isdisjoint(ids)]
        if marked:
            copy = renamed_copy(self, self.tokenizer, self._special)
            for place, ids in zip(marked, encode_renamed(copy, [texts[at] for at in marked]), strict=True):
                rows[place] = ids
        return rows

    def decode(self, ids: Sequence[int]) -> str | None:
        """The translation whose tokens these are; None for one that did not come to its end."""
        if self.id_of(END) not in ids:
            return None
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    def id_of(self, token: str) -> int:
        number: int = self.tokenizer.token_to_id(token)
        return number

    def token_of(self, number: int) -> str:
        token: str = self.tokenizer.id_to_token(number)
        return token


def model_folder(folder: Path | None) -> Path:
    """The folder of the model to use. Raises `UserError` when none is given or there is none."""
    if folder is None:
        raise UserError(
            "No model to translate with: give --model FOLDER, an NLLB model of transformers or CTranslate2, or its "
            "hub id, such as facebook/nllb-200-distilled-1.3B."
        )
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}' with a model: check the path.")
    return folder


def fingerprint(folder: Path, *settings: Any) -> str:
    """What decides the translations of a model: its files' content, and the settings."""
    # The number changes with what is kept of an output: caches keep translations.
    return "/".join(["nllb-2", sha256_folder(folder), str(MAX_NEW_TOKENS), *map(str, settings)])
