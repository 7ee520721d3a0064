"""Neighbours by a dual encoder: a tiny CLIP and SigLIP with random weights, and vectors by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from polylens.data.images import FilePicture
from polylens.data.neighbours import DualEncoder, nearest, nearest_captions, read_neighbours, write_neighbours
from polylens.errors import UserError

pytest.importorskip("faiss", reason="the extra 'neighbours' is not installed")


def test_ranks_are_counted_from_the_thing_itself():
    angles = np.deg2rad(np.arange(20) * 2.0)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.arange(1, 21)[:, None]
    near = nearest(vectors, ranks=(1, 2, 9, 299))
    assert near[0] == [1, 2, 9]  # 299 is more than there are
    assert set(near[10][:2]) <= {8, 9, 11, 12}


def test_doubles_are_neighbours_and_never_oneself():
    vectors = np.ones((30, 4)) + np.eye(30, 4) * 0
    for i, near in enumerate(nearest(vectors, ranks=(2, 9))):
        assert i not in near
        assert len(near) == 2


def test_captions_are_ranked_by_the_picture_and_not_by_its_own_caption():
    def at(*degrees):
        return np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], axis=1)

    # Picture 0 lies at 0 degrees; its own captions far from it, at 80 and 90.
    pictures = at(0, 30, 60, 90)
    captions = at(80, 90, 10, 20, 40)
    near = nearest_captions(pictures, captions, [0, 0, 1, 2, 3], ranks=(1, 2, 3, 299))
    assert near[0] == [1, 2, 3]
    assert near[3] == [0, 0, 2]
    with pytest.raises(UserError, match="1 things are too few"):
        nearest_captions(pictures[:1], captions[:1], [0])


def test_the_graph_finds_what_comparing_all_finds(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(400, 16))
    exact = nearest(vectors)
    monkeypatch.setattr("polylens.data.neighbours.EXACT_UP_TO", 100)
    graph = nearest(vectors)
    same = np.mean(
        [one == other for a, b in zip(exact, graph, strict=True) for one, other in zip(a, b, strict=True)]
    )
    assert same > 0.95


def test_vectors_that_are_none():
    for wrong in (np.zeros((5, 3)), np.full((5, 3), np.nan)):
        with pytest.raises(UserError, match="vectors without a length"):
            nearest(wrong)
    with pytest.raises(UserError, match="2 things are too few"):
        nearest(np.ones((2, 3)))


def test_the_file(tmp_path):
    write_neighbours(tmp_path / "n.jsonl", ["ä", "b", "c"], [[1], [2, 0], []])
    assert read_neighbours(tmp_path / "n.jsonl") == {"ä": ["b"], "b": ["c", "ä"], "c": []}
    for line, message in (("{}", "'id' is null"), ('{"id": "a"}', "no list 'near'"), ("[", "not valid JSON")):
        (tmp_path / "n.jsonl").write_text(line)
        with pytest.raises(UserError, match=rf"n\.jsonl, line 1.*{message}"):
            read_neighbours(tmp_path / "n.jsonl")
    (tmp_path / "n.jsonl").write_text('{"id": "a", "near": []}\n' * 2)
    with pytest.raises(UserError, match="line 2: the id 'a' is there twice"):
        read_neighbours(tmp_path / "n.jsonl")


@pytest.fixture
def clip(tmp_path):
    """A CLIP folder as transformers saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
        set_seed,
    )

    set_seed(0)
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", "dog", "cat", "red", "blue"])}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tower = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tower | {
        "vocab_size": 8,
        "max_position_embeddings": 12,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    config = CLIPConfig(
        text_config=text, vision_config=tower | {"image_size": 16, "patch_size": 8}, projection_dim=8
    )
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    CLIPProcessor(images, fast).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_the_command_finds_neighbours_of_pictures_and_labels(tmp_path, clip):
    from typer.testing import CliRunner

    from polylens.cli import app

    rows = []
    for i in range(6):
        # Three pairs of like pictures.
        Image.new("RGB", (20, 20), ((i // 2) * 100, 20, 250 - (i // 2) * 100 + i % 2)).save(
            tmp_path / f"{i}.png"
        )
        extra = {"image": f"{i}.png", "class": f"n{i}"}
        row = {"id": f"{i}", "images": [f"{i}.png"], "turns": [["", ["dog", "red cat", "blue"][i // 2]]]}
        rows.append(row | {"language": "en", "task": "classification", "source": "own", "extra": extra})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {"data": {"mix": [{"source": "jsonl", "path": str(tmp_path / "a.jsonl")}]}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    arguments = [
        "neighbours",
        str(tmp_path / "r.yaml"),
        "--model",
        str(clip),
        "--out",
        str(tmp_path / "n.jsonl"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "the neighbours of 6 pictures" in " ".join(result.output.split())
    near = read_neighbours(tmp_path / "n.jsonl")
    encoder = DualEncoder(clip)
    texts = encoder.embed(["dog", "dog", "red cat", "red cat", "blue", "blue"], "text")
    seen = encoder.embed([FilePicture(tmp_path / f"{i}.png") for i in range(6)], "image")
    for i, places in enumerate(nearest_captions(seen, texts, range(6))):
        assert near[f"{i}.png"] == [f"{place}.png" for place in places]
        assert f"{i}.png" not in near[f"{i}.png"]
    result = CliRunner().invoke(app, [*arguments, "--by", "label"])
    assert result.exit_code == 0, result.output
    assert set(read_neighbours(tmp_path / "n.jsonl")) == {f"n{i}" for i in range(6)}


def test_what_is_no_dual_encoder(tmp_path):
    with pytest.raises(UserError, match="cannot be loaded as a dual encoder"):
        DualEncoder(tmp_path)
