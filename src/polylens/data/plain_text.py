"""Text as data: a person's "</s>" is four characters, whatever the tokenizer's special tokens are called.

    "a </s> b"  --tokenizer-->  a 1 b          1 ends the sequence
                --plain_ids-->  a < / s > b    pieces of ordinary text

The tokenizer itself reads the text first. Only where a special token comes out of it is the text read again, by a copy
of the tokenizer in which special tokens have names that nobody types. The option `split_special_tokens` does not do:
in a Unigram vocabulary the name of a special token is a piece of text as well.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from polylens.errors import UserError

# Of the private use area: no text has it, and normalizers leave it as it is.
GUARD = "\U0010fffd"
PRIVATE = range(0xE000, 0xF900)
# By their owner: (size of the vocabulary, special ids), and the renamed copy of that.
_SPECIAL: WeakKeyDictionary[Any, tuple[int, frozenset[int]]] = WeakKeyDictionary()
_COPIES: WeakKeyDictionary[Any, tuple[frozenset[int], Tokenizer]] = WeakKeyDictionary()


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text without any special ones, except for unknown characters.

    Raises `UserError` for a text that spells a special token which the tokenizer cannot but take for it.
    """
    if not texts:
        return []
    special = special_ids(tokenizer)
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False).input_ids
    marked = [place for place, ids in enumerate(rows) if not special.isdisjoint(ids)]
    if not marked:
        return rows
    spelt = [texts[place] for place in marked]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        again = encode_renamed(renamed_copy(tokenizer, backend, special), spelt)
    else:
        again = tokenizer(spelt, add_special_tokens=False, split_special_tokens=True).input_ids
        for ids, text in zip(again, spelt, strict=True):
            if left := special.intersection(ids) - {tokenizer.unk_token_id}:
                raise _taken(tokenizer.convert_ids_to_tokens(min(left)), text)
    for place, ids in zip(marked, again, strict=True):
        rows[place] = ids
    return rows


class ChatText:
    """The texts of a conversation on their way through a chat template, which has special tokens of its own.

    What a person wrote is hidden from the template (`hide`): private-use characters that the texts do not have stand
    for names of special tokens. `mark` is one more, for a picture. Raises `UserError` where a text spells a special
    token and the tokenizer has no copy to be read by.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        special = special_ids(tokenizer)
        names = {tokenizer.convert_ids_to_tokens(number): number for number in special}
        spelt = [name for name in names if any(spells(name, text) for text in texts)]
        self.mark, *stand_ins = _unused_characters(texts, 1 + len(spelt))
        self._hidden = dict(zip(spelt, stand_ins, strict=True))
        self._renamed: Tokenizer | None = None
        if spelt:
            backend = getattr(tokenizer, "backend_tokenizer", None)
            if backend is None:
                raise _taken(spelt[0], next(text for text in texts if spells(spelt[0], text)))
            self._renamed = renamed_copy(tokenizer, backend, special)
            self._guarded = {name: guarded(number) for name, number in names.items()}

    def hide(self, text: str) -> str:
        """The text with a stand-in for every special token's name."""
        return _replace(text, self._hidden)

    def encode(self, text: str) -> list[int]:
        """The tokens of a piece of the filled template: its own special tokens are some, hidden names are not."""
        if self._renamed is None:
            ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
            return ids
        text = _replace(text, self._guarded)
        return encode_renamed(self._renamed, [_replace(text, {c: name for name, c in self._hidden.items()})])[
            0
        ]


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids of all special tokens: those with a role, and those added as special."""
    size, special = _SPECIAL.get(tokenizer, (-1, frozenset()))
    if size != len(tokenizer):
        added = tokenizer.added_tokens_decoder
        special = frozenset(
            {*tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)}
        )
        _SPECIAL[tokenizer] = len(tokenizer), special
    return special


def spaced_names(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space inside every special token's name: for tokenizers that only others call."""
    names = (str(tokenizer.convert_ids_to_tokens(number)) for number in special_ids(tokenizer))
    return _replace(
        text, {name: f"{name[:1]} {name[1:]}" for name in names if len(name) > 1 and name in text}
    )


def spells(name: str, text: str) -> bool:
    """Whether a text has the name of a special token, by itself or once it is normalised."""
    return name in text or (not text.isascii() and name in unicodedata.normalize("NFKC", text))


def renamed_copy(owner: Any, backend: Tokenizer, special: Collection[int]) -> Tokenizer:
    """A copy of `backend`, kept for its `owner`, whose special tokens are called as `guarded` says."""
    wanted = frozenset(special)
    known, copy = _COPIES.get(owner, (None, None))
    if copy is None or known != wanted:
        content = json.loads(backend.to_str())
        names = {str(backend.id_to_token(number)): guarded(number) for number in wanted}
        for token in content["added_tokens"]:
            if token["content"] in names:
                token |= {"content": names[token["content"]], "normalized": False}
        _rename_pieces(content["model"], names)
        copy = Tokenizer.from_str(json.dumps(content))
        copy.no_padding()
        copy.no_truncation()
        _COPIES[owner] = wanted, copy
    return copy


def encode_renamed(copy: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts by a renamed copy, nothing added."""
    return [encoding.ids for encoding in copy.encode_batch(list(texts), add_special_tokens=False)]


def guarded(number: int) -> str:
    """What a special token is called in a renamed copy."""
    return f"{GUARD}{number}{GUARD}"


def _rename_pieces(model: dict[str, Any], names: dict[str, str]) -> None:
    """Take the special tokens' names out of a model's vocabulary; their ids stay."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): number for piece, number in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if not names.keys() & {*pair, "".join(pair)}]


def _replace(text: str, others: dict[str, str]) -> str:
    """The text with others in the place of each name, the longest name first."""
    if not others:
        return text
    names = sorted(others, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, names)), lambda match: others[match[0]], text)


def _unused_characters(texts: Iterable[str], count: int) -> list[str]:
    """Private-use characters that none of the texts has; the same ones for the same texts."""
    taken = set().union(*texts)
    free = [chr(number) for number in PRIVATE if chr(number) not in taken][:count]
    if len(free) < count:
        raise UserError("The texts of a conversation use up the private-use characters: shorten it.")
    return free


def _taken(name: Any, text: str) -> UserError:
    return UserError(
        f"The text '{text[:80]}' has '{name}' in it, which the model's tokenizer takes for its own: write it otherwise."
    )
