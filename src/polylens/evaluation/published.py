"""Published numbers that were checked against their sources, as they are printed there.

They stand beside a run for reference only: data, prompts, segmentation and generation may differ.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """What a paper prints of one system on one benchmark."""

    system: str
    measure: str
    value: str
    source: str


_PALIGEMMA = "Beyer et al., 2024, arXiv:2407.07726"
_PANGEA = "Yue et al., 2024, arXiv:2410.16153"
_VISCPM = "Hu et al., 2023, arXiv:2308.12038"
_MT0, _BLOOMZ = "mBLIP mT0-XL", "mBLIP BLOOMZ"

PUBLISHED = {
    "xm3600": (
        Published("PaliGemma 3B, 224 px", "CIDEr", "English 78.1, average of 36 languages 41.3", _PALIGEMMA),
    ),
    "xgqa": (
        Published("PaliGemma 3B, 224 px", "accuracy", "58.37", _PALIGEMMA),
        Published(_MT0, "accuracy", "English 44.2, average of the others 39.9", _PANGEA),
        Published(_BLOOMZ, "accuracy", "English 43.3, average of the others 36.9", _PANGEA),
    ),
    "marvl": (
        Published("PaliGemma 3B, 224 px", "accuracy", "80.57", _PALIGEMMA),
        Published(_MT0, "accuracy", "English 67.3, average of the others 66.7", _PANGEA),
        Published(_BLOOMZ, "accuracy", "English 62.3, average of the others 58.6", _PANGEA),
    ),
    "maxm": (
        Published(_MT0, "accuracy", "English 44.7, average of the others 36.8", _PANGEA),
        Published(_BLOOMZ, "accuracy", "English 44.7, average of the others 24.8", _PANGEA),
    ),
    "llava-qa90": (
        Published("VisCPM-Chat, balance", "judge score", "English 81.1, Chinese 86.3", _VISCPM),
        Published("VisCPM-Chat, zhplus", "judge score", "English 79.6, Chinese 88.2", _VISCPM),
        Published("VisCPM-Chat, v1.1", "judge score", "English 81.5, Chinese 92.5", _VISCPM),
    ),
}
