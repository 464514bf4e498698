"""Vocabularies: real tokenizers meet by text, and hostile files are refused."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import CrawlError, MalformedError
from lineage.weights.anchors import TIERS
from lineage.weights.vocabulary import Vocabulary, anchor_rows, parse_vocabulary, vocabulary_of

FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")


def parse(name, value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return dict(parse_vocabulary(name, data).tokens)


def runs_of(rows):
    ordered = sorted(rows)
    return 1 + sum(b - a > 1 for a, b in itertools.pairwise(ordered))


def field(number, content):
    """A field of a protobuf message: bytes with their length."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value):
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


@functools.cache
def gguf_tokens(path):
    """The array of strings ``tokenizer.ggml.tokens``; the gguf package takes seconds for it."""
    data = path.read_bytes()
    key = b"tokenizer.ggml.tokens"
    at = data.index(key) + len(key)
    kind, of, n_tokens = struct.unpack_from("<IIQ", data, at)
    assert (kind, of) == (9, 8)
    at += 16
    tokens = []
    for _ in range(n_tokens):
        (length,) = struct.unpack_from("<Q", data, at)
        tokens.append(data[at + 8 : at + 8 + length].decode("utf-8", "replace"))
        at += 8 + length
    return tokens


def test_one_token_has_one_text_however_its_tokenizer_writes_it():
    byte_level = vocabulary_of(["Ġthe", "ing", "Ċ", "Ġé".replace("é", "Ã©"), "0", "<|end|>"])
    pieces = vocabulary_of(["▁the", "ing", "\n", "▁é", "0", "<s>", "<0x41>"])
    words = vocabulary_of(["the", "##ing", "##0", "[CLS]", "é"])
    assert list(byte_level.tokens.values()) == [" the", "ing", "\n", " é", "0", "<|end|>"]
    assert list(pieces.tokens.values()) == [" the", "ing", "\n", " é", "0", "<s>", "<0x41>"]
    assert list(words.tokens.values()) == [" the", "ing", "0", "[CLS]", " é"]


def test_a_vocabulary_without_marks_is_left_as_it_is():
    assert list(vocabulary_of(["the", "é", "<pad>"]).tokens.values()) == ["the", "é", "<pad>"]


def test_bytes_that_are_no_text_stand_in_the_form_of_sentencepiece():
    # 0xE4 0xB8 begins a Chinese character; ä and ¸ are its bytes in the alphabet of GPT-2.
    vocabulary = vocabulary_of(["Ġ", "Ġa", "ä", "ä¸", "ä¸Ń", "中"])
    assert list(vocabulary.tokens.values()) == [" ", " a", "<0xE4>", "<0xE4><0xB8>", "中", "中"]


def test_the_alphabet_of_byte_level_tokens_is_that_of_the_tokenizers_library():
    tokenizers = pytest.importorskip("tokenizers")
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, range(0x800))) + "中文🙂"
    ((mapped, _),) = byte_level.pre_tokenize_str(text)
    assert vocabulary_of(["Ġa", mapped[:1000]]).tokens[1] == text.encode()[:1000].decode()
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert len({vocabulary_of(["Ġa", letter]).tokens[1] for letter in letters}) == 256


@pytest.mark.parametrize("kind", ["BPE", "WordPiece", "Unigram"])
def test_tokenizer_json_of_the_tokenizers_library_is_read(kind):
    tokenizers = pytest.importorskip("tokenizers")
    tokens = ["Ġ", "t", "h", "e", "th", "the", "Ġthe"]
    numbers = {token: at for at, token in enumerate(tokens)}
    model = {
        "BPE": lambda: tokenizers.models.BPE(
            numbers, [("t", "h"), ("th", "e"), ("Ġ", "the")], byte_fallback=False
        ),
        "WordPiece": lambda: tokenizers.models.WordPiece(numbers, unk_token="t"),
        "Unigram": lambda: tokenizers.models.Unigram([(t, -1.0) for t in tokens], 0),
    }[kind]()
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.add_special_tokens(["<|end|>"])
    vocabulary = parse_vocabulary("tokenizer.json", tokenizer.to_str().encode())
    expected = {row: tokenizer.id_to_token(row) for row in range(8)}
    assert expected[7] == "<|end|>"
    assert dict(vocabulary.tokens) == {
        row: token.replace("Ġ", " ") for row, token in expected.items()
    }


def test_a_model_of_sentencepiece_is_read_row_by_row():
    sentencepiece = pytest.importorskip("sentencepiece")
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox", "jumps over the lazy dog ü"] * 20),
        model_writer=made, vocab_size=300, byte_fallback=True, model_type="bpe",
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    vocabulary = parse_vocabulary("sub/tokenizer.model", made.getvalue())
    assert dict(vocabulary.tokens) == {
        row: processor.id_to_piece(row).replace("▁", " ") for row in range(len(processor))
    }
    assert vocabulary.rows["<0x41>"] == processor.piece_to_id("<0x41>")


def test_ranks_of_tiktoken_are_read_under_the_same_name():
    tokens = [b"!", b" the", b"\xe4", b"\n\n"]
    lines = [base64.b64encode(token) + b" %d" % row for row, token in enumerate(tokens)]
    assert parse("tokenizer.model", b"\n".join(lines)) == {
        0: "!", 1: " the", 2: "<0xE4>", 3: "\n\n",
    }  # fmt: skip


def test_lines_of_vocab_txt_are_rows_and_only_line_feeds_end_them():
    assert parse("vocab.txt", "[PAD]\r\nthe\n##s\n\u2028\n".encode()) == {
        0: "[PAD]", 1: " the", 2: "s", 3: " \u2028",
    }  # fmt: skip


def test_one_vocabulary_has_one_digest_in_whatever_file():
    as_json = parse_vocabulary("vocab.json", b'{"the": 1, "a": 0}')
    other_order = parse_vocabulary("vocab.json", b'{"a": 0, "the": 1}')
    as_text = parse_vocabulary("vocab.txt", b"a\nthe\n")
    assert as_json.digest == other_order.digest == as_text.digest
    assert as_json.digest != parse_vocabulary("vocab.txt", b"the\na\n").digest
    two = Vocabulary({0: "a", 1: "b"})
    assert Vocabulary({1: "b", 0: "a"}).digest == two.digest
    assert all(Vocabulary({0: f"a,1:{n}:b"}).digest != two.digest for n in (0, 1))
    assert len({Vocabulary({0: text}).digest for text in ("\ud800", "\ud801", "?")}) == 3


def test_of_several_rows_of_one_text_the_first_counts():
    assert Vocabulary({3: "a", 1: "a", 2: "b"}).rows == {"a": 1, "b": 2}


def test_rows_that_make_no_sense_are_passed_over():
    stated = {"a": 0, "b": -1, "c": 1 << 40, "d": "2", "e": 2.0, "f": True, "g": None, "h": 0,
              "i" * 2000: 3, "j": 4}  # fmt: skip
    assert parse("vocab.json", stated) == {0: "a", 4: "j"}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("weights.bin", b"", "not a file of a vocabulary"),
        ("vocab.json", b"{}", "holds no tokens"),
        ("vocab.json", b"[1]", "a list, not an object"),
        ("vocab.json", b'{"a', "not JSON"),
        ("vocab.json", b'{"\xff": 1}', "not JSON"),
        ("vocab.json", b"[" * 1000, "not JSON"),
        ("vocab.json", b"," * 1001, "more than 1000 values"),
        ("tokenizer.json", b"{}", "no model.vocab"),
        ("tokenizer.json", b'{"model": {"vocab": 3}}', "no model.vocab"),
        ("tokenizer.json", b'{"model": {"vocab": [3, [], [4]]}}', "holds no tokens"),
        ("vocab.txt", b"a\n\xff\n", "not UTF-8"),
        ("vocab.txt", b"\n" * 101, "more than 100 tokens"),
        ("tokenizer.model", b"", "holds no tokens"),
        ("tokenizer.model", b"\x0a", "ends inside a number"),
        ("tokenizer.model", b"\x0a\x05abc", "ends beyond the file"),
        ("tokenizer.model", b"\x09abc", "ends beyond the file"),
        ("tokenizer.model", b"\x0b", "not a sentencepiece model"),
        ("tokenizer.model", b"\x80" * 11, "more than ten bytes"),
        ("tokenizer.model", b"\n\x00" * 101, "more than 100 tokens"),
        ("tokenizer.model", b"IQ== 0\n!!!! 1\n", "not base64"),
        ("tokenizer.model", b"IQ== 0\n" + b"\n" * 100, "more than 100 tokens"),
    ],
)
def test_what_is_no_vocabulary_is_refused_with_the_reason(name, data, reason, monkeypatch):
    monkeypatch.setattr("lineage.weights.vocabulary._MAX_TOKENS", 100)
    monkeypatch.setattr("lineage.weights.vocabulary._MAX_JSON_VALUES", 1000)
    with pytest.raises(MalformedError, match=reason):
        parse_vocabulary(name, data)


def test_a_file_beyond_all_bounds_is_refused_unread(monkeypatch):
    monkeypatch.setattr("lineage.weights.vocabulary._MAX_FILE_BYTES", 10)
    with pytest.raises(MalformedError, match="11 bytes are too many"):
        parse_vocabulary("vocab.txt", b"a\nb\nc\nd\ne\nf")


def test_a_million_tokens_are_fine():
    tokens = [f"Ġt{row}" for row in range(1_000_000)]
    vocabulary = vocabulary_of(tokens)
    assert len(vocabulary.tokens) == 1_000_000
    assert anchor_rows(vocabulary) == ()


def test_of_a_piece_that_is_no_text_the_row_is_kept():
    pieces = [b"a", b"\xff", b"b"]
    data = b"".join(field(1, field(1, piece) + b"\x15\x00\x00\x00\x00") for piece in pieces)
    assert parse("tokenizer.model", data + b"\x18\x01" + field(2, b"trainer")) == {0: "a", 2: "b"}


@given(st.sampled_from(FILES), st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(name, data):
    try:
        vocabulary = parse_vocabulary(name, data)
    except CrawlError:
        return
    assert vocabulary.tokens
    assert set(anchor_rows(vocabulary)) <= set(vocabulary.tokens)


@given(st.lists(st.text(max_size=6), min_size=1, max_size=60))
def test_anchors_are_rows_of_the_vocabulary_in_few_runs(tokens):
    vocabulary = vocabulary_of([*tokens, *"abcdefgh", *(f"▁{token}" for token in tokens)])
    rows = anchor_rows(vocabulary)
    assert len(set(rows)) == len(rows) <= sum(t.window_rows * t.windows for t in TIERS)
    assert set(rows) <= set(vocabulary.tokens)
    assert not rows or runs_of(rows) <= sum(t.windows for t in TIERS)
    assert rows == anchor_rows(vocabulary)


def test_the_densest_windows_are_taken_whole_and_thin_ones_not():
    def rows_of(tokens):
        return anchor_rows(Vocabulary(dict(enumerate(tokens))))

    thick = ["é"] * 5 + ["a", "b", "é", "é", "c", "d"] + ["é"] * 40 + ["e", "f", "g", "h", "i"]
    assert rows_of(thick) == (*range(51, 56), *range(5, 11))
    assert rows_of(["a", "b", "c"]) == ()  # not worth a request
    thin = list(itertools.chain.from_iterable((letter, "é", "é", "é") for letter in "abcdef"))
    assert rows_of(thin) == ()
    assert len(rows_of([f"{c}" for c in "abcdefghijklmnopqrstuvwxyz" * 3])) == 26


def test_a_window_never_overlaps_an_earlier_one():
    tokens = [*"abcdef", "0", "1", "2", "3", *"ghijkl", "4", "5", "6", "7"]
    rows = anchor_rows(Vocabulary(dict(enumerate(tokens))))
    assert sorted(rows) == sorted(set(rows))
    assert set(rows) == set(range(20))


def test_a_token_added_at_the_end_moves_no_anchor():
    tokens = ["<s>", *"abcdefgh", "▁the", "▁of", "▁and", "▁to", "▁in"]
    rows = anchor_rows(vocabulary_of(tokens))
    assert rows == anchor_rows(vocabulary_of([*tokens, "<|im_start|>", "<|im_end|>"]))


@pytest.mark.parametrize(
    ("first", "second", "at_least"),
    [
        ("gpt-2", "llama-spm", 90),
        ("gpt-2", "falcon", 120),
        ("deepseek-coder", "falcon", 120),
        ("phi-3", "llama-spm", 140),
        ("bert-bge", "gpt-2", 50),
    ],
)
def test_anchors_of_different_tokenizers_meet_by_their_text(shared_data, first, second, at_least):
    texts = []
    for name in (first, second):
        vocabulary = vocabulary_of(
            gguf_tokens(shared_data / "gguf-vocab" / f"ggml-vocab-{name}.gguf")
        )
        rows = anchor_rows(vocabulary)
        assert 100 <= len(rows) <= 154
        assert runs_of(rows) <= 5
        assert runs_of(rows[:16]) == 1
        texts.append({vocabulary.tokens[row] for row in rows})
    assert len(texts[0] & texts[1]) >= at_least
