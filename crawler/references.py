"""What people write when they mean a repository: ids, addresses, paths, old names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from crawler.plain_yaml import word_of
from crawler.records import is_repo_id

__all__ = [
    "MAX_WORD_CHARACTERS",
    "Mention",
    "mention_of",
    "repo_ids_in",
    "resolve_paths",
    "resolve_repo_id",
]

MAX_WORD_CHARACTERS = 500
"""Longer words of strangers are cut."""

_MAX_TEXT_CHARACTERS = 1 << 20
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
_CACHE_FOLDER = "models--"
_SEPARATORS = re.compile(r"[\\/]+")
_TOKEN = re.compile(r"[\w.\-/:\\]+", re.ASCII)
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
    if context is None and "/" in word and len(word) <= MAX_WORD_CHARACTERS:
        return _full_mention(word)
    words = word[:MAX_WORD_CHARACTERS]
    repo_id = child if words == child.rpartition("/")[2] else resolve_repo_id(word)
    return Mention(repo_id, words, context or words)


@lru_cache(maxsize=1 << 16)  # a few bases are named by millions; long words are not remembered
def _full_mention(word: str) -> Mention:
    words = word[:MAX_WORD_CHARACTERS]
    return Mention(resolve_repo_id(word), words, words)


def resolve_repo_id(text: str) -> str | None:
    r"""The Hub id that `text` means by itself, None when it means no repository.

    An id with an owner stands for itself, with or without a revision (``@main``); an address is
    cut down to the id; the few bare names that the Hub redirects get their owner. A path inside
    the Hub client's cache names the repository in one of its folders, ``models--owner--name``.
    Every other path on somebody's disk, any other bare name and nonsense are None. Small and
    capital letters stay as they are written.

    Examples
    --------
    >>> resolve_repo_id("https://huggingface.co/mistralai/Mistral-7B-v0.1/tree/main")
    'mistralai/Mistral-7B-v0.1'
    >>> resolve_repo_id("gpt2")
    'openai-community/gpt2'
    >>> resolve_repo_id("~/.cache/huggingface/hub/models--mistralai--Mistral-7B-v0.1/snapshots/1")
    'mistralai/Mistral-7B-v0.1'
    >>> resolve_repo_id("./output/checkpoint-500") is None
    True
    """
    word = text.strip().strip("`'\"<>").strip()
    if len(word) > 300:
        return None
    if _CACHE_FOLDER in word:
        return _cached_id(word)
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
    return _with_owner(word)


def _with_owner(word: str) -> str | None:
    if not is_repo_id(word):
        return None
    if "/" in word:
        return word
    return f"{_RENAMED[word]}/{word}" if word in _RENAMED else None


def _cached_id(path: str) -> str | None:
    """The repository whose folder of the Hub client's cache stands in `path`."""
    for part in _SEPARATORS.split(path):
        if part.startswith(_CACHE_FOLDER):
            return _with_owner("/".join(part.removeprefix(_CACHE_FOLDER).split("--")))
    return None


def repo_ids_in(text: str) -> tuple[str, ...]:
    """Everything in `text` that has the form of a Hub id with an owner, or an address of one.

    These are candidates for :func:`resolve_paths`, no claims: "and/or" is among them. Each stands
    once, in the order of the text; ids that differ in small and capital letters alone are one
    repository, as on the Hub. The first 1,048,576 characters are read, which is a whole card.

    Examples
    --------
    >>> repo_ids_in("From [a/b](https://huggingface.co/a/B) in /home/c/d and e/f.")
    ('a/b', 'e/f')
    """
    found: dict[str, str] = {}
    for match in _TOKEN.finditer(text, 0, _MAX_TEXT_CHARACTERS):
        token = match[0]
        if "/" in token:
            repo_id = resolve_repo_id(token.rstrip(".:"))
            if repo_id is not None:
                found.setdefault(repo_id.lower(), repo_id)
    return tuple(found.values())


def resolve_paths(
    mentions: Iterable[Mention], candidates: Iterable[str], child: str | None = None
) -> tuple[Mention, ...]:
    r"""`mentions` with the paths and bare names resolved that `candidates` make certain.

    Parameters
    ----------
    mentions
        Those that are resolved already come back as they are.
    candidates
        Ids with an owner that stand beside the mentions, such as :func:`repo_ids_in` of the card.
    child
        The repository that says all this; no candidate.

    Returns
    -------
    tuple of Mention
        In the order of `mentions`. One is resolved when exactly one candidate is called, in small
        or capital letters, as the last part of its path: ``name``, ``owner_name`` (folders that
        text-generation-webui makes), or ``name`` inside a folder ``owner``, which decides between
        candidates of one name. All others keep `repo_id` None.

    Examples
    --------
    >>> path = Mention(None, r"D:\models\a_One-7B", "")
    >>> resolve_paths([path], ["a/One-7B", "b/Two-7B"])[0].repo_id
    'a/One-7B'
    >>> resolve_paths([path], ["a/One-7B", "b/a_One-7B"])[0].repo_id is None
    True
    """
    called: dict[str, dict[str, str]] = {}
    for repo_id in candidates:
        owner, slash, name = repo_id.partition("/")
        if slash and (child is None or repo_id.lower() != child.lower()):
            for form in (name, f"{owner}_{name}", repo_id):
                called.setdefault(form.lower(), {}).setdefault(repo_id.lower(), repo_id)
    return tuple(
        mention if mention.repo_id is not None else replace(mention, repo_id=_only(mention, called))
        for mention in mentions
    )


def _only(mention: Mention, called: dict[str, dict[str, str]]) -> str | None:
    """The one candidate that goes by the end of the mention's path."""
    parts = [part for part in _SEPARATORS.split(mention.words.strip("`'\"<> ").lower()) if part]
    if not parts:
        return None
    parts[-1] = parts[-1].partition("@")[0]
    if parts[-1] in _FOLDERS:
        return None
    for form in ("/".join(parts[-2:]), parts[-1]):
        found = tuple(called.get(form, {}).values())
        if len(found) == 1:
            return found[0]
    return None
