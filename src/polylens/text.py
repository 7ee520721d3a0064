"""When two texts count as the same."""

import unicodedata


def normalise(text: str) -> str:
    """NFC, case-folded, white space collapsed to single spaces and trimmed; punctuation and all else stay."""
    # Case folding may undo composition ("ǰ"), so it is composed again.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split())
