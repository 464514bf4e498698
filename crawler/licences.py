"""Licences: one word for each, whatever the card calls it, and the class of its terms. Pure.

The words are those of the Hub's list [1]_. Where the SPDX list [2]_ has an identifier for the same
text, that identifier is the normal form; the Hub's families (``gpl``, ``cc``) have none, nor have
most licences written for models. Versions are never guessed.

References
----------
.. [1] https://huggingface.co/docs/hub/repositories-licenses
.. [2] https://spdx.org/licenses/
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from crawler.words import clean_word

__all__ = [
    "LICENCE_WORDS", "Licence", "LicenceClass", "StatedLicence", "class_of", "known_licences",
    "read_licence",
]  # fmt: skip

OTHER = "other"
"""The Hub's word for a licence that is not on its list."""

_MAX_SHAPED_CHARACTERS = 64
_MAX_STATED = 100
_SHAPE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.+-")
_FILLERS = frozenset({"the", "license", "licence", "version", "agreement"})
_SEPARATORS = str.maketrans(dict.fromkeys("_-,;:/\"'()[]", " "))


class LicenceClass(StrEnum):
    """What the terms ask of somebody who derives a model, coarsely.

    ``permissive``: notices at most. ``copyleft``: derivatives carry the same terms.
    ``non_commercial``: no commercial use, or research only. ``custom``: other restrictions, on
    kinds of use, on derivatives, or on who may use it: to be read one by one. ``unknown``: not
    stated precisely enough to tell.
    """

    PERMISSIVE = "permissive"
    COPYLEFT = "copyleft"
    NON_COMMERCIAL = "non_commercial"
    CUSTOM = "custom"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence that is known by name; `source` is where its terms, or its name, are published."""

    word: str
    kind: LicenceClass
    source: str


@dataclass(frozen=True, slots=True)
class StatedLicence:
    """The licence that a card states.

    `word` is the normal form, ``other`` where the words name no licence on the lists; `name` and
    `link` are what the card adds (``license_name``, ``license_link``), or the words themselves.
    """

    word: str
    kind: LicenceClass
    name: str | None
    link: str | None


_HUB = "https://huggingface.co/docs/hub/repositories-licenses"
_SPDX = {
    # The Hub's word: the SPDX identifier of the same text.
    LicenceClass.PERMISSIVE: {
        "0bsd": "0BSD", "afl-3.0": "AFL-3.0", "apache-2.0": "Apache-2.0",
        "artistic-2.0": "Artistic-2.0", "bsd-2-clause": "BSD-2-Clause",
        "bsd-3-clause": "BSD-3-Clause", "bsd-3-clause-clear": "BSD-3-Clause-Clear",
        "bsl-1.0": "BSL-1.0", "c-uda": "C-UDA-1.0", "cc-by-2.0": "CC-BY-2.0",
        "cc-by-2.5": "CC-BY-2.5", "cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0",
        "cc0-1.0": "CC0-1.0", "cdla-permissive-1.0": "CDLA-Permissive-1.0",
        "cdla-permissive-2.0": "CDLA-Permissive-2.0", "ecl-2.0": "ECL-2.0",
        "etalab-2.0": "etalab-2.0", "isc": "ISC", "lppl-1.3c": "LPPL-1.3c", "mit": "MIT",
        "mit-0": "MIT-0", "ncsa": "NCSA", "odc-by": "ODC-By-1.0", "ofl-1.1": "OFL-1.1",
        "pddl": "PDDL-1.0", "postgresql": "PostgreSQL", "unlicense": "Unlicense",
        "wtfpl": "WTFPL", "zlib": "Zlib",
    },
    # GPL-2.0 and its like: the Hub's word does not say "only" or "or later", nor do these.
    LicenceClass.COPYLEFT: {
        "agpl-3.0": "AGPL-3.0", "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0",
        "cdla-sharing-1.0": "CDLA-Sharing-1.0", "epl-1.0": "EPL-1.0", "epl-2.0": "EPL-2.0",
        "eupl-1.1": "EUPL-1.1", "eupl-1.2": "EUPL-1.2", "gpl-2.0": "GPL-2.0",
        "gpl-3.0": "GPL-3.0", "lgpl-2.1": "LGPL-2.1", "lgpl-3.0": "LGPL-3.0",
        "lgpl-lr": "LGPLLR", "mpl-2.0": "MPL-2.0", "ms-pl": "MS-PL", "odbl": "ODbL-1.0",
        "osl-3.0": "OSL-3.0",
    },
    LicenceClass.NON_COMMERCIAL: {
        "cc-by-nc-2.0": "CC-BY-NC-2.0", "cc-by-nc-3.0": "CC-BY-NC-3.0",
        "cc-by-nc-4.0": "CC-BY-NC-4.0", "cc-by-nc-nd-3.0": "CC-BY-NC-ND-3.0",
        "cc-by-nc-nd-4.0": "CC-BY-NC-ND-4.0", "cc-by-nc-sa-2.0": "CC-BY-NC-SA-2.0",
        "cc-by-nc-sa-3.0": "CC-BY-NC-SA-3.0", "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
    },
    LicenceClass.CUSTOM: {"cc-by-nd-4.0": "CC-BY-ND-4.0"},
}  # fmt: skip
_LLAMA = "https://www.llama.com/"
_HUB_WORDS = (
    # Families and licences for models: no SPDX identifier, so the Hub's word stays.
    Licence("apache", LicenceClass.PERMISSIVE, "https://www.apache.org/licenses/"),
    Licence("bsd", LicenceClass.PERMISSIVE, _HUB),
    Licence("openmdw-1.0", LicenceClass.PERMISSIVE, "https://openmdw.ai/"),
    Licence("openmdw-1.1", LicenceClass.PERMISSIVE, "https://openmdw.ai/"),
    Licence("gfdl", LicenceClass.COPYLEFT, "https://www.gnu.org/licenses/fdl.html"),
    Licence("gpl", LicenceClass.COPYLEFT, "https://www.gnu.org/licenses/gpl.html"),
    Licence("lgpl", LicenceClass.COPYLEFT, "https://www.gnu.org/licenses/lgpl.html"),
    Licence("apple-amlr", LicenceClass.NON_COMMERCIAL, _HUB),
    Licence("deepfloyd-if-license", LicenceClass.NON_COMMERCIAL, _HUB),
    Licence("fair-noncommercial-research-license", LicenceClass.NON_COMMERCIAL, _HUB),
    Licence("intel-research", LicenceClass.NON_COMMERCIAL, _HUB),
    Licence("apple-ascl", LicenceClass.CUSTOM, _HUB),
    Licence("bigcode-openrail-m", LicenceClass.CUSTOM, "https://www.bigcode-project.org/"),
    Licence("bigscience-bloom-rail-1.0", LicenceClass.CUSTOM, _HUB),
    Licence("bigscience-openrail-m", LicenceClass.CUSTOM, "https://www.licenses.ai/"),
    Licence("creativeml-openrail-m", LicenceClass.CUSTOM, "https://www.licenses.ai/"),
    Licence("openrail", LicenceClass.CUSTOM, "https://www.licenses.ai/"),
    Licence("openrail++", LicenceClass.CUSTOM, "https://www.licenses.ai/"),
    Licence("gemma", LicenceClass.CUSTOM, "https://ai.google.dev/gemma/terms"),
    Licence("grok2-community", LicenceClass.CUSTOM, _HUB),
    Licence("h-research", LicenceClass.CUSTOM, _HUB),
    Licence("llama2", LicenceClass.CUSTOM, f"{_LLAMA}llama2/license/"),
    Licence("llama3", LicenceClass.CUSTOM, f"{_LLAMA}llama3/license/"),
    Licence("llama3.1", LicenceClass.CUSTOM, f"{_LLAMA}llama3_1/license/"),
    Licence("llama3.2", LicenceClass.CUSTOM, f"{_LLAMA}llama3_2/license/"),
    Licence("llama3.3", LicenceClass.CUSTOM, f"{_LLAMA}llama3_3/license/"),
    Licence("llama4", LicenceClass.CUSTOM, f"{_LLAMA}llama4/license/"),
    Licence(OTHER, LicenceClass.CUSTOM, _HUB),
    Licence("cc", LicenceClass.UNKNOWN, "https://creativecommons.org/licenses/"),
    Licence("unknown", LicenceClass.UNKNOWN, _HUB),
)
_SPELLINGS = {
    "apache-2.0": ("apache 2", "apache2", "apache2.0", "apache software 2.0", "asl 2.0", "apl 2.0"),
    "bsd-2-clause": ("bsd 2", "bsd2", "simplified bsd"),
    "bsd-3-clause": ("bsd 3", "bsd3", "new bsd", "modified bsd"),
    "bsl-1.0": ("boost software 1.0", "boost 1.0"),
    "cc0-1.0": ("cc0", "cc zero", "cc0 1.0 universal"),
    "mit": ("expat",),
    "agpl-3.0": ("agpl3", "agpl 3", "gnu agpl 3.0", "gnu agplv3", "agplv3", "affero gpl 3.0"),
    "gpl-2.0": ("gpl2", "gpl 2", "gplv2", "gnu gpl 2.0", "gnu gplv2"),
    "gpl-3.0": ("gpl3", "gpl 3", "gplv3", "gnu gpl 3.0", "gnu gplv3"),
    "lgpl-2.1": ("lgplv2.1", "gnu lgpl 2.1"),
    "lgpl-3.0": ("lgpl3", "lgpl 3", "lgplv3", "gnu lgpl 3.0"),
    "mpl-2.0": ("mpl 2", "mpl2", "mozilla public 2.0"),
    "llama2": ("llama 2", "llama 2 community", "llama2 community", "meta llama 2"),
    "llama3": ("llama 3", "llama 3 community", "llama3 community", "meta llama 3"),
    "llama3.1": ("llama 3.1", "llama 3.1 community", "llama3.1 community", "meta llama 3.1"),
    "llama3.2": ("llama 3.2", "llama 3.2 community", "llama3.2 community", "meta llama 3.2"),
    "llama3.3": ("llama 3.3", "llama 3.3 community", "llama3.3 community", "meta llama 3.3"),
    "llama4": ("llama 4", "llama 4 community", "llama4 community", "meta llama 4"),
    "gemma": ("gemma terms of use", "gemma terms"),
    "openrail": ("open rail",),
    "openrail++": ("openrail++ m", "open rail++ m"),
    "creativeml-openrail-m": ("creativeml open rail m",),
}


def _key(words: str) -> str:
    """What spellings of one licence have in common: ``Apache License, Version 2.0``: apache 2.0."""
    parts = []
    for part in words.lower().translate(_SEPARATORS).split():
        numbered = part[1:] if part[0] == "v" and part[1:2].isdigit() else part
        if numbered not in _FILLERS:
            parts.append(numbered)
    return " ".join(parts)


def _spdx_licences() -> dict[str, Licence]:
    return {
        word: Licence(spdx, kind, f"https://spdx.org/licenses/{spdx}.html")
        for kind, words in _SPDX.items()
        for word, spdx in words.items()
    }


def _gnu_licences() -> dict[str, Licence]:
    """The forms that say whether later versions hold too, which the Hub's words leave open."""
    return {
        f"{word}-{scope}": Licence(
            f"{_SPDX[LicenceClass.COPYLEFT][word]}-{scope}",
            LicenceClass.COPYLEFT,
            f"https://spdx.org/licenses/{_SPDX[LicenceClass.COPYLEFT][word]}-{scope}.html",
        )
        for word in ("agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0")
        for scope in ("only", "or-later")
    }


_BY_HUB_WORD = {
    **_spdx_licences(),
    **_gnu_licences(),
    **{licence.word: licence for licence in _HUB_WORDS},
}
LICENCE_WORDS = {word: licence.word for word, licence in _BY_HUB_WORD.items()}
"""The Hub's words with their normal forms."""

_BY_WORD = {licence.word: licence for licence in _BY_HUB_WORD.values()}
_BY_KEY = {
    **{_key(word): licence for word, licence in _BY_WORD.items()},
    **{_key(word): licence for word, licence in _BY_HUB_WORD.items()},
    **{
        _key(spelling): _BY_HUB_WORD[word]
        for word, spellings in _SPELLINGS.items()
        for spelling in spellings
    },
}


def known_licences() -> dict[str, Licence]:
    """The Hub's words with the licences that they mean."""
    return dict(_BY_HUB_WORD)


def class_of(word: str | None) -> LicenceClass:
    """The class of a licence by its normal form; ``unknown`` for words on no list.

    >>> class_of("CC-BY-NC-4.0").value, class_of("llama3.1").value, class_of("my-own").value
    ('non_commercial', 'custom', 'unknown')
    """
    licence = _BY_WORD.get(word) if word is not None else None
    return licence.kind if licence is not None else LicenceClass.UNKNOWN


def read_licence(stated: object, name: object = None, link: object = None) -> StatedLicence | None:
    """The licence that a card's ``license``, ``license_name`` and ``license_link`` state.

    Parameters
    ----------
    stated
        A word, or a list of words. Of several different licences the first is the word, and all
        stand in `name`: whether they hold together or by choice is not said.
    name, link
        What the card says of a licence of its own.

    Returns
    -------
    StatedLicence or None
        None when no licence is stated. Words in the form of an identifier (lower-case letters,
        digits, ``.+-``, at most 64) that are on no list stay, for the Hub adds new ones;
        everything else is ``other`` with the words as its name, an address as its link.

    Examples
    --------
    >>> read_licence("Apache License, Version 2.0").word
    'Apache-2.0'
    >>> stated = read_licence("other", "yi-license", "LICENSE")
    >>> stated.word, stated.kind.value, stated.name, stated.link
    ('other', 'custom', 'yi-license', 'LICENSE')
    """
    given_name, given_link = clean_word(name), clean_word(link)
    known = _BY_HUB_WORD.get(stated) if type(stated) is str else None
    if known is not None:
        return StatedLicence(known.word, known.kind, given_name, given_link)
    stated_items = stated[:_MAX_STATED] if isinstance(stated, list) else [stated]
    words = [word for item in stated_items if (word := clean_word(item)) is not None]
    if not words:
        if given_name is None and given_link is None:
            return None
        return StatedLicence(OTHER, LicenceClass.CUSTOM, given_name, given_link)
    found = [_one(word) for word in words]
    first = found[0]
    several = len({licence.word for licence in found}) > 1
    own_name = clean_word(", ".join(words)) if several else first.name
    return StatedLicence(first.word, first.kind, given_name or own_name, given_link or first.link)


def _one(words: str) -> StatedLicence:
    licence = _BY_HUB_WORD.get(words) or _BY_KEY.get(_key(words))
    if licence is not None:
        return StatedLicence(licence.word, licence.kind, None, None)
    if words.startswith(("https://", "http://")):
        return StatedLicence(OTHER, LicenceClass.CUSTOM, None, words)
    word = words.lower()
    if len(word) <= _MAX_SHAPED_CHARACTERS and set(word) <= _SHAPE:
        return StatedLicence(word, LicenceClass.UNKNOWN, None, None)
    return StatedLicence(OTHER, LicenceClass.CUSTOM, words, None)
