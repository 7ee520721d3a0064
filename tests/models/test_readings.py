"""Answers are as likely as all ways to read their pictures say together."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.models.tiny_models import LANGUAGE_MODELS, sample, tiny_vlm

from polylens.data.sample import Picture, Sample, Turn
from polylens.models.decoding.scoring import read_prompts, score_rows
from polylens.models.decoding.search import Search, beam_search, greedy_search
from polylens.models.parts import words
from polylens.models.parts.words import VisualWords
from polylens.models.readings import NEXT_TO_NOTHING, likeliest_ways, that_count
from polylens.models.vlm import VisionLanguageModel

CAPTIONS = ["Katze", "Hund", "Maus", "ein Haus"]
SAMPLES = [
    sample("German:", "", (0,)),
    sample("What is in both of these pictures?", "", (1, 2)),
    sample("Hi.", "", ()),
    sample("French:", "", (3,)),
]
CANDIDATES = [
    "Katze",
    "Kater",
    "Kat",
    "Hund",
    "Hunde",
    "ein Hund",
    "a",
    "chat",
    "chat noir",
    "Katze und Hund",
]
STEPS = 5
READINGS = 3


@pytest.fixture(autouse=True)
def three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "READINGS", READINGS)


def remembering(lm: str) -> VisionLanguageModel:
    model = tiny_vlm(lm)
    model.config.visual_words = True
    model.remember(CAPTIONS)
    return model.eval()


def said(model: VisionLanguageModel, caption: int) -> torch.Tensor:
    """(Q, L) the caption's words, said again and again."""
    ids = model.collator(with_pictures=False).answer_ids(CAPTIONS[caption])[:-1]
    vocabulary = model.lm.get_input_embeddings().weight
    return vocabulary[[ids[at % len(ids)] for at in range(model.num_image_tokens)]].detach()


@torch.no_grad()
def shares(model: VisionLanguageModel) -> torch.Tensor:
    """(N, M) how likely each caption is, of every picture, by hand."""
    pictures = [picture for one in SAMPLES for picture in one.images]
    tokens = torch.stack([model.encode_pictures([picture])[picture.key] for picture in pictures])
    vocabulary = model.lm.get_input_embeddings().weight
    ids = [model.collator(with_pictures=False).answer_ids(caption)[:-1] for caption in CAPTIONS]
    known = sorted({each for row in ids for each in row})
    likely = VisualWords().logits(tokens, vocabulary)[..., known].log_softmax(-1)
    count = model.num_image_tokens
    return torch.stack(
        [
            torch.stack([likely[:, at, known.index(row[at % len(row)])] for at in range(count)]).mean(0)
            for row in ids
        ],
        1,
    )


def by_hand(model: VisionLanguageModel, candidates: list[list[str]]) -> list[list[float]]:
    """Scores by models without a memory that are shown the likeliest captions' words."""
    logs, at, found = shares(model), 0, []
    plain = VisionLanguageModel(
        model.vision, model.resampler, model.projector, model.language_model, model.tokenizer, model.processor,
        model.config.model_copy(update={"memory": None, "visual_words": False}),
    ).eval()  # fmt: skip
    for one, texts in zip(SAMPLES, candidates, strict=True):
        mine = logs[at : at + len(one.images)]
        at += len(mine)
        products = itertools.product(*[list(zip(*row.topk(READINGS), strict=True)) for row in mine])
        ways = [(float(sum(log for log, _ in way)), [int(caption) for _, caption in way]) for way in products]
        ways = sorted(ways, key=lambda way: -way[0])[:READINGS]
        weights = torch.tensor([log for log, _ in ways]).log_softmax(0)
        scores = []
        for _, way in ways:
            visual = (
                torch.stack([said(model, c) for c in way]) if way else torch.zeros(0, *said(model, 0).shape)
            )
            scores.append(torch.tensor(plain.score([one], [texts], visual=visual)[0]))
        found.append((torch.stack(scores) + weights[:, None]).logsumexp(0).tolist())
    return found


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_scores_are_sums_over_the_likeliest_ways_to_read_the_pictures(lm: str) -> None:
    model = remembering(lm)
    candidates = [CANDIDATES, CANDIDATES[::-1], CANDIDATES[3:], CANDIDATES[:1]]
    expected = by_hand(model, candidates)
    for batch_size in (1, 4):
        for row, wanted in zip(
            model.score(SAMPLES, candidates, batch_size=batch_size), expected, strict=True
        ):
            assert row == pytest.approx(wanted, rel=1e-5)
    best = [max(range(len(row)), key=row.__getitem__) for row in expected]
    for batch_size in (1, 3, 16):
        assert model.choose(SAMPLES, candidates, batch_size=batch_size) == best


@pytest.mark.parametrize("lm", ["llama", "mt5"])
@torch.no_grad()
def test_searches_go_by_what_all_ways_say_together(lm: str) -> None:
    model = remembering(lm)
    batch = model.visual_batch(SAMPLES, model.check_visual(SAMPLES, None, 4))
    ends = frozenset([model.tokenizer.eos_token_id])

    def score(sample: int, answer: list[int]) -> float:
        prompts = read_prompts(model, batch)
        rows, logs = zip(*prompts.readings[sample], strict=True)
        return (
            (score_rows(model, prompts, rows, [answer] * len(rows)) + torch.tensor(logs)).logsumexp(0).item()
        )

    greedy = greedy_search(model, read_prompts(model, batch), Search(1, STEPS, 1.0, 1.0, ends))
    best = beam_search(model, read_prompts(model, batch), Search(4, STEPS, 0.0, 1.0, ends))
    vocabulary = range(model.lm.get_output_embeddings().weight.shape[0])
    for at, (answer, other) in enumerate(zip(greedy, best, strict=True)):
        for end in range(len(answer)):
            likeliest = max(vocabulary, key=lambda token: score(at, [*answer[:end], token]))
            assert answer[end] == likeliest
        assert score(at, other) >= score(at, answer) - 1e-5


def test_text_alone_is_read_in_one_way() -> None:
    model = remembering("llama")
    batch = model.collator()(SAMPLES[2:3], answers=False)
    assert read_prompts(model, batch).ways is None


def test_a_picture_that_comes_later_changes_how_the_first_is_read() -> None:
    model = remembering("llama")
    chat = model.chat(max_new_tokens=4)
    turns: list[Turn] = []
    pictures: list[Picture] = []
    for question, new in (("a?", SAMPLES[1].images[:1]), ("b?", SAMPLES[1].images[1:]), ("c?", ())):
        said = chat.say(question, new)
        pictures += new
        asked = Sample("s", tuple(pictures), (*turns, Turn(chat.exchanges[-1].prompt, "")), "de", "chat", "t")
        assert [said] == model.generate([asked], max_new_tokens=4)
        turns.append(Turn(chat.exchanges[-1].prompt, said))


@torch.no_grad()
def test_samples_with_the_same_prompt_and_caption_share_a_row() -> None:
    model = remembering("llama")
    asked = [SAMPLES[0], SAMPLES[0], SAMPLES[2]]
    prompts = read_prompts(model, model.visual_batch(asked, model.check_visual(asked, None, 4)))
    assert prompts.readings[0] == prompts.readings[1]
    assert len(prompts.readings[0]) == READINGS
    assert prompts.readings[2] == [(READINGS, 0.0)]
    assert len(prompts.logits) == READINGS + 1


def test_ways_that_are_next_to_nothing_do_not_count() -> None:
    kept = that_count(
        [("a", math.log(0.6)), ("b", math.log(0.6) - NEXT_TO_NOTHING - 0.1), ("c", math.log(0.2))]
    )
    assert kept == [("a", pytest.approx(math.log(0.75))), ("c", pytest.approx(math.log(0.25)))]


LOGS = st.floats(-9, 0)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4).flatmap(
        lambda counts: st.tuples(
            st.just(counts),
            st.lists(
                st.lists(LOGS, min_size=2, max_size=2).map(lambda logs: sorted(logs, reverse=True)),
                min_size=sum(counts) or 1,
                max_size=sum(counts) or 1,
            ),
        )
    )
)
def test_the_likeliest_ways_are_those_of_all_products(drawn: tuple[list[int], list[list[float]]]) -> None:
    counts, logs = drawn
    captions = [[2 * picture, 2 * picture + 1] for picture in range(len(logs))]
    at = 0
    for count, ways in zip(counts, likeliest_ways(captions, logs, counts), strict=True):
        mine = range(at, at + count)
        products = [sum(way) for way in itertools.product(*[logs[picture] for picture in mine])]
        best = sorted(products, reverse=True)[:2]
        best = [log for log in best if log > best[0] - NEXT_TO_NOTHING]
        total = math.log(sum(map(math.exp, best)))
        assert [log for _, log in ways] == pytest.approx([log - total for log in best])
        for shown, log in ways:
            assert [caption // 2 for caption in shown] == list(mine)
            assert sum(logs[caption // 2][caption % 2] for caption in shown) - total == pytest.approx(log)
        at += count
