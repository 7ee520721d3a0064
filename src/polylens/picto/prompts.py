"""What asks for a name or for keywords in a language."""

from polylens.languages import language

# Of its keywords an answer lists these many at most.
MAX_KEYWORDS = 5


def prompt(code: str) -> str:
    """What asks for a name, e.g. 'German:'."""
    return f"{language(code).name}:"


def keyword_prompt(code: str) -> str:
    return f"{language(code).name} keywords:"
