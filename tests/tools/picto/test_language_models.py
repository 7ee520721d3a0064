"""Pretraining on text: documents that cannot see each other or the future, and a killed run that goes on exactly."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tools.picto.corpus import Corpus, Document, pack
from tools.picto.language_models import (
    Pretraining,
    causal_mask,
    new_decoder,
    pretrain,
    translation_accuracy,
)
from tools.picto.tokenizer import train_tokenizer
from transformers import PreTrainedTokenizerFast

from polylens.models.checkpoints.build import load_language_model
from polylens.picto.prompts import prompt
from polylens.picto.world import concepts

CODES = ("en", "de", "zh")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    names = [concept.name(code) or "" for concept in concepts() for code in CODES]
    return train_tokenizer(names + [prompt(code) for code in CODES] * 5 + [", "] * 5, 2600)


@pytest.fixture(scope="module")
def corpus(tokenizer: PreTrainedTokenizerFast) -> Corpus:
    return Corpus(tokenizer, CODES)


def test_names_survive_the_tokenizer_and_rare_scripts_fall_back_to_bytes(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for text in ["Katze", "grinning cat with smiling eyes", "科学家", "ẹ̀ṣẹ́ ጊዜ", "a, b"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_prompts_join_answers_as_the_collator_joins_them(tokenizer: PreTrainedTokenizerFast) -> None:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    assert ids("cat German: Katze") == ids("cat") + ids("German:") + ids("Katze")


def test_a_document_never_asks_for_the_language_of_its_source(corpus: Corpus) -> None:
    rng = random.Random(0)
    for _ in range(200):
        document = corpus.document(rng, lines=4, english_share=1.0)
        text = document.ids[: document.targets.index(True)]
        assert document.ids[-1] == corpus.eos
        assert any(document.targets)
        assert len(text) < len(document.ids)


def test_mixed_sources_are_partly_other_names_of_the_same_language(corpus: Corpus) -> None:
    rng = random.Random(0)
    known = [{token for names in corpus.names for token in names.get(code, [])} for code in CODES]
    documents = [corpus.document(rng, lines=2, english_share=0.5, mixed_share=1.0) for _ in range(300)]
    mixed = [document for document in documents if any(document.shares)]
    assert 0.2 < len(mixed) / len(documents) < 0.6
    for document in documents:
        assert len(document.mixed) == len(document.shares) == len(document.ids)
        assert all(0 <= share < 1 for share in document.shares)
        read = {token for token, share in zip(document.mixed, document.shares, strict=True) if share}
        assert any(read <= tokens for tokens in known)
        if not read:
            assert document.mixed == document.ids
        # What follows the source, prompts and names, is mixed with nothing.
        assert not any(document.shares[document.targets.index(True) :])
    rows = pack(lambda: mixed[0], 1, 64)
    size = min(64, len(mixed[0].ids))
    assert rows.shares[0, :size] == pytest.approx(mixed[0].shares[:size])
    assert rows.mixed[0, :size].tolist() == mixed[0].mixed[:size]


def test_documents_in_other_languages_may_ask_for_english_first(corpus: Corpus) -> None:
    def asks_english(to_english_share: float) -> int:
        rng = random.Random(0)
        documents = [
            corpus.document(rng, lines=1, english_share=0.0, to_english_share=to_english_share)
            for _ in range(300)
        ]
        english = (corpus.prompts["en"], corpus.keyword_prompts["en"])

        def asked(document: Document) -> list[int]:
            return document.ids[: document.targets.index(True)]

        return sum(any(asked(d)[-len(prompt) :] == prompt for prompt in english) for d in documents)

    # A third of the sources are English all the same.
    assert asks_english(0.0) < 140 < 190 < asks_english(1.0)


def test_rows_are_filled_and_labels_are_the_targets(corpus: Corpus) -> None:
    rng = random.Random(0)
    rows = pack(lambda: corpus.document(rng, 3, 0.3), 4, 64)
    assert rows.ids.shape == (4, 64)
    wanted = rows.labels >= 0
    assert np.array_equal(rows.labels[wanted], rows.ids[wanted])
    starts = np.diff(rows.documents, axis=1) == 1
    assert (rows.positions[:, 1:][starts] == 0).all()


def test_no_token_sees_the_future_or_another_document(
    tokenizer: PreTrainedTokenizerFast, corpus: Corpus
) -> None:
    torch.manual_seed(0)
    model = new_decoder(tokenizer, width=64, layers=2).eval()
    model.set_attn_implementation("eager")
    rng = random.Random(1)
    rows = pack(lambda: corpus.document(rng, 2, 0.3), 1, 64)

    def states(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model.model(
                input_ids=ids,
                attention_mask=causal_mask(torch.from_numpy(rows.documents)),
                position_ids=torch.from_numpy(rows.positions),
                use_cache=False,
            ).last_hidden_state[0]

    ids = torch.from_numpy(rows.ids)
    place = 30
    changed = ids.clone()
    changed[0, place] = 5
    moved = (states(ids) - states(changed)).abs().amax(1) > 0
    document = torch.from_numpy(rows.documents[0])
    assert moved[place]
    assert not moved[:place].any()
    assert not moved[document != document[place]].any()


def test_lists_are_cut_into_tokens_as_their_text_is(
    tokenizer: PreTrainedTokenizerFast, corpus: Corpus
) -> None:
    rng = random.Random(0)
    for _ in range(100):
        document = corpus.list_document(rng, lines=1, english_share=0.5)
        first = document.targets.index(True)
        answer = document.ids[first:-1]
        text = tokenizer.decode(answer)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == answer
        assert document.ids[-1] == corpus.eos
        assert text.count("、") + text.count(", ") >= 1


def test_the_packaged_decoder_translates_names() -> None:
    model, tokenizer = load_language_model("picto-parts/decoder", torch.float32)
    scores = translation_accuracy(model, tokenizer, ["en", "de", "zh", "sw"], sample=40)
    assert min(scores.values()) >= 0.8


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tokenizer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tools.picto.language_models.LOG_EVERY", 2)
    settings = Pretraining(CODES, steps=6, rows=4, length=48, list_share=0.3)

    def run(folder: Path, stop_after: int | None) -> list[float]:
        torch.manual_seed(0)
        model = new_decoder(tokenizer, width=64)
        said: list[str] = []

        def report(line: str) -> None:
            said.append(line)
            if stop_after is not None and len(said) == stop_after:
                raise KeyboardInterrupt

        pretrain(model, tokenizer, settings, folder, evaluate_every=1000, compiled=False, report=report)
        return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", 1)
    resumed = run(tmp_path / "stopped", None)
    assert resumed[-2:] == whole[-2:]
    assert whole[-1] < whole[0]
