"""Models of transformers and diffusers, loaded whole or not at all.

`from_pretrained` gives random weights to whatever its files lack, and says so in a log line only. A classifier, a judge
or an encoder with such weights answers at random.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polylens.errors import UserError


def load_whole(
    kind: Any,
    source: str | Path | None,
    *,
    name: str | Path | None = None,
    unused: Sequence[str] = (),
    **settings: Any,
) -> Any:
    """`kind.from_pretrained(source, **settings)`; `name` is what messages call it, if that is not `source`.

    Raises `UserError` where tensors of the model are not in the files, but for those whose name holds one of `unused`.
    """
    model, report = kind.from_pretrained(source, output_loading_info=True, **settings)
    lacking = sorted(report["missing_keys"]) + [key for key, *_ in sorted(report["mismatched_keys"])]
    lacking = [key for key in lacking if not any(part in key for part in unused)]
    if lacking:
        raise UserError(
            f"'{name or source}' lacks '{lacking[0]}' ({len(lacking)} in all) of a {type(model).__name__}, whose "
            "weights would be random: give a model of this kind, or fetch it again."
        )
    return model
