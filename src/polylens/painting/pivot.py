"""Prompts in any language to English, by the language model that reads them: the noisy channel (arXiv 1908.05731).

prompt -- ask --> a few answers in English -- back, into each language --> the one that best leads back to the prompt

A small model may translate from English far better than into it: what it writes is checked by what it can do well.
Shapes: R pairs of a question and its answer, T tokens of the longest, A targets in all, K vocabulary.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from polylens.data.collate import IGNORED, pad_rows
from polylens.errors import UserError
from polylens.languages import language
from polylens.models.decoding.scoring import head_only_at
from polylens.painting.config import TextConfig

# In how many languages every answer is led back: those in which the likeliest answer leads back best.
NUM_LANGUAGES = 3
REMEMBERED = 4096
# How many logits are held at once.
LOGITS = 2**26

Pair = tuple[str, str]  # a question and its answer


class Pivot:
    """Puts prompts into English, as `config.pivot` says. Raises `UserError` where the languages are not known."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TextConfig
    ) -> None:
        assert config.pivot is not None
        if not config.languages:
            raise UserError(
                "A pivot needs to know the languages that prompts may be in: give painter.config.text.languages."
            )
        self.model, self.tokenizer = model, tokenizer
        self.settings, self.max_tokens = config.pivot, config.max_tokens
        self.languages = [language(code).name for code in config.languages]
        self._known: dict[str, str] = {}

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], batch_size: int = 16) -> list[str]:
        """Every prompt in English; an English one comes back as it is, or as the model would rather say it."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if len(self._known) + len(new) > REMEMBERED:
            self._known = {prompt: self._known[prompt] for prompt in prompts if prompt in self._known}
        for start in range(0, len(new), batch_size):
            piece = new[start : start + batch_size]
            cut = [self._cut(" ".join(prompt.split())) for prompt in piece]
            for prompt, text, answers in zip(piece, cut, self._answers(cut), strict=True):
                self._known[prompt] = self._best(text, answers)
        return [self._known[prompt] for prompt in prompts]

    def _best(self, prompt: str, answers: Sequence[str]) -> str:
        """The answer with the highest likelihood of both ways."""
        ahead = self._scores([(self._ask(prompt), answer) for answer in answers])
        trial = self._scores([(self._back(answers[0], name), prompt) for name in self.languages])
        likely = [self.languages[at] for at in trial.topk(min(NUM_LANGUAGES, len(trial))).indices.tolist()]
        back = self._scores([(self._back(answer, name), prompt) for answer in answers for name in likely])
        return answers[int((ahead + back.view(len(answers), -1).amax(1)).argmax())]

    def _ask(self, prompt: str) -> str:
        return self.settings.ask.replace("{prompt}", prompt)

    def _back(self, answer: str, name: str) -> str:
        return self.settings.back.replace("{language}", name).replace("{answer}", answer)

    def _cut(self, prompt: str) -> str:
        """As much of the prompt as can be asked for at once."""
        room = max(self.max_tokens - len(self._ids(self._ask(""))), 1)
        # By characters: tokens that are cut apart and joined again may be more of them.
        while (size := len(self._ids(prompt, special=False))) > room and len(prompt) > 1:
            prompt = prompt[: len(prompt) * room // size]
        return prompt

    def _answers(self, prompts: Sequence[str]) -> list[list[str]]:
        """The likeliest answers to each prompt, without empty ones; the prompt where there is no other."""
        ids = [self._ids(self._ask(prompt)) for prompt in prompts]
        encoder_decoder = self.model.config.is_encoder_decoder
        inputs = self._inputs(ids, left=not encoder_decoder)
        written = self.model.generate(**inputs, generation_config=self._generation())
        start = 0 if encoder_decoder else inputs["input_ids"].shape[1]
        texts = self.tokenizer.batch_decode(written[:, start:], skip_special_tokens=True)
        found = [texts[at : at + self.settings.beams] for at in range(0, len(texts), self.settings.beams)]
        distinct = [list(dict.fromkeys(text.strip() for text in own)) for own in found]
        return [
            [text for text in own if text] or [prompt] for own, prompt in zip(distinct, prompts, strict=True)
        ]

    def _generation(self) -> GenerationConfig:
        """Plain beams, whatever the language model's folder says of generation."""
        own = self.model.generation_config
        return GenerationConfig(
            do_sample=False,
            num_beams=self.settings.beams,
            num_return_sequences=self.settings.beams,
            max_new_tokens=self.max_tokens,
            length_penalty=0.0,
            pad_token_id=self._pad,
            eos_token_id=own.eos_token_id or self.tokenizer.eos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
        )

    def _scores(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """(R,) summed log-probabilities of every answer and its end, after its question."""
        tokens = [self._tokens(*pair) for pair in pairs]
        longest = max(len(answer) for _, answer in tokens)
        rows = max(1, LOGITS // (longest * self.model.get_output_embeddings().weight.shape[0]))
        return torch.cat([self._scores_at_once(tokens[at : at + rows]) for at in range(0, len(tokens), rows)])

    def _scores_at_once(self, tokens: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
        questions, answers = [question for question, _ in tokens], [answer for _, answer in tokens]
        if self.model.config.is_encoder_decoder:
            labels = self._padded(answers, IGNORED)
            inputs = self._inputs(questions)
            inputs["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels)
        else:
            # A token's logits are those of the place before it; the last place says nothing.
            rows = [[*question, *answer[:-1]] for question, answer in tokens]
            labels = self._padded([[IGNORED] * (len(q) - 1) + a for q, a in tokens], IGNORED)
            inputs = self._inputs(rows)
        wanted = labels != IGNORED
        with head_only_at(self.model.get_output_embeddings(), wanted):
            logits_AK = self.model(**inputs, use_cache=False).logits.float()
        scores = torch.zeros(labels.shape, device=labels.device)
        scores[wanted] = -F.cross_entropy(logits_AK, labels[wanted], reduction="none")
        return scores.sum(1)

    def _tokens(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """A decoder's answer is tokenized where it stands, behind its question."""
        asked, end = self._ids(question), self.tokenizer.eos_token_id
        if self.model.config.is_encoder_decoder:
            return asked, [*self._ids(answer, special=False), end]
        whole = self._ids(f"{question} {answer}")
        if whole[: len(asked)] != asked:
            raise UserError(
                f"The tokenizer does not begin a new token behind '{question}', so answers cannot be told from it: let "
                "'ask' and 'back' of the pivot end in a mark such as ':'."
            )
        return asked, [*whole[len(asked) :], end]

    @property
    def _pad(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def _ids(self, text: str, special: bool = True) -> list[int]:
        return self.tokenizer(text, add_special_tokens=special, truncation=False).input_ids

    def _inputs(self, rows: Sequence[list[int]], left: bool = False) -> dict[str, torch.Tensor]:
        mask = [[1] * len(row) for row in rows]
        return {
            "input_ids": self._padded(rows, self._pad, left),
            "attention_mask": self._padded(mask, 0, left),
        }

    def _padded(self, rows: Sequence[list[int]], value: int, left: bool = False) -> torch.Tensor:
        return pad_rows(rows, value, left).to(self.model.device)
