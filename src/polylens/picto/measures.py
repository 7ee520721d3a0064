"""How the laboratory's own measures are called, shown and explained; results carry these beside the numbers."""

from dataclasses import replace

from polylens.evaluation.measures import METRICS, Metric, described, share

TASKS = ("caption", "keywords", "yesno", "choice", "statement")
# The benchmark's: its mean, then task by task.
SUITE = (
    share("picto", "Picto", "mean over Picto's five tasks"),
    *(share(f"picto_{task}", task.capitalize(), f"score of Picto's task '{task}'") for task in TASKS),
)
# The demos': which language an answer is in, and choices among 100 names.
ANSWERS = (
    share(
        "right_in_either",
        "Right in either language",
        "names that are right in the question's language or in English",
    ),
    share(
        "yes_no",
        "Yes or no",
        "answers to yes-or-no questions that are right, in either language",
        chance=0.5,
    ),
    share(
        "asked_language",
        "In the question's language",
        "answers in words that the question's language has and English has not; words of both are left out",
    ),
    share(
        "answered_in_english",
        "In English",
        "answers in words that English has and the question's language has not; words of both are left out",
        higher_is_better=False,
    ),
)
CHOICE = replace(
    METRICS["choice_accuracy"],
    meaning="pictures whose name is the likeliest of 100 candidate names in that language",
    chance=0.01,
)
FD_PICTO = Metric(
    name="fd_picto",
    label="fd_picto",
    meaning="distance to real pictures on the packaged encoder's features",
    digits=2,
    higher_is_better=False,
)
ALL = {metric.name: metric for metric in (*SUITE, *ANSWERS, CHOICE, FD_PICTO)}
DESCRIBED = described(ALL.values())
