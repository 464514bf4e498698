"""The prompts that behaviour is read at: our own list, or a file of somebody's.

The list was written by hand for this purpose, before any model was run on it, and is not to be
changed in the light of results: a changed list is another list, with another digest, and results of
the two are never compared. It holds eight prompts in each of sixteen strata: ten of English prose,
dialogue, knowledge, arithmetic, code, mark-up and records, and six of thirteen other languages in
six scripts. Each breaks off where several continuations are natural, before the white space that
would follow, so that the first characters that come next are a choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lineage.errors import NotFoundError, UsageError

__all__ = ["HOW_CHOSEN", "STRATA", "PromptSet", "own_prompts", "read_prompts"]

HOW_CHOSEN = (
    "written by hand before any model was run, eight in each of sixteen strata (English prose, "
    "dialogue, instructions, knowledge, numbers, code, mark-up, and thirteen other languages)"
)
_MAX_PROMPTS = 10_000
_MAX_CHARACTERS = 4_000
_MAX_FILE_BYTES = 64 << 20

STRATA: dict[str, tuple[str, ...]] = {
    "narrative": (
        "The old lighthouse keeper had not spoken to anyone since",
        "When she opened the letter, the first thing she noticed was",
        "Nobody in the village could remember a winter so",
        "He put the key on the table and",
        "The train left the station an hour late, and by then",
        "At the edge of the forest stood a small",
        "My grandmother used to say that a good soup needs",
        "Long after the music had stopped, the children were still",
    ),
    "knowledge": (
        "The capital of Australia is",
        "Water boils at a lower temperature on a mountain because",
        "The chemical symbol for gold is",
        "The author of the novel War and Peace was",
        "In a right triangle, the square of the hypotenuse equals",
        "The largest planet of the solar system is",
        "Photosynthesis takes place mainly in the",
        "The French Revolution began in the year",
    ),
    "news and reports": (
        "The central bank announced on Tuesday that interest rates",
        "Police said the driver of the lorry was",
        "According to the study, people who sleep less than six hours",
        "After three days of talks the ministers agreed to",
        "Shares of the company fell by",
        "The committee's final report recommends that the government",
        "Heavy rain is expected in the north, with temperatures",
        "The museum will reopen next month with an exhibition of",
    ),
    "dialogue": (
        "Customer: My order has not arrived yet. What should I do?\nAgent:",
        "Q: How long does it take to learn to swim?\nA:",
        "Teacher: Who can tell me what a verb is?\nPupil:",
        "\"Where have you been all night?\" she asked.\n\"",
        "User: Write a short poem about the sea.\nAssistant:",
        "Interviewer: Why do you want this job?\nCandidate:",
        "Doctor: Where does it hurt?\nPatient:",
        "Human: Is it safe to eat raw potatoes?\nAI:",
    ),
    "instructions": (
        "To change a bicycle tyre, first",
        "Ingredients: 200 g flour, 2 eggs, 100 g butter. Method:",
        "To install the package, run the following command:",
        "Step 1: Switch off the power. Step 2:",
        "Do not use this product if you",
        "Before you submit the form, please make sure that",
        "Summarise the following text in one sentence:",
        "Translate into French: Good morning, how are you?\nTranslation:",
    ),
    "law and licences": (
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this",
        "THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND,",
        "The tenant shall not, without the prior written consent of the landlord,",
        "This Agreement shall be governed by the laws of",
        "Redistributions of source code must retain the above",
        "Every person has the right to",
        "Notwithstanding any other provision of this section, the court may",
        "In no event shall the authors be liable for any claim, damages or other",
    ),
    "numbers": (
        "12 + 29 =",
        "7 * 8 =",
        "1, 1, 2, 3, 5, 8, 13,",
        "100 - 37 =",
        "Half of 250 is",
        "The value of pi to four decimal places is",
        "If a train covers 180 km in 2 hours, its speed is",
        "2, 4, 8, 16, 32,",
    ),
    "Python": (
        "def fibonacci(n):\n    if n < 2:\n        return",
        "import numpy as np\nimport",
        "for i in range(",
        "class Stack:\n    def __init__(self):\n        self.",
        "with open(path, encoding=\"utf-8\") as",
        "def test_addition():\n    assert",
        "try:\n    value = int(text)\nexcept",
        "numbers = [x ** 2 for x in",
    ),
    "other code": (
        "#include <stdio.h>\n\nint main(",
        "function add(a, b) {\n  return",
        "SELECT name, count(*) FROM users WHERE",
        "public static void main(String[]",
        "fn main() {\n    let mut",
        "git commit -m",
        "std::vector<int> values;\nfor (",
        "const response = await fetch(",
    ),
    "mark-up and records": (
        "{\"name\": \"Anna\", \"age\":",
        "<!DOCTYPE html>\n<html>\n<head>\n<",
        "| Country | Capital |\n|---|---|\n| Italy |",
        "# Installation\n\n```",
        "name,age,city\nPeter,34,Berlin\nMaria,",
        "\\begin{equation}\n  E =",
        "services:\n  web:\n    image:",
        ".button {\n  color:",
    ),
    "German and Dutch": (
        "Die Hauptstadt von Österreich ist",
        "Als er am Morgen aufwachte, war",
        "Sehr geehrte Damen und Herren, hiermit möchte ich",
        "Das Gesetz tritt am Tag nach der",
        "De hoofdstad van Nederland is",
        "Toen ik klein was, wilde ik",
        "Ich habe gestern im Supermarkt",
        "De trein naar Utrecht vertrekt",
    ),
    "Romance languages": (
        "La capitale de la France est",
        "Il était une fois, dans un petit village,",
        "La capital de España es",
        "Había una vez un rey que",
        "A capital do Brasil é",
        "Quando cheguei em casa, minha mãe",
        "La capitale d'Italia è",
        "Je voudrais réserver une chambre pour",
    ),
    "Russian and Ukrainian": (
        "Столица России —",
        "Однажды утром он проснулся и",
        "Самая длинная река в мире",
        "Уважаемые коллеги, сообщаем вам, что",
        "Столиця України —",
        "Мой дедушка всегда говорил, что",
        "В результате исследования было",
        "Сьогодні вранці я",
    ),
    "Chinese": (
        "中国的首都是",
        "今天天气很好，我们一起去",
        "从前有一个国王，他有三个",
        "人工智能的发展将会",
        "请把下面的句子翻译成英文：",
        "水的化学式是",
        "他打开门，看见",
        "根据最新的研究，",
    ),
    "Japanese and Korean": (
        "日本の首都は",
        "昔々、あるところに",
        "明日の天気は",
        "この本を読んで、私は",
        "대한민국의 수도는",
        "옛날 옛적에",
        "오늘 아침에 나는",
        "저는 한국어를",
    ),
    "Arabic and Hindi": (
        "عاصمة مصر هي",
        "كان يا ما كان في قديم الزمان",
        "أعلنت الحكومة اليوم أن",
        "أحب أن أقرأ",
        "भारत की राजधानी",
        "एक समय की बात है,",
        "आज सुबह मैं",
        "सरकार ने घोषणा की है कि",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts in their order, and how they were chosen."""

    prompts: tuple[str, ...]
    chosen: str

    @property
    def digest(self) -> str:
        """SHA-256 of the prompts in their order: results of different sets must not mix."""
        return hashlib.sha256("\0".join(self.prompts).encode()).hexdigest()


def own_prompts() -> PromptSet:
    """The list of this module.

    Examples
    --------
    >>> len(own_prompts().prompts)
    128
    """
    return PromptSet(tuple(text for stratum in STRATA.values() for text in stratum), HOW_CHOSEN)


def read_prompts(path: Path) -> PromptSet:
    r"""The prompts of a text file, one a line; empty lines are passed over, ``\n`` is a line break.

    Raises
    ------
    NotFoundError
        If there is no such file.
    UsageError
        If it is no UTF-8 text, holds no prompt or too many, or one is too long or there twice.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"{path} is too long for a list of prompts")
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text") from error
    except OSError as error:
        raise NotFoundError(f"no prompts {path}: {error.strerror}") from error
    prompts = [line.rstrip("\r").replace("\\n", "\n") for line in lines if line.strip()]
    _require_usable(path, prompts)
    return PromptSet(tuple(prompts), f"the lines of {path.name}, as given")


def _require_usable(path: Path, prompts: Sequence[str]) -> None:
    if not 0 < len(prompts) <= _MAX_PROMPTS:
        raise UsageError(f"{path} holds {len(prompts)} prompts; from 1 to {_MAX_PROMPTS} are run")
    if len(set(prompts)) < len(prompts):
        twice = next(text for i, text in enumerate(prompts) if text in prompts[:i])
        raise UsageError(f"{path} holds a prompt twice: {twice!a:.100}")
    longest = max(map(len, prompts))
    if longest > _MAX_CHARACTERS:
        raise UsageError(f"a prompt of {path} has {longest} characters; at most {_MAX_CHARACTERS}")
