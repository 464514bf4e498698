"""Traits that records, files and cards state."""

from __future__ import annotations

import gzip
import json
import tarfile
import time
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.card_shape import CARD_ITEMS
from crawler.cards import read_card
from crawler.plain_yaml import read_yaml
from crawler.quantisation import quantisation_of
from crawler.records import FileEntry
from crawler.traits import Facts, card_shape, context_length_of, facts_of, tokenizer_digest
from crawler.words import clean_word

KEY_WORDS = (
    "tags cardData config safetensors gguf pipeline_tag library_name license license_name language "
    "datasets architectures model_type quantization_config quantization text_config config_groups "
    "parameters total architecture context_length max_position_embeddings name bits producer"
)
KEYS = KEY_WORDS.split()
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["en", "4-bit", "license:mit", "dataset:a/b", "gguf", "text-generation"]),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=30,
)


def facts(**record: object) -> Facts:
    return facts_of(record)


def quantised(**config: object) -> str | None:
    return facts(config={"quantization_config": config}).quantisation


# Licence


def test_the_cards_licence_counts_before_the_tags():
    assert facts(cardData={"license": "mit"}, tags=["license:gpl-3.0"]).licence == "MIT"
    assert facts(tags=["en", "license:apache-2.0"]).licence == "Apache-2.0"
    assert facts(cardData={"license": None}, tags=["license:mit"]).licence == "MIT"
    assert facts(tags=["my-license:mit", "license"]).licence is None


def test_several_licences_keep_all_their_words():
    found = facts(tags=["license:mit", "license:apache-2.0"])
    assert (found.licence, found.licence_name) == ("MIT", "mit, apache-2.0")


def test_an_authors_own_licence_keeps_its_name():
    found = facts(cardData={"license": "other", "license_name": "yi-license"})
    assert (found.licence, found.licence_name) == ("other", "yi-license")


# Languages, tasks, data sets


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("en", ("en",)),
        (["en", "de", "en"], ("en", "de")),
        (["en,"], ("en",)),
        ("en, fr", ("en", "fr")),
        ("no", ("no",)),
        (["pt-BR", 3, None, {"name": "da"}, {"x": 1}], ("pt-BR", "da")),
        (False, ("it",)),
        ([], ("it",)),
        (" ", ("it",)),
    ],
)
def test_languages_are_the_cards_codes_else_those_among_the_tags(stated, expected):
    assert facts(cardData={"language": stated}, tags=["it", "act", "ner"]).languages == expected


def test_tasks_are_the_pipeline_tag_and_the_tasks_among_the_tags():
    found = facts(
        pipeline_tag="text-generation",
        tags=["summarization", "text-generation", "chat", "translation", "summarization"],
    )
    assert found.tasks == ("text-generation", "summarization", "translation")
    assert facts(cardData={"pipeline_tag": "robotics"}).tasks == ("robotics",)
    assert facts(pipeline_tag="text-generation", tags=["text-generation"]).tasks == (
        "text-generation",
    )
    assert facts(pipeline_tag="new-task").tasks == ("new-task",)


def test_data_sets_are_the_cards_and_then_those_of_the_tags():
    found = facts(
        cardData={"datasets": ["a/b", "c"]}, tags=["dataset:c", "dataset:d/e", "en", "mydataset:f"]
    )
    assert found.datasets == ("a/b", "c", "d/e")
    assert facts(cardData={"datasets": "a/b"}).datasets == ("a/b",)
    assert facts(tags=["dataset:a/b"]).datasets == ("a/b",)


# Architecture and numbers


def test_the_architecture_is_the_configs_first_else_ggufs():
    config = {"architectures": ["LlamaForCausalLM", "B"], "model_type": "llama"}
    found = facts(config=config, gguf={"architecture": "gemma"})
    assert (found.architecture, found.model_type) == ("LlamaForCausalLM", "llama")
    assert facts(config={"architectures": []}, gguf={"architecture": "g"}).architecture == "g"


def test_parameters_are_safetensors_total_else_its_sum_else_ggufs():
    by_dtype = {"F32": 2, "BF16": 10, "I64": True, "U8": -3, "I8": "4", "F64": 1 << 62}
    assert facts(safetensors={"parameters": by_dtype, "total": 13}).parameters == 13
    assert facts(safetensors={"parameters": by_dtype}, gguf={"total": 7}).parameters == 12
    assert facts(safetensors={"total": 1 << 62}, gguf={"total": 7}).parameters == 7
    assert facts(safetensors={"total": 0}, gguf={"total": -7}).parameters is None
    assert facts(safetensors={"total": True}).parameters is None
    huge = {"A": (1 << 62) - 1, "B": (1 << 62) - 1}
    assert facts(safetensors={"parameters": huge}).parameters is None


def test_the_dtype_is_that_of_most_stored_values_and_of_equals_the_first():
    assert facts(safetensors={"parameters": {"F32": 2, "BF16": 10}}).dtype == "BF16"
    assert facts(safetensors={"parameters": {"F32": 5, "BF16": 5}}).dtype == "F32"
    assert facts(safetensors={"parameters": {"F32": 0}, "total": 3}).dtype is None
    assert facts(gguf={"total": 3}).dtype is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "seq_length": 8192}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"max_seq_len": 2048}, 2048),
        ({"max_target_positions": 448}, 448),
        ({"max_position_embeddings": -1, "n_ctx": 512}, 512),
        ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": "4096"}, None),
        ({"max_position_embeddings": 4096.0}, None),
        ({"max_position_embeddings": 1 << 27}, 1 << 27),
        ({"max_position_embeddings": (1 << 27) + 1}, None),
        ({"model_max_length": 10**30}, None),
        ({"text_config": {"max_position_embeddings": 7}, "max_position_embeddings": 9}, 9),
        ({"vision_config": {"max_position_embeddings": 7}}, None),
        ({"thinker_config": {"text_config": {"max_position_embeddings": 7}}}, 7),
        ({"text_config": 3}, None),
        (
            {"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}},
            32768,
        ),
    ],
)
def test_the_context_length_is_the_number_of_positions_as_stated(config, expected):
    assert context_length_of(config) == expected
    assert facts(config=config, gguf={"context_length": 5}).context_length == (expected or 5)


# Quantisation


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq-4bit"),
        ({"quant_method": "awq", "bits": 4}, "awq-4bit"),
        ({"quant_method": "AWQ", "w_bit": 4}, "awq-4bit"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
         "bitsandbytes-nf4"),
        ({"load_in_4bit": True}, "bitsandbytes-4bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True, "bnb_4bit_quant_type": "fp4"},
         "bitsandbytes-8bit"),
        ({"quant_method": "fp8", "fmt": "e4m3"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt-nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "modelopt-mixed"),
        ({"producer": {"name": "modelopt"}, "quant_algo": "FP8"}, "modelopt-fp8"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}},
         "compressed-tensors-fp8"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"a": {"weights": {"num_bits": 8, "type": "int"}},
                            "b": {"weights": {"num_bits": 4, "type": "int"}}}},
         "compressed-tensors-mixed"),
        ({"quant_method": "x", "bits": 0}, "x"),
        ({"quant_method": "x", "bits": True}, "x"),
        ({"bits": 4}, "4bit"),
        ({"group_size": 64}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_quantisation_is_the_method_and_format_of_the_configuration(config, expected):
    assert quantised(**config) == expected
    assert facts(config={"text_config": {"quantization_config": config}}).quantisation == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["safetensors", "4-bit", "gptq"], "gptq-4bit"),
        (["mlx", "safetensors", "4-bit"], "mlx-4bit"),
        (["mlx", "safetensors"], None),
        (["safetensors", "8-bit"], "8bit"),
        (["compressed-tensors", "8-bit", "nvfp4"], "compressed-tensors-nvfp4"),
        (["gguf", "4-bit"], "gguf"),
        (["gguf", "safetensors"], None),
        (["gguf", "safetensors", "fp8"], "fp8"),
        (["safetensors"], None),
        (["1-bit", "8bit"], "1bit"),
        (["8bit", "hqq"], "hqq-8bit"),
        (["0-bit", "9-bit"], None),
    ],
)
def test_tags_state_a_quantisation_where_the_configuration_states_none(tags, expected):
    assert facts(tags=tags).quantisation == expected
    stated = facts(tags=tags, config={"quantization_config": {"quant_method": "hqq"}})
    assert stated.quantisation == "hqq"


@pytest.mark.parametrize("stated", ["gptq", [1], 4, True, {"quant_method": {"a": 1}}])
def test_a_quantisation_that_is_no_mapping_of_words_is_not_stated(stated):
    assert facts(config={"quantization_config": stated}).quantisation is None
    assert facts(config={"text_config": {"quantization_config": stated}}).quantisation is None
    assert facts(config={"quantization_config": {"quant_method": "x", "bits": 65}}) == facts(
        config={"quantization_config": {"quant_method": "x"}}
    )


def test_gguf_is_a_quantisation_only_where_no_safetensors_are():
    assert facts(gguf={"total": 3}).quantisation == "gguf"
    assert facts(gguf={"total": 3}, safetensors={"total": 3}).quantisation is None


def test_a_width_of_an_mlx_model_is_mlx():
    found = facts(library_name="mlx", config={"quantization": {"bits": 4, "group_size": 64}})
    assert found.quantisation == "mlx-4bit"


# Hostile records


def test_nothing_stated_is_none_and_empty():
    empty = Facts(None, None, (), (), (), None, None, None, None, None, None)
    for nothing in (None, 3, "x", [], {}, True, 1.5):
        assert facts_of({key: nothing for key in KEYS if key != "pipeline_tag"}) in (
            empty, facts(library_name=nothing)
        )  # fmt: skip
    assert facts_of({}) == empty


def test_tags_that_are_no_texts_are_passed_over():
    found = facts(tags=["en", None, 3, ["de"], {"license:mit": 1}, "license:mit", "4-bit"])
    assert (found.languages, found.licence, found.quantisation) == (("en",), "MIT", "4bit")


def test_texts_and_lists_are_bounded():
    found = facts(
        cardData={"language": [f"l{i}" for i in range(300)], "license_name": "n" * 9_000},
        config={"model_type": "m" * 501, "architectures": ["a" * 501]},
        tags=[f"dataset:d{i}" for i in range(5_000)],
    )
    assert len(found.languages) == len(found.datasets) == 100
    assert len(found.licence_name or "") == len(found.model_type or "") == 500
    assert len(found.architecture or "") == 500


def test_control_characters_surrogates_and_marks_of_direction_are_replaced():
    assert clean_word("a\x00b\ud800c\u202ed\x1b[31m") == "a\ufffdb\ufffdc\ufffdd\ufffd[31m"
    assert clean_word("a\r\n\tb\u00a0c\u2028d") == "a   b c d"
    assert clean_word("né 語 👩‍👩") == "né 語 👩‍👩"
    assert clean_word("~") is None
    assert clean_word(b"x") is None


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=8))
def test_no_record_makes_the_reader_fail_and_what_it_says_is_bounded(record):
    found = facts_of(record)
    for field in fields(found):
        value = getattr(found, field.name)
        texts = value if isinstance(value, tuple) else (value,)
        assert len(texts) <= 100
        assert len(set(texts)) == len(texts)
        for text in texts:
            if isinstance(text, str):
                assert text.strip()
                assert len(text) <= 500
                text.encode("utf-8")
                assert "\x00" not in text
            else:
                assert text is None or 0 < text < 1 << 62


# Real records and configurations


def test_real_records_of_the_hub_have_the_facts_that_stand_in_them(shared_data: Path):
    stored = json.loads((shared_data / "model-info" / "model_data.json").read_text("utf-8"))
    found = {}
    for model in stored["models"]:
        record = json.loads(model["metadata"])
        # The client stored the card's metadata as YAML; the Hub sends it as an object.
        (record["cardData"],) = read_yaml(record["card_data"])
        found[model["model_id"]] = facts_of(record)
    common = ("Apache-2.0", None, ("en",), ("text-generation",), (), "MistralForCausalLM",
              "mistral", 23_572_464_640)  # fmt: skip
    assert found == {
        "NousResearch/DeepHermes-3-Mistral-24B-Preview": Facts(*common, "BF16", None, None),
        "Jarrodbarnes/DeepHermes-3-Mistral-24B-Preview-mlx-fp16": Facts(*common, "F16", None, None),
        "AlSamCur123/DeepHermes-3-Mistral-24BContinuedFine": Facts(*common, "BF16", None, None),
        "AlSamCur123/DeepHermes-3-Mistral-24ContinuedFine": Facts(*common, "BF16", None, None),
        "mlx-community/DeepHermes-3-Mistral-24B-Preview-bf16": Facts(*common, "BF16", None, None),
    }


# Context length and quantisation, read off each file by eye.
GOLDEN_CONFIGS = {
    "MiniMaxAI--MiniMax-M2.7": (204_800, "fp8"),
    "Qwen--Qwen3-8B": (40_960, None),
    "Qwen--Qwen3-32B-FP8-Static-PerTensor": (40_960, "modelopt-fp8"),
    "Qwen--Qwen3-VL-2B-Instruct": (262_144, None),
    "XiaomiMiMo--MiMo-V2-Flash": (262_144, "fp8"),
    "deepseek-ai--DeepSeek-R1": (163_840, "fp8"),
    "google--gemma-4-26B-A4B": (262_144, None),
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": (10_485_760, None),
    "meta-llama--Meta-Llama-3.1-8B": (131_072, None),
    "mistralai--Mixtral-8x22B-v0.1": (65_536, None),
    "moonshotai--Kimi-K2.5": (262_144, "compressed-tensors-4bit"),
    "moonshotai--Kimi-K3": (1_048_576, "compressed-tensors-mxfp4"),
    "nvidia--DeepSeek-V3.1-NVFP4": (163_840, None),
    "nvidia--DeepSeek-V3.1-NVFP4_hf_quant": (None, "modelopt-nvfp4"),
    "nvidia--DeepSeek-V4-Pro-NVFP4": (1_048_576, "fp8-mixed"),
    "nvidia--GLM-5.1-NVFP4": (202_752, "modelopt-nvfp4"),
    "nvidia--MiniMax-M3-NVFP4": (1_048_576, "modelopt-mixed"),
    "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8_hf_quant": (None, "fp8"),
    "nvidia--Nemotron-H-56B-Base-8K": (8_192, None),
    "nvidia--Qwen3.6-27B-NVFP4": (262_144, "modelopt-mixed"),
    "openai--gpt-oss-20b": (131_072, "mxfp4"),
    "stepfun-ai--Step-3.7-Flash-FP8": (65_536, "fp8"),
}


def test_real_configurations_state_context_length_and_quantisation(shared_data: Path):
    found = {}
    n_models = n_lengths = n_quantised = 0
    with tarfile.open(shared_data / "configs" / "model-configs.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is None:
                continue
            config = json.load(opened)
            name = Path(member.name).name.removesuffix("_config.json")
            read = facts(config=config)
            found[name] = (read.context_length, read.quantisation)
            n_models += "architectures" in config
            n_lengths += read.context_length is not None
            n_quantised += read.quantisation is not None
            assert (read.architecture is not None) == ("architectures" in config)
            # Every configuration of this collection that names a quantisation is understood.
            text = json.dumps(config)
            assert (read.quantisation is not None) == (
                '"quant_method"' in text or '"quant_algo"' in text
            )
    assert {name: found[name] for name in GOLDEN_CONFIGS} == GOLDEN_CONFIGS
    assert (len(found), n_models, n_lengths, n_quantised) == (113, 86, 86, 66)


def test_real_tags_give_the_licences_and_languages_that_another_reader_found(shared_data: Path):
    n_models = n_stated = n_agreed = n_licences = n_agreed_licences = 0
    with gzip.open(shared_data / "radar" / "models.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            model = json.loads(line)
            read = facts(tags=model["tags"], pipeline_tag=model["pipeline_tag"])
            n_models += 1
            if model["license"] and read.licence not in (None, "other"):
                n_licences += 1
                own = facts(cardData={"license": model["license"]}).licence
                n_agreed_licences += own == read.licence
            if model["pipeline_tag"]:
                assert read.tasks[0] == model["pipeline_tag"]
            short = {code for code in model["languages"] if len(code) == 2}
            n_stated += len(short)
            n_agreed += len(short & set(read.languages))
    assert n_models == 15_904
    # The other reader gives license_name where a card has one, whatever its license.
    assert (n_agreed_licences, n_licences) == (10_278, 10_289)
    # Of the languages that it took from the cards, 132 of 10,163 are no tags.
    assert (n_agreed, n_stated) == (10_031, 10_163)


# Tokenizer


def file(path: str, digit: str | None) -> FileEntry:
    return FileEntry(path, 5, digit * 64 if digit is not None else None)


def test_a_tokenizer_is_identified_by_its_most_complete_file():
    files = [file("vocab.json", "1"), file("merges.txt", "2"), file("tokenizer.model", "3")]
    assert tokenizer_digest(files) == f"tokenizer.model:{'3' * 64}"
    assert tokenizer_digest([*files, file("tokenizer.json", "4")]) == f"tokenizer.json:{'4' * 64}"
    assert tokenizer_digest(files[:2]) == f"vocab.json:{'1' * 64} merges.txt:{'2' * 64}"


def test_a_tokenizer_without_stated_digests_has_no_identity():
    assert tokenizer_digest([]) is None
    assert tokenizer_digest([file("tokenizer.json", None), file("model.safetensors", "1")]) is None
    assert tokenizer_digest([file("vocab.json", "1")]) is None
    assert tokenizer_digest([file("old/tokenizer.json", "1")]) is None


def test_a_small_tokenizer_file_is_known_by_its_git_object():
    small = FileEntry("tokenizer.json", 5, None, "a" * 40)
    assert tokenizer_digest([small]) == f"tokenizer.json:git:{'a' * 40}"


def test_the_order_of_the_files_does_not_change_a_tokenizers_identity():
    files = [file("merges.txt", "2"), file("vocab.json", "1"), file("config.json", "3")]
    assert tokenizer_digest(files) == tokenizer_digest(files[::-1])


# The shape of a card

TEMPLATE = """---
{}
---
# Model Card for Model ID
<!-- Provide a quick summary
of what the model is/does. -->
## Model Details
### Model Description
- **Developed by:** [More Information Needed]
## Uses
[More Information Needed]
## Bias, Risks, and Limitations
Users (both direct and downstream) should be made aware of the risks, biases and limitations.
## How to Get Started with the Model
Use the code below to get started with the model.
## Training Details
### Training Data
More information needed
## Evaluation
### Results
## Citation [optional]
**BibTeX:**

**APA:**
"""


def test_a_template_that_nobody_filled_in_is_not_complete_at_all():
    shape = card_shape(TEMPLATE)
    assert (shape.completeness, shape.present, shape.sections) == (0.0, (), 11)


@pytest.mark.parametrize(
    ("old", "new", "item"),
    [
        ("{}", "license: mit", "licence"),
        ("{}", "language: no", "language"),
        ("{}", "base_model: [a/b]", "base_model"),
        ("{}", "datasets:\n- a/b", "datasets"),
        ("{}", "pipeline_tag: text-generation", "task"),
        ("{}", "library_name: peft", "library"),
        ("{}", "model-index: [{name: a, results: [{task: {type: t}}]}]", "evaluation"),
        ("<!-- Provide", "A model that writes Danish verse.\n<!--", "description"),
        ("## Uses\n[More Information Needed]", "## Uses\nTo rhyme.", "intended_use"),
        ("and limitations.", "and limitations.\nIt is rude.", "limitations"),
        ("### Training Data\nMore information needed", "### Training Data\nVerse", "training_data"),
        ("### Results", "### Results\n| rhymes | 3 |", "evaluation"),
        ("Use the code below", "```\nrhyme()\n```\nUse the code below", "how_to_use"),
        ("**BibTeX:**", "@article{a,", "citation"),
        ("**APA:**", "Dane, 2024", "citation"),
    ],
)
def test_each_item_that_is_filled_in_adds_its_share(old, new, item):
    shape = card_shape(TEMPLATE.replace(old, new))
    assert shape.present == (item,)
    assert shape.completeness == pytest.approx(1 / 13)


def test_a_card_that_says_everything_is_complete():
    text = """---
license: mit
language: [da]
base_model: a/b
datasets: [a/b]
pipeline_tag: text-generation
library_name: transformers
---
A model that writes Danish verse.
## Intended uses & limitations
To rhyme; rudely.
## Training data
Verse.
## Benchmarks
3
## Usage
rhyme()
## Citation
Dane, 2024
"""
    shape = card_shape(text)
    assert (shape.completeness, shape.present) == (1.0, CARD_ITEMS)


def test_headings_in_code_and_comments_are_no_sections():
    shape = card_shape("# A\n```python\n# Usage\nx\n```\n<!--\n# Usage\nx\n-->\n#hash\n~~~\n# B\n")
    assert shape.sections == 1
    assert "how_to_use" not in shape.present


def test_headings_have_one_to_six_marks_and_a_space():
    assert card_shape("# A\n###### B\n#\n#\tC").sections == 4
    assert card_shape("####### A\n#A\n # A").sections == 0


def test_text_of_the_next_section_does_not_fill_an_empty_one():
    assert card_shape("## Uses\n## Other\nText.").present == ()
    assert card_shape("## Uses\n### For verse\nText.").present == ("intended_use",)
    assert card_shape("## Uses\n### For verse\n## Other\nText.").present == ()


def test_data_to_test_on_is_no_training_data():
    assert card_shape("## Test datasets\nVerse.").present == ()
    assert card_shape("## Evaluation dataset\nVerse.").present == ("evaluation",)


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("It writes Danish verse today.", True),
        ("It writes Danish verse.", False),
        ("# Title\nIt writes Danish verse today.", True),
        ("## News\nIt writes Danish verse today.", False),
        ("![it writes Danish verse every day](x.png)", False),
        ("# A\n## B\nIt writes Danish verse today.", False),
        ("It writes Danish verse today.\n# Title", True),
    ],
)
def test_an_opening_sentence_describes_a_model(text, described):
    assert ("description" in card_shape(text).present) is described


def test_characters_are_those_of_the_text_after_the_metadata():
    assert card_shape("---\nlicense: mit\n---\n\nHej 語\n").characters == 5
    assert card_shape("").characters == 0


def test_a_card_that_was_read_already_is_not_read_again():
    text = "---\nlicense: mit\n---\n## Usage\nx"
    assert card_shape("", read_card(text)) == card_shape(text)


@given(st.text(alphabet=st.sampled_from("#`~<>!-@{}[]: \n*aéUse\ud800"), max_size=200))
def test_no_card_makes_the_shape_fail(text):
    shape = card_shape(text)
    assert 0 <= shape.completeness <= 1
    assert shape.completeness == pytest.approx(len(shape.present) / 13)
    assert shape.sections <= text.count("#")


@pytest.mark.parametrize(
    "text",
    ["# risk\n" * 150_000, "# risk\n## risk\n### risk\n" * 40_000, "<!--" * 250_000,
     "```\n~~~\n" * 120_000, "@a{\n" * 250_000, "#" * 1_000_000, "# " + "a " * 500_000,
     "x: more information needed\n" * 38_000],
    ids=range(8),
)  # fmt: skip
def test_hostile_cards_cost_little_time(text):
    started = time.process_time()
    card_shape(text)
    assert time.process_time() - started < 5


# Read by eye: the items that each card fills.
GOLDEN_CARDS = {
    "SOLAR-10.7B-Instruct-v1.0-uncensored": "licence",
    "Hexoteric-7B": "licence description",
    "WizardLM-1.0-Uncensored-CodeLlama-34B": "licence language datasets description",
    "loyal-piano-m7": "licence language datasets description",
    "Mythical-Destroyer-L2-13B": "licence language description evaluation",
    "Airolima-Chronos-Grad-L2-13B": ("language task library description limitations how_to_use"),
}


def test_real_cards_have_the_shape_that_a_reader_sees(shared_data: Path):
    shapes = {}
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is not None and member.name.endswith("README.md"):
                text = opened.read().decode("utf-8", "replace")
                shapes[member.name.split("/")[-2]] = card_shape(text)
    assert len(shapes) == 372
    read = {name: " ".join(shapes[name].present) for name in GOLDEN_CARDS}
    assert read == GOLDEN_CARDS


def test_quantisation_of_a_configuration_is_bounded():
    groups = {str(i): {"weights": {"num_bits": 4}} for i in range(10_000)}
    assert quantisation_of({"quantization_config": {"config_groups": groups}}) == "4bit"
    long = {"quant_method": "m" * 9_000, "quant_algo": "a" * 9_000}
    assert len(quantisation_of({"quantization_config": long}) or "") == 129
