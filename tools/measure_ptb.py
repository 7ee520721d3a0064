"""Asks the Java tokenizer of pycocoevalcap what it does, which is where our own tokenizer's tables come from.

    pip install pycocoevalcap
    python tools/measure_ptb.py characters stanford-corenlp-3.4.1.jar > ptb_characters.json
    python tools/measure_ptb.py cases stanford-corenlp-3.4.1.jar < lines.txt > ptb_cases.json

`characters` sorts every character by what becomes of it between letters and digits; those in no class end a
word and vanish. `cases` writes lines with the tokens that pycocoevalcap makes of them, for the tests.
"""

import json
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path

SENTINEL = "x"
PUNCTUATION = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
LINE_ENDS = {0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029}
# A character @ between others: what becomes of a@b, @@, 1@2 and é@é decides its class.
CLASSES = {
    ("a@b", "@@", "1@2", "é@é"): "letters",
    ("a@b", "@@", "1 @2", "é@é"): "marks",
    ("a @ b", "@ @", "1 @ 2", "é @ é"): "symbols",
}


def java_tokens(jar: str, lines: list[str]) -> list[str]:
    """Each line's tokens; a neutral line stands between any two, as rules look past line ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        path.write_text("".join(f"{line}\n{SENTINEL}\n" for line in lines), encoding="utf-8", newline="\n")
        main = "edu.stanford.nlp.process.PTBTokenizer"
        command = [
            "java",
            "-Dfile.encoding=UTF-8",
            "-cp",
            jar,
            main,
            "-preserveLines",
            "-lowerCase",
            str(path),
        ]
        output = subprocess.run(command, check=True, capture_output=True).stdout.decode("utf-8").split("\n")
    if output[1 : 2 * len(lines) : 2] != [SENTINEL] * len(lines):
        raise SystemExit("lines and tokens are out of step: does a line hold a line separator?")
    return output[: 2 * len(lines) : 2]


def characters(jar: str) -> dict[str, str]:
    codes = [i for i in range(1, 0x10000) if not 0xD800 <= i < 0xE000 and i not in LINE_ENDS]
    contexts = ("a{0}b", "{0}{0}", "1{0}2", "é{0}é")
    lines = [context.format(chr(code)) for code in codes for context in contexts]
    results = iter(java_tokens(jar, lines))
    classes: dict[str, list[int]] = {"letters": [], "digits": [], "marks": [], "symbols": []}
    for code in codes:
        char = chr(code)
        seen = tuple(next(results).replace(char.lower(), "@").replace(char, "@") for _ in contexts)
        if char.isascii() and char.isalnum():
            name = "digits" if char.isdigit() else "letters"
        elif char in "éÉΣ":
            name = "letters"
        else:
            name = CLASSES.get(seen, "") if not char.isascii() else ""
        if name == "letters" and unicodedata.category(char) == "Nd":
            name = "digits"
        if name:
            classes[name].append(code)
    return {name: _ranges(codes) for name, codes in classes.items()}


def cases(jar: str, lines: list[str]) -> list[list]:
    tokens = java_tokens(jar, lines)
    return [
        [line, [token for token in text.rstrip().split(" ") if token and token not in PUNCTUATION]]
        for line, text in zip(lines, tokens, strict=True)
    ]


def _ranges(codes: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return " ".join(f"{first:x}-{last:x}" if first != last else f"{first:x}" for first, last in ranges)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("characters", "cases"):
        raise SystemExit(__doc__)
    if sys.argv[1] == "characters":
        print(json.dumps(characters(sys.argv[2]), indent=1))
    else:
        rows = cases(sys.argv[2], sys.stdin.read().removesuffix("\n").split("\n"))
        print("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]")
