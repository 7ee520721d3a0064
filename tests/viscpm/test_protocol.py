"""VisCPM's published decoding as a protocol of evaluation."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.models.checkpoints.test_folder import built
from tests.viscpm.tiny import ask, tiny_chat

from polylens.errors import UserError
from polylens.evaluation.benchmarks.protocols import PROTOCOLS, find_protocol
from polylens.evaluation.generation import Generation
from polylens.evaluation.predictor import LocalPredictor
from polylens.evaluation.verification import read_checks


def test_it_asks_and_decodes_as_published() -> None:
    protocol = PROTOCOLS["viscpm"]
    settings = replace(protocol.settings_of("question"), batch_size=64)
    assert settings == Generation(
        num_beams=3, max_new_tokens=512, length_penalty=3.0, repetition_penalty=1.1, temperature=0.7
    )
    assert protocol.prompts.prompt("question", "zh", question="为什么？") == "为什么？"
    assert find_protocol(None, "question").name == "raw"
    model = tiny_chat()
    samples = [ask(("cat", ""), pictures=(n,)) for n in range(2)]
    short = replace(settings, max_new_tokens=5)
    said = dict(LocalPredictor(model).generate(samples, short))
    wanted = [model.chat(max_new_tokens=5).say("cat", list(sample.images)) for sample in samples]
    assert [said[0], said[1]] == [text.strip() for text in wanted]


def test_a_model_without_a_temperature_refuses_it(tmp_path: Path) -> None:
    model = built(tmp_path)
    samples = [ask(("cat", ""), pictures=(0,))]
    with pytest.raises(UserError, match="takes no temperature"):
        list(LocalPredictor(model, "m").generate(samples, Generation(temperature=0.7)))
    assert list(LocalPredictor(model, "m").generate(samples, Generation(max_new_tokens=2)))


def test_verify_asks_viscpm_by_it() -> None:
    checks = [check for check in read_checks() if check.name.startswith("viscpm-chat")]
    assert len(checks) == 6
    assert all("--protocol viscpm" in check.commands[0] for check in checks)
