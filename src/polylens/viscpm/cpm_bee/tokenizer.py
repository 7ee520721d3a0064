"""CPM-Bee's vocabulary and greedy tokenizer.

Text is cut from the left into the longest entries of the vocabulary. `<name>` in a text is a special token, `<<` is a
plain `<`; `escape` makes any text plain. A run of characters that no entry begins with is one unknown word. Unknown
words and numbered specials such as `<ans_3>` have no id of their own: they get ids from the size of the vocabulary on,
and the table that comes with the ids says what they stand for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from polylens.errors import UserError
from polylens.files import write_atomic

VOCABULARY = "vocab.txt"
LANGUAGES = ["en", "zh"]  # of the released vocabulary and model
WRITTEN = {"</_>": " ", "</n>": "\n"}  # how the file writes what a line cannot hold
NEEDED = ("<pad>", "<unk>", "<s>", "</s>", "<root>", "<ans>", *WRITTEN)
PIECE = re.compile(r"<<|<[^<>]+>|[^<]+|<")


def escape(text: str) -> str:
    """The text with every `<` doubled, so that none begins a special token."""
    return text.replace("<", "<<")


def unescape(text: str) -> str:
    """Undo `escape`."""
    return text.replace("<<", "<")


class CpmBeeTokenizer:
    """`entries` are the lines of the vocabulary file, in the order of their ids."""

    def __init__(self, entries: Sequence[str]) -> None:
        missing = next((entry for entry in NEEDED if entry not in entries), None)
        if missing is not None:
            raise UserError(f"The vocabulary has no '{missing}': give the vocab.txt of a CPM-Bee.")
        self.entries = list(entries)
        texts = [WRITTEN.get(entry, entry) for entry in entries]
        self.ids = {text: i for i, text in enumerate(texts)}
        self.specials = {text for text in texts if _is_special(text)}
        self._texts = texts
        self._plain = {text: i for text, i in self.ids.items() if text not in self.specials}
        # The longest entry by first character bounds the search at each place.
        self._longest: dict[str, int] = {}
        for text in filter(None, self._plain):
            self._longest[text[0]] = max(self._longest.get(text[0], 0), len(text))
        self.pad_id, self.unk_id = self.ids["<pad>"], self.ids["<unk>"]
        self.bos_id, self.eos_id = self.ids["<s>"], self.ids["</s>"]

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "CpmBeeTokenizer":
        """From a vocabulary file, or the `vocab.txt` of a folder. Raises `UserError` when it cannot be read."""
        path = Path(path)
        path = path / VOCABULARY if path.is_dir() else path
        try:
            # Entries may be other kinds of line ends: only a line feed ends a line.
            content = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"The vocabulary '{path}' cannot be read ({error}): give a vocab.txt.") from error
        return cls([line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the vocabulary to `folder`."""
        write_atomic(Path(folder) / VOCABULARY, "".join(f"{entry}\n" for entry in self.entries))

    def encode(self, text: str, table: Mapping[int, str] | None = None) -> tuple[list[int], dict[int, str]]:
        """(ids, what the ids beyond the vocabulary stand for); `table` gives those already in use.

        Raises `UserError` for a `<` that begins neither `<name>` nor `<<`.
        """
        known = dict(table or {})
        beyond = {word: i for i, word in known.items()}
        ids = []
        for token in self.tokenize(text):
            found = self.ids.get(token) if _is_special(token) else self._plain.get(token)
            if found is None:
                found = beyond.setdefault(token, len(self) + len(beyond))
                known[found] = token
            ids.append(found)
        return ids, known

    def tokenize(self, text: str) -> Iterator[str]:
        """The pieces of the text: entries of the vocabulary, special tokens, and unknown words."""
        plain = ""
        for piece in PIECE.findall(text):
            if piece == "<":
                raise UserError(
                    f"The text '{text[:80]}' has a '<' that begins no special token: write '<<' for a plain one."
                )
            if _is_special(piece):
                yield from self._cut(plain)
                yield piece
                plain = ""
            else:
                plain += "<" if piece == "<<" else piece
        yield from self._cut(plain)

    def _cut(self, text: str) -> Iterator[str]:
        at = unknown = 0
        while at < len(text):
            longest = self._longest.get(text[at], 0)
            size = next((n for n in range(longest, 0, -1) if text[at : at + n] in self._plain), 0)
            if size and unknown < at:
                yield text[unknown:at]
            if size:
                yield text[at : at + size]
                unknown = at + size
            at += size or 1
        if unknown < at:
            yield text[unknown:at]

    def decode(self, ids: Sequence[int], table: Mapping[int, str] | None = None) -> str:
        """The text that `encode` reads as these ids; `table` says what those beyond the vocabulary mean."""
        return "".join(self._text(i, table or {}) for i in ids)

    def _text(self, i: int, table: Mapping[int, str]) -> str:
        text = table[i] if i in table else self._texts[i]
        return text if _is_special(text) else escape(text)


def _is_special(text: str) -> bool:
    return len(text) > 1 and text[0] == "<" and text[-1] == ">"
