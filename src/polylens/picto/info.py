"""What Picto's package holds, counted."""

from collections import Counter
from typing import Any

from polylens.picto import MODELS
from polylens.picto.world import MIN_NAMES_PER_LANGUAGE, PACKAGED, annotations, concepts


def summary() -> dict[str, Any]:
    """Concepts by split and group, drawings by style, names by language, packaged models, bytes on disk."""
    files = [path for path in PACKAGED.rglob("*") if path.is_file()]
    models = sorted(path.name for path in MODELS.iterdir() if path.is_dir()) if MODELS.is_dir() else []
    return {
        "concepts": len(concepts()),
        "scored": sum(concept.scored for concept in concepts()),
        "splits": dict(Counter(concept.split for concept in concepts()).most_common()),
        "groups": dict(Counter(concept.group for concept in concepts()).most_common()),
        "styles": sorted(path.stem for path in PACKAGED.glob("*.zip")),
        "languages": len(annotations()),
        "names_at_least": MIN_NAMES_PER_LANGUAGE,
        "names": {code: len(rows) for code, rows in sorted(annotations().items())},
        "models": models,
        "bytes": sum(path.stat().st_size for path in files),
    }
