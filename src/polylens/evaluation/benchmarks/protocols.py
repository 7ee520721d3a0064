"""How questions are put and answers are cleaned: what must be equal before two scores may be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polylens.data.prompts import MBLIP, Templates
from polylens.errors import UserError
from polylens.evaluation.generation import Generation


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """`generation` by task ("": all others). `captions` is the protocol of caption metrics. `clean_labels`: answers
    of people are cleaned as predictions are. `strict`: a label counts only when the answer is nothing else.
    `relaxed`: beside the accuracy stands the one that counts answers which begin or end with a right one.
    `own_captions`: a caption is asked for as the model is used to.
    """

    name: str
    prompts: Templates
    generation: Mapping[str, Generation]
    captions: str
    clean_labels: bool = True
    strict: bool = False
    relaxed: bool = False
    own_captions: bool = False
    tasks: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.prompts.english))

    def settings_of(self, task: str) -> Generation:
        return self.generation.get(task) or self.generation[""]


_CHAIR = Generation(num_beams=5, max_new_tokens=256, repetition_penalty=1.5)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="mblip",
            prompts=MBLIP,
            generation={
                "": Generation(num_beams=5, max_new_tokens=10, length_penalty=-1.0),
                "caption": Generation(num_beams=5, max_new_tokens=50),
                "chair": _CHAIR,
                "chair_detail": _CHAIR,
            },
            captions="mblip",
            clean_labels=False,
            strict=True,
            relaxed=True,
        ),
        # The prefixes that its published checkpoints were trained on; answers are decoded greedily.
        Protocol(
            name="paligemma",
            prompts=Templates(
                name="paligemma",
                english={
                    "caption": ("caption {tag}",),
                    "vqa": ("answer {tag} {question}",),
                    "reasoning": ("answer {tag} {statement}",),
                    "pope": ("answer {tag} {question}",),
                },
            ),
            generation={"": Generation(max_new_tokens=32), "caption": Generation(max_new_tokens=64)},
            captions="pycocoevalcap",
            strict=True,
        ),
        Protocol(
            name="raw",
            prompts=Templates(
                name="raw",
                english={
                    "caption": ("",),
                    "vqa": ("{question}\nAnswer in {language}, with one word or a short phrase.",),
                    "entailment": (
                        "Does the image show that this is true: {hypothesis}\nAnswer yes, no or maybe.",
                    ),
                    "reasoning": ("Is this true of the two images: {statement}\nAnswer yes or no.",),
                    "pope": ("{question}",),
                    "chair": ("Describe the image in {language}.",),
                    "chair_detail": ("Describe the image in {language} in detail.",),
                    "choice": ("{question}\n{options}\nAnswer with the letter of the right option.",),
                    "outlier": (
                        "Here are five images, A, B, C, D and E. Which one does not fit this: {statement}\n"
                        "Answer with its letter.",
                    ),
                    "name": ("What is in the image? Answer in {language}, with its name only.",),
                    "question": ("{question}",),
                    "own": ("{question}",),
                },
            ),
            generation={
                "": Generation(max_new_tokens=32),
                "caption": Generation(max_new_tokens=64),
                "chair": Generation(max_new_tokens=256),
                "chair_detail": Generation(max_new_tokens=256),
                "question": Generation(max_new_tokens=512),
            },
            captions="polylens",
            own_captions=True,
        ),
        # VisCPM-Chat's published decoding; questions are asked as they are.
        Protocol(
            name="viscpm",
            prompts=Templates(
                name="viscpm",
                english=dict.fromkeys(("question", "own", "vqa", "pope"), ("{question}",))
                | {"caption": ("",)},
            ),
            generation={
                "": Generation(
                    num_beams=3,
                    max_new_tokens=512,
                    temperature=0.7,
                    repetition_penalty=1.1,
                    length_penalty=3.0,
                )
            },
            captions="polylens",
            own_captions=True,
        ),
    )
}


def find_protocol(name: str | None, task: str) -> Protocol:
    """The protocol of that name, by default the first that has the task.

    Raises `UserError` for an unknown name, and for a protocol that never put such questions.
    """
    having = [known for known, protocol in PROTOCOLS.items() if task in protocol.tasks]
    if name is None:
        return PROTOCOLS[having[0]]
    if name not in PROTOCOLS:
        raise UserError(f"There is no protocol '{name}': choose from {', '.join(PROTOCOLS)}.")
    if name not in having:
        raise UserError(
            f"The protocol '{name}' has no prompt for the task '{task}': choose from {', '.join(having)}."
        )
    return PROTOCOLS[name]
