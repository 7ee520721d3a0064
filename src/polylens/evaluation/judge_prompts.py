"""What a judge is asked, in our own words, in English and Chinese; official rules can take the instruction's place.

About answers in other languages it is asked in English, and told which language they should be in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polylens.evaluation.judge_questions import Question
from polylens.languages import language


@dataclass(frozen=True)
class Wording:
    """The parts of a request in one language; `rules` are instructions by category, `name` goes into results."""

    name: str
    context: str
    objects: str
    question: str
    answer: str
    end: str
    instruction: str
    rules: Mapping[str, str]

    def with_rules(self, rules: Mapping[str, str], name: str) -> "Wording":
        """The same parts with the instructions of a rule file."""
        return replace(self, rules=dict(rules), name=name)

    def ask(self, question: Question, answer: str, swapped: bool) -> str:
        """The request: the reference stands first, unless `swapped`."""
        first, second = (answer, question.reference) if swapped else (question.reference, answer)
        boxes = [f"{name}: [{', '.join(f'{end:g}' for end in box)}]" for name, box in question.boxes]
        instruction = self.rules.get(question.category, self.instruction)
        return "\n\n".join(
            [
                self.context + "\n" + "\n".join(question.captions),
                self.objects + "\n" + "\n".join(boxes),
                self.question + "\n" + question.text,
                f"{self.answer.format(number=1)}\n{first}\n{self.end.format(number=1)}",
                f"{self.answer.format(number=2)}\n{second}\n{self.end.format(number=2)}",
                instruction,
            ]
        )


PROMPTS = {
    "en": Wording(
        name="polylens, English",
        context="[Captions of the picture]",
        objects="[Objects in the picture, with left, top, right and bottom edge from 0 to 1]",
        question="[Question about the picture]",
        answer="[Assistant {number}]",
        end="[End of assistant {number}]",
        instruction=(
            "You grade two assistants who were shown a picture and answered the question above about it. You cannot "
            "see the picture; rely on its captions and its list of objects. For each assistant, consider whether "
            "the answer is correct, whether it is about what was asked, whether it helps, and whether it is as "
            "detailed as the question calls for. Which of the two comes first means nothing.\n"
            "Give each a whole number from 1 (useless) to 10 (could not be better). The first line of your reply "
            "must be these two numbers only, that of assistant 1 and that of assistant 2, with a space between "
            "them. Explain your grades from the second line on."
        ),
        rules={},
    ),
    "zh": Wording(
        name="polylens, Chinese",
        context="【图片的描述】",
        objects="【图片中的物体，及其左、上、右、下边界，数值从0到1】",
        question="【关于图片的问题】",
        answer="【助手{number}】",
        end="【助手{number}回答结束】",
        instruction=(
            "两位助手看过一张图片，并回答了上面的问题，请你为他们打分。你看不到图片，请以图片的描述和物体列表为依据。"
            "对每位助手，请考虑：回答是否正确，是否切题，是否对提问者有用，详细程度是否符合问题的需要。"
            "两份回答的先后次序没有任何意义。\n"
            "请给每位助手一个从1（毫无用处）到10（无可挑剔）的整数。回复的第一行只写这两个数字，"
            "先写助手1的，再写助手2的，中间用一个空格隔开。从第二行起说明理由。"
        ),
        rules={},
    ),
}


def own_wording(code: str) -> Wording:
    """How the judge is asked about answers in language `code`."""
    if code in PROMPTS:
        return PROMPTS[code]
    name, english = language(code).name, PROMPTS["en"]
    said = (
        f"The question is in {name}, and so should the answers be: one in another language is of less help. "
        "The captions and the names of objects may be in English."
    )
    return replace(
        english, name=f"{english.name}, about {name}", instruction=f"{said}\n{english.instruction}"
    )
