"""Licences: spellings, normal forms, classes, and what is kept of an author's own."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from crawler.cards import read_card
from crawler.licences import (
    LICENCE_WORDS,
    LicenceClass,
    class_of,
    known_licences,
    read_licence,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def word_of(stated: object) -> str | None:
    found = read_licence(stated)
    return found.word if found is not None else None


@pytest.mark.parametrize(
    ("stated", "word"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("apache-2", "Apache-2.0"),
        ("APACHE_2.0", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        (" apache2.0\n", "Apache-2.0"),
        ("mit", "MIT"),
        ("MIT License", "MIT"),
        ("The MIT License (MIT)", "other"),
        ("CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
        ("cc_by_nc_sa_4.0", "CC-BY-NC-SA-4.0"),
        ("GPLv3", "GPL-3.0"),
        ("GPL-3.0-or-later", "GPL-3.0-or-later"),
        ("gnu gpl v2.0", "GPL-2.0"),
        ("odbl", "ODbL-1.0"),
        ("bsl-1.0", "BSL-1.0"),
        ("The Unlicense", "Unlicense"),
        ("llama2", "llama2"),
        ("llama-2", "llama2"),
        ("Llama 3.1 Community License Agreement", "llama3.1"),
        ("gemma", "gemma"),
        ("Gemma Terms of Use", "gemma"),
        ("openrail", "openrail"),
        ("openrail++", "openrail++"),
        ("gpl", "gpl"),
        ("cc", "cc"),
        ("other", "other"),
        ("unknown", "unknown"),
    ],
)
def test_spellings_of_one_licence_get_one_word(stated, word):
    assert word_of(stated) == word


@pytest.mark.parametrize("stated", [None, "", "  ", "null", "none", [], [None, ""], False, 3, {}])
def test_what_states_no_licence_is_none(stated):
    assert read_licence(stated) is None


@pytest.mark.parametrize("stated", ["cc-by", "apache", "gpl", "cc-by-nc", "llama"])
def test_a_version_is_never_guessed(stated):
    assert word_of(stated) == stated


def test_a_list_of_one_licence_is_that_licence_and_of_several_the_first_with_all_as_its_name():
    assert word_of(["mit"]) == word_of(["mit", "MIT License"]) == "MIT"
    several = read_licence(["apache-2.0", "mit"])
    assert several is not None
    assert (several.word, several.name) == ("Apache-2.0", "apache-2.0, mit")
    assert read_licence(["mit", "MIT"]).name is None


def test_an_authors_own_licence_keeps_its_name_and_its_link():
    own = read_licence("other", "yi-license", "LICENSE")
    assert own is not None
    assert (own.word, own.kind, own.name, own.link) == (
        "other", LicenceClass.CUSTOM, "yi-license", "LICENSE"
    )  # fmt: skip
    assert read_licence(None, "yi-license") == read_licence("other", "yi-license")


def test_free_words_are_the_name_of_an_own_licence_and_an_address_its_link():
    words = read_licence("Ask me first!")
    address = read_licence("https://example.org/LICENSE")
    assert words is not None
    assert address is not None
    assert (words.word, words.name, words.kind) == ("other", "Ask me first!", LicenceClass.CUSTOM)
    assert (address.word, address.link) == ("other", "https://example.org/LICENSE")


def test_an_identifier_that_is_on_no_list_stays_a_word_of_unknown_class():
    new = read_licence("OpenMDW-9.0")
    assert new is not None
    assert (new.word, new.kind) == ("openmdw-9.0", LicenceClass.UNKNOWN)
    assert word_of("a" * 64) == "a" * 64
    assert word_of("a" * 65) == "other"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("Apache-2.0", "permissive"),
        ("CC-BY-4.0", "permissive"),
        ("CC-BY-SA-4.0", "copyleft"),
        ("AGPL-3.0", "copyleft"),
        ("gpl", "copyleft"),
        ("CC-BY-NC-ND-4.0", "non_commercial"),
        ("apple-amlr", "non_commercial"),
        ("CC-BY-ND-4.0", "custom"),
        ("llama3.3", "custom"),
        ("bigscience-openrail-m", "custom"),
        ("other", "custom"),
        ("cc", "unknown"),
        ("unknown", "unknown"),
        ("never-heard-of", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_licence_has_the_class_of_its_terms(word, kind):
    assert class_of(word).value == kind


def test_identifiers_with_a_page_of_spdx_are_on_the_spdx_list():
    # The list is that of the packaging library (SPDX 3.27), another transcription than this one.
    unlisted = []
    for licence in known_licences().values():
        if "spdx.org" not in licence.source:
            continue
        try:
            on_the_list = canonicalize_license_expression(licence.word)
        except InvalidLicenseExpression:
            unlisted.append(licence.word)
        else:
            assert on_the_list == licence.word
            assert licence.source == f"https://spdx.org/licenses/{licence.word}.html"
    assert not unlisted


def test_a_hub_word_without_a_page_of_spdx_is_on_no_spdx_list():
    for word, licence in known_licences().items():
        if "spdx.org" not in licence.source:
            with pytest.raises(InvalidLicenseExpression):
                canonicalize_license_expression(word)


def test_every_licence_has_a_source_and_normal_forms_are_stable():
    for word, licence in known_licences().items():
        assert licence.source.startswith("https://")
        assert LICENCE_WORDS[word] == licence.word
        for spelling in (word, word.upper(), licence.word):
            found = read_licence(spelling)
            assert found is not None
            assert (found.word, found.kind) == (licence.word, class_of(licence.word))


def test_only_an_authors_own_licences_of_real_cards_are_on_no_list(shared_data: Path):
    words: dict[str, int] = {}
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is None or not member.name.endswith("README.md"):
                continue
            metadata = read_card(opened.read().decode("utf-8", "replace")).metadata
            stated = [metadata.get(f"license{part}") for part in ("", "_name", "_link")]
            found = read_licence(*stated)
            if found is not None:
                words[found.word] = words.get(found.word, 0) + 1
    # Counted from the cards' lines `license:` with grep; lists of one count as their one.
    assert words == {
        "Apache-2.0": 82, "CC-BY-4.0": 8, "CC-BY-NC-4.0": 62, "CC-BY-NC-ND-4.0": 5,
        "CC-BY-NC-SA-4.0": 8, "CC-BY-SA-4.0": 3, "MIT": 12, "Artistic-2.0": 1, "WTFPL": 1,
        "gpl": 1, "llama2": 75, "openrail++": 1, "other": 62,
    }  # fmt: skip


@given(ANYTHING, ANYTHING, ANYTHING)
def test_no_statement_of_a_licence_makes_the_reader_fail(stated, name, link):
    found = read_licence(stated, name, link)
    if found is not None:
        for text in (found.word, found.name or "", found.link or ""):
            text.encode("utf-8")
            assert len(text) <= 500
            assert "\x00" not in text
