"""The command behave: characters out of tokens, runners, results that outlast a kill, the study."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from crawler.hub_server import running_hub
from lineage.cli import main
from lineage.errors import HerdbookError, NotFoundError, UsageError
from lineage.model import Edge, Grade, Kind, Verdict
from lineage.pipeline.behaviour import behave as stage
from lineage.pipeline.behaviour.alleles import (
    Alleles,
    BehaviourSettings,
    Vocabulary,
    drawn,
    next_characters,
)
from lineage.pipeline.behaviour.behave import BehaveOptions, behave, plan_behave
from lineage.pipeline.behaviour.endpoint import Endpoint, complete
from lineage.pipeline.behaviour.models import EndpointRunner, transformers_runner
from lineage.pipeline.behaviour.prompts import PromptSet, own_prompts, read_prompts
from lineage.pipeline.behaviour.results import (
    BehaviourKey,
    BehaviourResult,
    load_result,
    save_result,
)
from lineage.pipeline.behaviour.staging import UnsuitableError, require_suitable
from lineage.pipeline.behaviour.staging import stage as make_folder
from lineage.pipeline.behaviour.study import Observed, Register, study
from lineage.pipeline.located import ModelReader, locate_folder
from lineage.pipeline.publish import publish
from lineage.store.estimates import TraitValue
from lineage.store.home import Home
from registers import found, make_home

FEW = PromptSet(("The capital of France is", "def main():\n", "12 + 29 =", '"name":'), "for tests")
FAMILY = (
    "lanternworks/Wick-270k",
    "osier-ml/Wick-270k-sharded",
    "lanternworks/Wick-270k-Instruct",
    "saltmarsh/samphire-gpt2",
)


# ---- characters out of tokens ----------------------------------------------------------------

TOKENS = [
    b"<end>",
    b"a",
    b"b",
    b" ",
    b"ab",
    b" a",
    "é".encode(),
    b"\xc3",
    b"\xa9",
    b"b\xc3",
    b"\xe4",
]


def toy_vocabulary() -> Vocabulary:
    def decode(ids):
        return b"".join(TOKENS[i] for i in ids).decode("utf-8", "replace")

    n = len(TOKENS) + 1  # one row more than tokens
    ends, void = np.arange(n) == 0, np.arange(n) == n - 1
    return Vocabulary([*(decode((i,)) for i in range(len(TOKENS))), ""], ends, void, decode)


def toy_model(seed):
    """A distribution that depends on the last two tokens."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(len(TOKENS) + 1, 0.3), size=(13, 13))

    def distribution(ids):
        tail = (0, 0, *ids)[-2:]
        return table[tail[0], tail[1]]

    def probabilities(sequences):
        for place in reversed(range(len(sequences))):  # in any order
            yield place, distribution(sequences[place])

    return distribution, probabilities


def naive_alleles(distribution, prompt, characters):
    """Every sequence of tokens, to the end."""
    shares = defaultdict(float)

    def follow(ids, mass):
        if mass < 1e-5:
            return
        for token, p in enumerate(distribution(prompt + ids)):
            if token == len(TOKENS):
                continue
            text = b"".join(TOKENS[i] for i in ids).decode("utf-8", "replace")
            if token == 0:
                shares[text[:characters]] += mass * p
                continue
            longer = b"".join(TOKENS[i] for i in (*ids, token))
            try:
                whole = longer.decode()
            except UnicodeDecodeError as error:
                # broken for good where not just the end is missing
                if error.reason != "unexpected end of data":
                    continue
                whole = longer[: error.start].decode()
            if len(whole) >= characters:
                shares[whole[:characters]] += mass * p
            else:
                follow((*ids, token), mass * p)

    follow((), 1.0)
    return {text: share for text, share in shares.items() if "\ufffd" not in text}


@pytest.mark.parametrize("characters", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_frequencies_are_the_sums_over_all_token_sequences(seed, characters):
    distribution, probabilities = toy_model(seed)
    prompts = [(1,), (2, 3), (4, 4)]
    found = next_characters(prompts, probabilities, toy_vocabulary(), characters)
    for prompt, alleles in zip(prompts, found, strict=True):
        wanted = naive_alleles(distribution, prompt, characters)
        assert 0 < sum(alleles.frequencies.values()) <= 1 + 1e-9
        for text, share in alleles.frequencies.items():
            if "\ufffd" not in text:
                # what is rarer than .001 on the way is not followed
                assert wanted[text] - 0.05 <= share <= wanted[text] + 1e-9
        likeliest = max(wanted, key=wanted.get)
        assert alleles.frequencies[likeliest] == pytest.approx(wanted[likeliest], abs=0.02)


def test_characters_of_several_tokens_and_of_parts_of_characters_are_put_together():
    def probabilities(sequences):
        following = {(1,): 7, (1, 7): 8, (1, 7, 8): 0}  # \xc3, \xa9, the end
        for place, ids in enumerate(sequences):
            p = np.zeros(len(TOKENS) + 1)
            p[following[ids]] = 1.0
            yield place, p

    (found,) = next_characters([(1,)], probabilities, toy_vocabulary(), 2)
    assert found.frequencies == {"é": 1.0}
    assert found.unresolved == 0.0


def test_numbers_beyond_the_vocabulary_count_as_unresolved():
    def probabilities(sequences):
        for place, _ in enumerate(sequences):
            p = np.zeros(len(TOKENS) + 1)
            p[4], p[-1] = 0.75, 0.25
            yield place, p

    (found,) = next_characters([(1,)], probabilities, toy_vocabulary(), 2)
    assert found.frequencies == {"ab": 0.75}
    assert found.unresolved == 0.25


def test_draws_repeat_under_one_seed_and_follow_the_frequencies():
    alleles = Alleles({"x": 0.6, "y": 0.2})
    one = drawn(alleles, 4000, np.random.default_rng(1))
    assert one == drawn(alleles, 4000, np.random.default_rng(1))
    assert one != drawn(alleles, 4000, np.random.default_rng(2))
    assert one.frequencies["x"] == pytest.approx(0.75, abs=0.03)
    assert sum(one.frequencies.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "wrong",
    [{"characters": 0}, {"characters": 99}, {"temperature": -1.0}, {"temperature": math.nan},
     {"samples": 1}, {"seed": -1}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        BehaviourSettings(**wrong)


# ---- prompts ---------------------------------------------------------------------------------


def test_our_prompts_are_fixed():
    # Changed prompts are another set: results of the two must not mix, so this digest is a promise.
    prompts = own_prompts()
    assert len(set(prompts.prompts)) == 128
    assert prompts.digest == "083c7896739d0b2b47001fd4a2f71ff9082e4997c4219a232ee1324849b196a5"
    assert all(text == text.rstrip() for text in prompts.prompts)
    assert "before any model was run" in prompts.chosen


def test_prompts_of_a_file_are_its_lines(tmp_path):
    file = tmp_path / "own.txt"
    file.write_bytes("one\r\n\n  \ntwo\\nlines\nthrée\n".encode())
    prompts = read_prompts(file)
    assert prompts.prompts == ("one", "two\nlines", "thrée")
    assert "own.txt" in prompts.chosen
    assert prompts.digest != own_prompts().digest


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\n", "0 prompts"), (b"a\nb\na\n", "twice"), (b"\xff\xfe", "UTF-8"), (b"x" * 5000, "5000")],
)
def test_a_file_that_is_no_list_of_prompts_is_refused(tmp_path, data, words):
    file = tmp_path / "own.txt"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read_prompts(file)


def test_no_file_of_prompts(tmp_path):
    with pytest.raises(NotFoundError, match="no prompts"):
        read_prompts(tmp_path / "none.txt")


# ---- results ---------------------------------------------------------------------------------

KEY = BehaviourKey("a/b", "0" * 40, "transformers", FEW.digest, BehaviourSettings())
RESULT = BehaviourResult((Alleles({"é\n": 0.25, "": 0.5}), Alleles({})), {"torch": "2"}, 1.5)


def test_a_result_comes_back_as_it_was(tmp_path):
    save_result(tmp_path / "new", KEY, RESULT)
    assert load_result(tmp_path / "new", KEY, 2) == RESULT
    assert load_result(tmp_path / "new", KEY, 3) is None
    assert [file.name for file in (tmp_path / "new").iterdir()] == [KEY.file_name]


@pytest.mark.parametrize(
    "other",
    [
        BehaviourKey("a/c", "0" * 40, "transformers", FEW.digest, BehaviourSettings()),
        BehaviourKey("a/b", "1" * 40, "transformers", FEW.digest, BehaviourSettings()),
        BehaviourKey("a/b", "0" * 40, "endpoint", FEW.digest, BehaviourSettings()),
        BehaviourKey("a/b", "0" * 40, "transformers", "other", BehaviourSettings()),
        BehaviourKey("a/b", "0" * 40, "transformers", FEW.digest, BehaviourSettings(3)),
        BehaviourKey("a/b", "0" * 40, "transformers", FEW.digest, BehaviourSettings(seed=1)),
    ],
)
def test_whatever_a_result_depends_on_parts_the_files(tmp_path, other):
    save_result(tmp_path, KEY, RESULT)
    assert other.file_name != KEY.file_name
    assert load_result(tmp_path, other, 2) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 1}'])
def test_a_damaged_result_is_no_result(tmp_path, damage):
    save_result(tmp_path, KEY, RESULT)
    (tmp_path / KEY.file_name).write_bytes(damage)
    assert load_result(tmp_path, KEY, 2) is None


def test_frequencies_that_are_none_are_a_damaged_result(tmp_path):
    save_result(tmp_path, KEY, RESULT)
    file = tmp_path / KEY.file_name
    file.write_text(file.read_text().replace("0.25", "2.5"))
    assert load_result(tmp_path, KEY, 2) is None


def test_a_result_that_is_cut_short_leaves_nothing(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        save_result(tmp_path, KEY, RESULT)
    assert list(tmp_path.iterdir()) == []


def test_names_of_models_cannot_leave_the_folder():
    key = BehaviourKey("../../etc/pass\x00wd", "", "endpoint", "", BehaviourSettings())
    assert "/" not in key.file_name
    assert not key.file_name.startswith(".")


# ---- what transformers gets to see ------------------------------------------------------------


def copied(pocket: Path, tmp_path: Path, model: str = "lanternworks/Wick-270k") -> Path:
    folder = tmp_path / "hub" / model
    shutil.copytree(pocket / model, folder)
    return folder


def changed(folder: Path, name: str, **fields) -> None:
    stated = json.loads((folder / name).read_text())
    stated.update(fields)
    (folder / name).write_text(json.dumps(stated))


def staged(folder: Path, tmp_path: Path) -> tuple[Path, int]:
    made = tmp_path / "staged"
    made.mkdir()
    with ModelReader(locate_folder(folder)) as reader:
        require_suitable(reader)
        make_folder(reader, made)
        return made, sum(math.prod(tensor.shape) for tensor in reader.headers.tensors)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("kestrel-nlp/wick-licence-lora-r4", "an adapter alone"),
        ("kestrel-nlp/wick-cpp-int8", "quantised"),
        ("gguf-pantry/wick-python-Q8_0-GGUF", "no config.json"),
    ],
)
def test_models_that_are_not_run_say_why(pocket, model, words):
    with (
        ModelReader(locate_folder(pocket / model)) as reader,
        pytest.raises(UnsuitableError, match=words),
    ):
        require_suitable(reader)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM is no causal"),
        ({"architectures": ["ViTForImageClassification"]}, "is no causal"),
        ({"architectures": ["MyOwnForCausalLM"], "auto_map": {"AutoModel": "evil.py"}}, "MyOwn"),
        ({"architectures": None}, "unnamed architecture"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"text_config": {"n_layer": 10**6}}, "n_layer"),
    ],
)
def test_configurations_that_are_not_run_say_why(pocket, tmp_path, fields, words):
    folder = copied(pocket, tmp_path)
    changed(folder, "config.json", **fields)
    with (
        ModelReader(locate_folder(folder)) as reader,
        pytest.raises(UnsuitableError, match=words),
    ):
        require_suitable(reader)


def test_pickles_and_missing_tokenizers_are_not_run(pocket, tmp_path):
    folder = copied(pocket, tmp_path)
    (folder / "tokenizer.json").unlink()
    with (
        ModelReader(locate_folder(folder)) as reader,
        pytest.raises(UnsuitableError, match="token"),
    ):
        require_suitable(reader)
    shutil.copy(pocket / "lanternworks/Wick-270k/tokenizer.json", folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with ModelReader(locate_folder(folder)) as reader, pytest.raises(UnsuitableError, match="only"):
        require_suitable(reader)


def test_the_staged_folder_names_no_code_and_no_other_file(pocket, tmp_path):
    folder = copied(pocket, tmp_path)
    changed(folder, "config.json", auto_map={"AutoConfig": "evil.Config"}, _name_or_path="../..")
    changed(
        folder, "tokenizer_config.json", auto_map={"AutoTokenizer": "evil.Tok"},
        vocab_file="/etc/passwd", chat_template="{{ evil }}",
    )  # fmt: skip
    (folder / "evil.py").write_text("raise SystemExit('run')")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    made, _ = staged(folder, tmp_path)
    assert {file.name for file in made.iterdir()} == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "shard-00000.safetensors",
        "model.safetensors.index.json",
    }  # fmt: skip
    for name in ("config.json", "tokenizer_config.json"):
        words = (made / name).read_text()
        assert not any(word in words for word in ("evil", "passwd", "_name_or_path"))


# ---- transformers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wick(pocket, tmp_path_factory):
    folder, n_stored = staged(pocket / "lanternworks/Wick-270k", tmp_path_factory.mktemp("wick"))
    with transformers_runner(folder, "cpu", n_stored) as runner:
        yield runner, folder


def test_first_characters_are_the_sums_of_the_models_own_probabilities(wick):
    import torch
    import transformers

    runner, folder = wick
    found = runner.alleles(FEW.prompts, BehaviourSettings(characters=1, temperature=0.7))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for prompt, alleles in zip(FEW.prompts, found, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            p = torch.softmax(model(input_ids=ids).logits[0, -1].double() / 0.7, -1).numpy()
        wanted = defaultdict(float)
        for token, share in enumerate(p):
            special = token in tokenizer.all_special_ids
            wanted["" if special else tokenizer.decode([token])[:1]] += share
        for text, share in alleles.frequencies.items():
            if text and text.isascii():  # others are put together from several tokens
                assert share == pytest.approx(wanted[text], abs=1e-5)
        assert max(alleles.frequencies, key=alleles.frequencies.get) == max(wanted, key=wanted.get)


def test_at_temperature_zero_the_greedy_continuation_is_all(wick):
    import torch
    import transformers

    runner, folder = wick
    found = runner.alleles(FEW.prompts, BehaviourSettings(characters=4, temperature=0.0))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for prompt, alleles in zip(FEW.prompts, found, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        n = ids.shape[1]
        with torch.inference_mode():
            for _ in range(6):
                ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
        assert alleles.frequencies == {tokenizer.decode(ids[0, n:])[:4]: 1.0}


def test_draws_here_repeat_under_one_seed(wick):
    runner, _ = wick
    one, again, other = (
        runner.alleles(FEW.prompts, BehaviourSettings(samples=16, seed=seed)) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    for alleles in one:
        assert all(float(16 * share).is_integer() for share in alleles.frequencies.values())


def test_a_prompt_longer_than_the_model_reads_is_cut_at_its_beginning(wick):
    runner, _ = wick
    (long,) = runner.alleles(["word " * 500 + "The capital of"], BehaviourSettings())
    assert long.frequencies


def test_the_end_that_a_tokenizer_adds_to_a_prompt_is_taken_off(wick, monkeypatch):
    runner, _ = wick
    wanted = runner.alleles(FEW.prompts, BehaviourSettings(characters=1))
    real = runner._tokenizer

    class Closing:
        def __call__(self, text):
            return {"input_ids": [*real(text)["input_ids"], real.eos_token_id]}

    monkeypatch.setattr(runner, "_tokenizer", Closing())
    assert runner.alleles(FEW.prompts, BehaviourSettings(characters=1)) == wanted


def test_missing_weights_are_refused_not_made_up(pocket, tmp_path):
    folder = copied(pocket, tmp_path)
    changed(folder, "config.json", num_hidden_layers=7)
    made, n_stored = staged(folder, tmp_path)
    with (
        pytest.raises(HerdbookError, match="tensors are missing"),
        transformers_runner(made, "cpu", n_stored),
    ):
        pass


def test_a_configuration_that_asks_for_more_than_is_stored_is_refused(pocket, tmp_path):
    folder = copied(pocket, tmp_path)
    changed(folder, "config.json", vocab_size=10**10)
    made, n_stored = staged(folder, tmp_path)
    with (
        pytest.raises(HerdbookError, match="its files hold"),
        transformers_runner(made, "cpu", n_stored),
    ):
        pass


# ---- a whole run -----------------------------------------------------------------------------


def options(pocket: Path, **more) -> BehaveOptions:
    usual = {"prompts": FEW, "models": pocket, "device": "cpu", "n_resamples": 5}
    return BehaveOptions(**usual | {"settings": BehaviourSettings(characters=1)} | more)


def test_a_killed_run_loses_the_model_it_was_at_and_no_other(pocket, tmp_path, monkeypatch):
    home, ran = Home(tmp_path / "home"), []
    real = stage.transformers_runner

    def counting(folder, device, n_stored):
        ran.append(folder)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return real(folder, device, n_stored)

    monkeypatch.setattr(stage, "transformers_runner", counting)
    with pytest.raises(KeyboardInterrupt):
        behave(home, FAMILY, options(pocket))
    assert len(list((home.root / "behaviour").iterdir())) == 2
    plan = plan_behave(home, FAMILY, options(pocket))
    assert (plan.n_kept, plan.n_todo, plan.models) == (2, 2, FAMILY[2:])
    report = behave(home, FAMILY, options(pocket))
    assert [row.outcome for row in report.models] == ["kept", "kept", "run", "run"]
    assert len(ran) == 5
    again = behave(home, FAMILY, options(pocket))
    assert {row.outcome for row in again.models} == {"kept"}
    assert again.study == report.study
    assert "no lineage to compare with" in report.study.note
    # an equal copy behaves equally
    identity = np.array(report.study.identity)
    assert identity[0, 1] == pytest.approx(1.0, abs=1e-9)
    assert identity[0, 2] > identity[0, 3]
    other = options(pocket, settings=BehaviourSettings(characters=2))
    assert plan_behave(home, FAMILY, other).n_kept == 0


def runs_of(home):
    with home.open_working() as connection:
        return connection.execute(
            "SELECT stage, finished_at IS NOT NULL, parameters ->> 'characters',"
            " parameters ->> 'samples', inputs ->> 'models', inputs ->> 'prompts' FROM run"
            " WHERE stage = 'behave' ORDER BY run_id"
        ).fetchall()


def test_runs_are_recorded_and_one_that_failed_has_no_end(pocket, tmp_path, monkeypatch):
    home = make_home(tmp_path / "home", [found(name) for name in FAMILY])
    behave(home, FAMILY[:2], options(pocket))
    (recorded,) = runs_of(home)
    assert recorded == ("behave", True, "1", None, "2", FEW.digest)

    def failing(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "transformers_runner", failing)
    with pytest.raises(KeyboardInterrupt):
        behave(home, FAMILY, options(pocket))
    assert [run[1:2] + run[4:5] for run in runs_of(home)] == [(True, "2"), (False, "4")]


def test_without_a_register_no_run_is_recorded_and_none_is_made(pocket, tmp_path):
    home = Home(tmp_path / "home")
    behave(home, FAMILY[:1], options(pocket))
    assert not home.database.exists()


def test_an_endpoint_is_recorded_without_its_secrets(pocket, tmp_path, server):
    server.answer = lambda asked, _: completion(*[" a"] * asked["n"])
    home = make_home(tmp_path / "home", [found(FAMILY[0])])
    asked = Endpoint(server.url.replace("//", "//me:word@") + "?token=hidden", "closed-1", None)
    behave(home, FAMILY[:1], options(pocket, endpoint=asked))
    with home.open_working() as connection:
        ((parameters,),) = connection.execute(
            "SELECT parameters FROM run WHERE stage = 'behave'"
        ).fetchall()
    assert json.loads(parameters)["endpoint"].startswith("http://127.0.0.1")
    assert "word" not in parameters
    assert "hidden" not in parameters


def test_a_changed_folder_is_run_again(pocket, tmp_path):
    home = Home(tmp_path / "home")
    folder = copied(pocket, tmp_path)
    assert plan_behave(home, [str(folder)], options(pocket)).models == ("lanternworks/Wick-270k",)
    behave(home, [str(folder)], options(pocket))
    assert plan_behave(home, [str(folder)], options(pocket)).n_kept == 1
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert plan_behave(home, [str(folder)], options(pocket)).n_kept == 0


def test_one_bad_model_never_stops_a_run(pocket, tmp_path, capsys):
    folder = copied(pocket, tmp_path)
    changed(folder, "config.json", hidden_size="wide\x1b[2J")
    names = [str(folder), "kestrel-nlp/wick-licence-lora-r4", *FAMILY[1:]]
    report = behave(Home(tmp_path / "home"), names, options(pocket))
    assert [row.outcome for row in report.models] == ["skipped", "skipped", "run", "run", "run"]
    assert all(row.reason for row in report.models[:2])
    assert report.study.newick is not None
    err = capsys.readouterr().err
    assert "passed over lanternworks/Wick-270k" in err
    assert "\x1b" not in err + report.models[0].reason


def test_nothing_that_could_be_run_is_an_error_that_says_why(pocket, tmp_path):
    with pytest.raises(HerdbookError, match="an adapter alone"):
        behave(Home(tmp_path), ["kestrel-nlp/wick-licence-lora-r4"], options(pocket))


def test_names_of_the_register_reach_no_folder_but_those_given(pocket, tmp_path, monkeypatch):
    home = make_home(tmp_path / "home", [found("lanternworks/Wick-270k")])
    monkeypatch.chdir(pocket)

    def asked(*_, **__):
        raise NotFoundError("the Hub was asked")

    monkeypatch.setattr(stage, "locate_on_hub", asked)
    with pytest.raises(HerdbookError, match="the Hub was asked"):
        behave(home, [], options(tmp_path))
    assert behave(home, ["lanternworks/Wick-270k"], options(tmp_path)).models[0].outcome == "run"


def test_models_of_a_hub_are_downloaded_run_and_known_by_their_commit(pocket, tmp_path):
    name = "osier-ml/Wick-270k-sharded"
    home = Home(tmp_path / "home")
    with running_hub(pocket) as hub:
        wanted = options(tmp_path, hub=hub, use_cache=False)
        (row,) = behave(home, [name], wanted).models
        assert plan_behave(home, [name], wanted).n_kept == 1
    assert row.outcome == "run"
    commit = json.loads((pocket / "hub.json").read_text())["models"][name]["revision"]
    assert row.revision == commit
    local = behave(Home(tmp_path / "other"), [name], options(pocket))
    assert local.models[0].unresolved == row.unresolved


def test_a_download_that_is_not_what_the_hub_states_is_not_run(pocket, tmp_path, monkeypatch):
    real = ModelReader.read

    def altered(self, path, start, stop):
        data = real(self, path, start, stop)
        # the header is left whole, and one bit of what follows is not
        is_large = path.endswith(".safetensors") and stop - start > 100_000
        return data[:-1] + bytes([data[-1] ^ 1]) if is_large else data

    monkeypatch.setattr(ModelReader, "read", altered)
    with running_hub(pocket) as hub, pytest.raises(HerdbookError, match="SHA-256"):
        behave(
            Home(tmp_path), ["lanternworks/Wick-270k"],
            options(tmp_path, hub=hub, use_cache=False),
        )  # fmt: skip


def test_a_limit_bounds_what_is_run_and_the_rest_waits(pocket, tmp_path):
    report = behave(Home(tmp_path), FAMILY[:2], options(pocket, limit=1))
    assert [row.outcome for row in report.models] == ["run", "waiting"]
    assert "no tree: 1 models" in report.study.note


def test_names_that_are_nothing_are_told(pocket, tmp_path):
    with pytest.raises(NotFoundError, match="neither a folder nor"):
        behave(Home(tmp_path), ["no where"], options(pocket))
    with pytest.raises(NotFoundError, match="herdbook crawl"):
        behave(Home(tmp_path), [], options(pocket))


# ---- the study -------------------------------------------------------------------------------


def observed(seed: int, names: str, mother: Observed | None = None) -> dict[str, Observed]:
    """Models of one family: mixtures of its mother's frequencies with their own."""
    rng = np.random.default_rng(seed)
    base = rng.dirichlet(np.full(5, 0.4), size=30)
    return {
        name: Observed(
            [
                Alleles({"vwxyz"[i]: float(p) for i, p in enumerate(0.8 * row + 0.2 * own)})
                for row, own in zip(base, rng.dirichlet(np.ones(5), size=30), strict=True)
            ],
            None,
        )
        for name in names
    }


def edge(child: str, parent: str, kind: Kind = Kind.FINETUNE) -> Edge:
    return Edge(
        child, parent, "finetune", kind, 1.0, Verdict.UNDECLARED, Grade.INFERRED, None, None, ()
    )


def test_families_are_told_apart_and_scores_of_families_predicted_from_others():
    models = observed(1, "abcd") | observed(2, "efgh") | observed(3, "ijkl")
    edges = tuple(edge(child, family[0]) for family in ("abcd", "efgh", "ijkl")
                  for child in family[1:])  # fmt: skip
    traits = tuple(TraitValue(name, "loss", float(i)) for i, name in enumerate(models))
    found_out = study(models, Register(edges, traits), n_resamples=20, seed=0)
    assert found_out.n_trees == 20
    assert found_out.comparison is not None
    assert found_out.comparison.kinship.value == 1.0
    assert found_out.comparison.recovered.value == 1.0
    assert [unit for unit, _ in found_out.comparison.cophenetic] == [
        "edges", "relative change of weights"
    ]  # fmt: skip
    ((trait, estimate),) = found_out.predictions
    assert (trait, estimate.n, estimate.n_clusters) == ("loss", 12, 3)
    assert found_out.note == ""


def test_models_that_said_nothing_are_left_out():
    models = observed(1, "abc") | {"mute": Observed([Alleles({})] * 30, None)}
    assert study(models, None, n_resamples=2, seed=0).models == ("a", "b", "c")
    nobody = study({"mute": models["mute"]}, None, n_resamples=2, seed=0)
    assert nobody.note == "no model said anything"


def test_models_without_a_common_allele_have_no_tree_and_it_says_so():
    models = observed(1, "ab") | {"odd": Observed([Alleles({"odd": 1.0})] * 30, None)}
    found_out = study(models, None, n_resamples=2, seed=0)
    assert found_out.newick is None
    assert "distance of a and odd is inf" in found_out.note


# ---- endpoints -------------------------------------------------------------------------------


class Fake(BaseHTTPRequestHandler):
    """An endpoint whose answers are a function of what is asked."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), asked))
        status, body, headers = self.server.answer(asked, len(self.server.asked))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def server():
    fake = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    fake.asked = []
    fake.url = f"http://127.0.0.1:{fake.server_port}/v1"
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    fake.shutdown()
    thread.join()
    fake.server_close()


def completion(*texts):
    return 200, json.dumps({"choices": [{"text": text} for text in texts]}).encode(), {}


async def no_sleep(_):
    """Waits nothing."""


def test_an_endpoints_continuations_are_drawn_and_counted(server):
    server.answer = lambda asked, _: completion(*(["Paris"] * (asked["n"] - 1) + [" Lyon"]))
    runner = EndpointRunner(Endpoint(server.url, "closed-1", "secret"))
    found = runner.alleles(FEW.prompts[:2], BehaviourSettings(samples=20, seed=3))
    # 16 and 4 are asked for: of each one is Lyon
    assert found[0].frequencies == {"Pa": 0.9, " L": 0.1}
    paths, keys, asked = zip(*server.asked, strict=True)
    assert set(paths) == {"/v1/completions"}
    assert set(keys) == {"Bearer secret"}
    assert sorted(one["n"] for one in asked) == [4, 4, 16, 16]
    assert len({one["seed"] for one in asked}) == 4
    assert {one["model"] for one in asked} == {"closed-1"}
    assert {one["max_tokens"] for one in asked} == {8}
    assert "secret" not in repr(Endpoint(server.url, "closed-1", "secret"))


def test_an_endpoint_that_gives_one_choice_at_a_time_is_asked_again(server):
    server.answer = lambda asked, _: completion("x" if asked["seed"] % 2 else "y")
    runner = EndpointRunner(Endpoint(server.url, "m"))
    (found_one,) = runner.alleles(["p"], BehaviourSettings(samples=6))
    assert sum(found_one.frequencies.values()) == pytest.approx(1.0)
    assert len(server.asked) == 6


def test_at_temperature_zero_one_continuation_is_asked_for(server):
    server.answer = lambda asked, _: completion("Paris")
    runner = EndpointRunner(Endpoint(server.url, "m"))
    (found_one,) = runner.alleles(["p"], BehaviourSettings(temperature=0.0))
    assert found_one.frequencies == {"Pa": 1.0}
    assert len(server.asked) == 1


def test_a_busy_endpoint_is_asked_again_after_the_wait_it_states(server):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    def answer(asked, n):
        return completion("x") if n > 2 else (429, b"slow down", {"Retry-After": "7"})

    server.answer = answer
    found_texts = complete(Endpoint(server.url, "m", sleep=sleep), ["p"], 1, BehaviourSettings())
    assert found_texts == [["x"]]
    assert waits == [7.0, 14.0]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"error": {"message": "bad key"}}', "401 bad key.*HERDBOOK_COMPLETIONS_KEY"),
        (404, b'{"error": "no such model"}', "404 no such model.*v1/completions"),
        (302, b"", "refuses: 302"),
        (200, b"<html>", "no completion"),
        (200, b'{"choices": []}', "without a text"),
        (200, b'{"choices": [{"text": 5}]}', "without a text"),
    ],
)
def test_a_refusal_is_told_and_not_asked_again(server, status, body, words):
    server.answer = lambda asked, n: (status, body, {"Location": "http://127.0.0.1:9/"})
    with pytest.raises(HerdbookError, match=words):
        complete(Endpoint(server.url, "m", sleep=no_sleep), ["p"], 1, BehaviourSettings())
    assert len(server.asked) == 1


def test_an_endpoint_that_stays_broken_is_given_up(server):
    server.answer = lambda asked, n: (503, b"down", {})
    with pytest.raises(HerdbookError, match="after 6 tries: 503 down"):
        complete(Endpoint(server.url, "m", sleep=no_sleep), ["p"], 1, BehaviourSettings())
    assert len(server.asked) == 6


def test_nobody_there_is_told_in_a_sentence():
    with pytest.raises(HerdbookError, match="does not answer"):
        complete(Endpoint("http://127.0.0.1:9", "m", sleep=no_sleep), ["p"], 1, BehaviourSettings())


@pytest.mark.parametrize("url", ["ftp://x/v1", "nonsense", "http://"])
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(UsageError, match="no address"):
        Endpoint(url, "m")


def test_a_key_is_not_sent_unencrypted():
    with pytest.raises(UsageError, match="unencrypted"):
        Endpoint("http://models.example/v1", "m", "secret")
    assert Endpoint("https://u:p@models.example/v1?k=1", "m", "s").shown == (
        "https://models.example/v1"
    )


@pytest.mark.parametrize("base", ["/v1", "/v1/", "", "/v1/completions"])
def test_the_address_may_be_given_with_or_without_its_end(base):
    assert Endpoint(f"http://127.0.0.1:1{base}", "m").completions == (
        "http://127.0.0.1:1/v1/completions"
    )


def test_draws_must_be_said_for_an_endpoint():
    with pytest.raises(UsageError, match="--samples"):
        EndpointRunner(Endpoint("http://127.0.0.1:9", "m")).alleles(["p"], BehaviourSettings())


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def prompt_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(text.replace("\n", "\\n") for text in FEW.prompts))
    return str(file)


def test_the_command_prints_models_tree_and_comparison(
    pocket, tmp_path, capsys, server, prompt_file
):
    server.answer = lambda asked, _: completion(*([" a", " the", " 41", " {"] * 4)[: asked["n"]])
    home = make_home(
        tmp_path / "home",
        [
            found(FAMILY[0]), found(FAMILY[1], FAMILY[0], kind=Kind.DUPLICATE),
            found(FAMILY[2], FAMILY[0]), found(FAMILY[3]),
        ],
    )  # fmt: skip
    publish(home)
    words = ["behave", "--models", str(pocket), "--home", str(home.root), "--prompts", prompt_file,
             "--resamples", "5", "--device", "cpu", "--characters", "1"]  # fmt: skip
    assert main([*words, "--dry-run"]) == 0
    assert "behave: 4 models to run at 4 prompts, 0 kept" in capsys.readouterr().out
    assert not (home.root / "behaviour").exists()
    elsewhere = ["--endpoint", server.url, "--model", "closed-1"]
    newick_file = tmp_path / "tree.nwk"
    assert main([*words, *elsewhere, "--newick", str(newick_file)]) == 0
    out = capsys.readouterr().out
    for said in ("model\trevision", "closed-1", "relatives closer than strangers",
                 "cophenetic correlation, edges: not estimated", "clades recovered"):  # fmt: skip
        assert said in out
    assert newick_file.read_text().count("'") == 10
    assert main([*words, *elsewhere, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["outcome"] for row in report["models"]} == {"kept"}
    assert report["prompts"] == FEW.digest
    assert report["study"]["newick"] + "\n" == newick_file.read_text()
    assert len(report["study"]["identity"]) == 5
    assert report["study"]["comparison"]["kinship"]["n"] == 10


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--endpoint", "http://127.0.0.1:9"], 2),
        (["--model", "x"], 2),
        (["--temperature", "-1"], 2),
        (["--characters", "99"], 2),
        (["--models", "/no/such/folder"], 3),
        (["--prompts", "/no/such/file"], 3),
        ([], 3),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_a_code(tmp_path, capsys, words, code):
    assert main(["behave", *words, "--home", str(tmp_path / "home")]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
