"""How prompts, answers and pictures are put in a row, as recipes and checkpoints say it. Needs no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from polylens.data.prompts import Templates


class Layout(BaseModel):
    """How prompts, answers and pictures are put in a row.

    `plain`: pictures, prompt, answer, as BLIP-2 does; `chat`: the tokenizer's chat template, pictures at
    the start of the first question. `bos` says whether a begin-of-sequence token stands before the first
    text token or before the pictures. Of the plain layout, `answer_prefix` is put before every answer (" "
    where words begin with a space), `turn_separator` between turns. `train_turns` says which answers of a
    conversation are trained on: `all`, packed in one sequence by decoders and unrolled by encoder-decoders;
    `unrolled`, all, as one example for each (the same loss, more work); or the `last`. `caption_prompt` asks
    for a caption in a language, by its English name.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["plain", "chat"] = "plain"
    bos: Literal["text", "first"] = "text"
    answer_prefix: str = ""
    turn_separator: str = "\n"
    caption_prompt: str = "Caption in {language}: "
    train_turns: Literal["all", "unrolled", "last"] = "all"

    def ask_caption(self, code: str) -> str:
        """The prompt for a caption in the language `code`.

        Raises `UserError` for an unknown language, and for a `caption_prompt` with other or broken fields.
        """
        prompts = Templates(name="layout.caption_prompt", english={"caption": (self.caption_prompt,)})
        return prompts.prompt("caption", code)
