"""BLEU, ROUGE-L and CIDEr of captions, equal to pycocoevalcap's without Java, and honest about segmentation.

caption -> words by language and protocol -> NFC -> Treebank tokens -> n-grams -> scores and intervals
"""

from polylens.evaluation.caption_metrics.scores import CaptionScores, caption_scores
from polylens.evaluation.caption_metrics.segmentation import PROTOCOLS, tokenise_caption

__all__ = ["PROTOCOLS", "CaptionScores", "caption_scores", "tokenise_caption"]
