"""What people write when they mean a repository: ids, addresses, paths, old names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crawler.plain_yaml import word_of
from crawler.records import is_repo_id

__all__ = ["MAX_WORD_CHARACTERS", "Mention", "mention_of", "resolve_repo_id"]

MAX_WORD_CHARACTERS = 500
"""Longer words of strangers are cut."""

_HOST = re.compile(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/", re.IGNORECASE)
_NOT_MODELS = frozenset(
    {
        "api", "blog", "chat", "collections", "datasets", "docs", "enterprise", "join", "learn",
        "login", "models", "new", "organizations", "papers", "posts", "pricing", "settings",
        "spaces", "tasks", "terms-of-service",
    }
)  # fmt: skip
_FOLDERS = frozenset(
    {
        "checkpoint", "checkpoints", "ckpt", "ckpts", "content", "data", "home", "local",
        "merged", "mnt", "model", "models", "out", "output", "outputs", "result", "results",
        "root", "runs", "saved_models", "tmp", "weights", "work", "workspace",
    }
)  # fmt: skip
_RENAMED = {
    **dict.fromkeys(("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "openai-gpt"),
                    "openai-community"),
    **dict.fromkeys(("distilgpt2", "distilbert-base-uncased", "distilbert-base-cased",
                     "distilbert-base-multilingual-cased", "distilroberta-base"),
                    "distilbert"),
    **dict.fromkeys(("bert-base-uncased", "bert-base-cased", "bert-large-uncased",
                     "bert-large-cased", "bert-base-chinese", "bert-base-german-cased",
                     "bert-base-multilingual-cased", "bert-base-multilingual-uncased"),
                    "google-bert"),
    **dict.fromkeys(("t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b"), "google-t5"),
    **dict.fromkeys(("roberta-base", "roberta-large", "roberta-large-mnli", "xlm-roberta-base",
                     "xlm-roberta-large", "xlm-mlm-en-2048"), "FacebookAI"),
    **dict.fromkeys(("albert-base-v1", "albert-base-v2", "albert-large-v2", "albert-xxlarge-v2"),
                    "albert"),
    **dict.fromkeys(("xlnet-base-cased", "xlnet-large-cased"), "xlnet"),
    **dict.fromkeys(("camembert-base",), "almanach"),
}  # fmt: skip
"""Owner of the models that had a bare name before every repository had an owner."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A model that somebody named: the Hub id that is meant, the words, and where they stand."""

    repo_id: str | None
    words: str
    context: str


def mention_of(value: object, child: str, context: str | None = None) -> Mention | None:
    """What `value` in a file of `child` names; None when it is no text.

    A bare name that is the child's own means the child.
    """
    word = word_of(value)
    if word is None:
        return None
    words = word[:MAX_WORD_CHARACTERS]
    repo_id = child if words == child.rpartition("/")[2] else resolve_repo_id(word)
    return Mention(repo_id, words, context or words)


def resolve_repo_id(text: str) -> str | None:
    """The Hub id that `text` means, None when it means no repository.

    An id with an owner stands for itself, with or without a revision (``@main``); an address is
    cut down to the id; the few bare names that the Hub redirects get their owner. A path on
    somebody's disk, any other bare name and nonsense are None.

    Examples
    --------
    >>> resolve_repo_id("https://huggingface.co/mistralai/Mistral-7B-v0.1/tree/main")
    'mistralai/Mistral-7B-v0.1'
    >>> resolve_repo_id("gpt2")
    'openai-community/gpt2'
    >>> resolve_repo_id("./output/checkpoint-500") is None
    True
    """
    word = text.strip().strip("`'\"<>").strip()
    if len(word) > 300:
        return None
    address = _HOST.match(word)
    if address:
        word = re.split(r"[?#]", word[address.end() :])[0].strip("/")
        parts = word.split("/")
        if parts[0].lower() in _NOT_MODELS:
            return None
        word = "/".join(parts[:2])
    else:
        word = word.partition("@")[0]
        if word.count("/") > 1 or word.split("/")[0].lower() in _FOLDERS:
            return None
    if not is_repo_id(word):
        return None
    if "/" in word:
        return word
    return f"{_RENAMED[word]}/{word}" if word in _RENAMED else None
