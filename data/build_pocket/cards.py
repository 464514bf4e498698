"""Model cards as found in the wild: some declare, some are silent, some are wrong or broken."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import yaml

from .members import Member
from .recipes import Gguf, LoraAdapter, MergekitMerge, Moe, Pretrain, ancestry_of

__all__ = ["card_text"]

_OPENINGS = (
    "{about} Small enough to read every weight of it.",
    "{about} Trained on a laptop; use it for experiments only.",
    "{about}",
    "{about} Feedback is welcome in the discussions.",
)
_CLOSINGS = (
    "## Intended use\n\nResearch on small language models. The text it writes is mostly nonsense.",
    "## Limitations\n\nIt has a context of 256 tokens and a vocabulary of a few hundred pieces.",
    "## How to use\n\n```python\nfrom transformers import pipeline\n\n"
    'generate = pipeline("text-generation", model="{id}")\n```',
    "",
)


def card_text(member: Member, losses: Mapping[str, float], recipe_text: str | None) -> str:
    """The README.md of a member.

    Parameters
    ----------
    member : Member
        Who it is and how it speaks.
    losses : mapping of str to float
        Held-out loss by domain, in nats per token.
    recipe_text : str or None
        The merge recipe, for cards that paste it.
    """
    body = _body(member, recipe_text)
    if member.card.defect == "bare":
        return body
    front = yaml.safe_dump(_front_matter(member, losses), sort_keys=False, allow_unicode=True)
    if member.card.defect == "language_no":
        front = "language: no\n" + front
    if member.card.defect == "malformed":
        # The usual accident: an unquoted colon and a tab.
        front = f"{front}description: tuned: with care\n\tnotes: [unfinished\n"
    text = f"---\n{front}---\n\n{body}"
    return text.replace("\n", "\r\n") if member.card.defect == "crlf" else text


def _declared(member: Member) -> tuple[str, ...]:
    if member.card.declares is not None:
        return member.card.declares
    return tuple(name for name, _ in ancestry_of(member.recipe).parents)


def _front_matter(member: Member, losses: Mapping[str, float]) -> dict[str, object]:
    turn = zlib.crc32(member.id.encode())
    front: dict[str, object] = {
        "license": ("apache-2.0", "mit", "other")[turn % 3 if turn % 5 else 0]
    }
    if member.card.defect != "language_no" and turn % 2:
        front["language"] = ["en"]
    declared = _declared(member)
    if declared:
        written = [
            f"https://huggingface.co/{name}" if member.card.form == "url" else name
            for name in declared
        ]
        one = len(written) == 1 and member.card.form != "list"
        front["base_model"] = written[0] if one else written
    if declared and member.card.relation:
        front["base_model_relation"] = member.card.relation
    front["library_name"] = _library(member)
    front["pipeline_tag"] = "text-generation"
    tags = ["small-model"]
    if isinstance(member.recipe, MergekitMerge | Moe) and (declared or member.card.recipe):
        tags = ["mergekit", "merge"]
    front["tags"] = tags
    front["model-index"] = [
        {
            "name": member.id.split("/")[1],
            "results": [
                {
                    "task": {"type": "text-generation", "name": "Text Generation"},
                    "dataset": {"type": name, "name": name},
                    "metrics": [
                        {"type": "loss", "name": "held-out loss", "value": round(value, 5)}
                    ],
                }
                for name, value in losses.items()
            ],
        }
    ]
    return front


def _library(member: Member) -> str:
    if isinstance(member.recipe, LoraAdapter):
        return "peft"
    return "gguf" if isinstance(member.recipe, Gguf) else "transformers"


def _body(member: Member, recipe_text: str | None) -> str:
    turn = zlib.crc32(member.id.encode())
    name = member.id.split("/")[1]
    parts = [f"# {name}"]
    if member.about:
        parts.append(_OPENINGS[turn % len(_OPENINGS)].format(about=member.about))
    parents = [parent for parent, _ in ancestry_of(member.recipe).parents]
    if member.card.prose:
        verb = "Fine-tuned from" if not isinstance(member.recipe, Pretrain) else "Trained after"
        links = " and ".join(f"[{p}](https://huggingface.co/{p})" for p in parents)
        parts.append(f"{verb} {links}.")
    if member.card.recipe and recipe_text:
        parts.append(
            "## Merge details\n\nMade with [mergekit](https://github.com/arcee-ai/mergekit) "
            f"from this configuration:\n\n```yaml\n{recipe_text}```"
        )
    closing = _CLOSINGS[(turn >> 8) % len(_CLOSINGS)].format(id=member.id)
    return "\n\n".join([*parts, *([closing] if closing else [])]) + "\n"
