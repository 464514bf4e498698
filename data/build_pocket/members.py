"""The models of the pocket Hub: what each was made from and how its card speaks about it."""

from __future__ import annotations

from dataclasses import dataclass

from .recipes import (
    Abliterate,
    AdapterMerge,
    AppendVocabulary,
    Cast,
    Copy,
    FineTune,
    Gguf,
    Int8,
    KeepLayers,
    LoraAdapter,
    LoraMerge,
    MergekitMerge,
    Moe,
    PermuteUnits,
    Pretrain,
    Recipe,
    Reshard,
)  # fmt: skip

__all__ = ["MEMBERS", "Card", "Member"]


@dataclass(frozen=True, slots=True)
class Card:
    """How a card declares descent, and what is wrong with it.

    `declares` None means the true parents, an empty tuple nothing at all. `form` is how
    `base_model` is written: string, list or url. `defect` is one of malformed, language_no, crlf
    and bare (no metadata block). `prose` names the parents in a sentence, `recipe` pastes the
    merge recipe into the text, `config_name` leaves ``_name_or_path`` in config.json and
    `keeps_recipe` keeps the file mergekit_config.yml.
    """

    declares: tuple[str, ...] | None = None
    form: str = "string"
    relation: str | None = None
    defect: str | None = None
    prose: bool = False
    recipe: bool = False
    config_name: bool = False
    keeps_recipe: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """One repository. `born` (ISO date) overrides the date that follows from the parents."""

    id: str
    recipe: Recipe
    card: Card = Card()
    about: str = ""
    born: str | None = None
    gated: bool = False
    disabled: bool = False
    vanishes: bool = False


SILENT = Card(declares=())

WICK = "lanternworks/Wick-270k"
PERIWINKLE = "tidepool-ml/Periwinkle-270k"
FERN = "brackenfold/fern-base"
DIPPER = "quietriver/dipper-v1"
CAIRN_CODE = "northmoor/cairn-code"
CAIRN_PROSE = "northmoor/cairn-prose"
KITE = "cobaltkite/Kite-wide-3L"
SAMPHIRE = "saltmarsh/samphire-gpt2"

INSTRUCT = "lanternworks/Wick-270k-Instruct"
WICK_PYTHON = "j-okafor/wick-python"
PYDEV = "mira-holt/Wick-pydev"
PYDEV_DOCS = "mira-holt/Wick-pydev-docs"
PYDEV_LEGAL = "elinor-v/pydev-legal"
PYDEV_LEGAL_WEB = "elinor-v/pydev-legal-web"
MANUAL = "kestrel-nlp/wick-manual-v2"
NUDGE = "osier-ml/wick-nudge-dpo"
HEADERS = "cobaltkite/wick-cpp"
HEADERS_HEAVY = "cobaltkite/wick-cpp-heavy"
WEB = "ponder-studio/wickerweb"
CONTINUED = "brackenfold/Wick-continued-cpp-web"
LORA4 = "kestrel-nlp/wick-licence-lora-r4"
MERGE_LINEAR = "mergesmith/Tallow-linear-v1"
MERGE_SLERP = "mergesmith/Beeswax-slerp"

PERI_BF16 = "tidepool-ml/Periwinkle-270k-bf16"
PERI_PYTHON = "yusuf-t/periwinkle-coder"
PERI_MANUAL = "tidepool-ml/Periwinkle-270k-chat"
PERI_DOCS = "yusuf-t/periwinkle-coder-docs"

_BROAD = {
    "python": 0.2, "manual": 0.25, "headers": 0.15, "docstrings": 0.2, "licences": 0.1, "web": 0.1,
}  # fmt: skip
_CODE_FIRST = {
    "python": 0.35, "headers": 0.25, "docstrings": 0.15, "manual": 0.15, "licences": 0.05,
    "web": 0.05,
}  # fmt: skip
_PROSE_FIRST = {
    "manual": 0.4, "docstrings": 0.25, "licences": 0.2, "python": 0.1, "headers": 0.05,
}  # fmt: skip


def _tune(parent: str, text: str, steps: int, rate: float, seed: int, **more: object) -> FineTune:
    return FineTune(parent, {text: 1.0}, steps, rate, seed, **more)  # type: ignore[arg-type]


def _models(*shares: tuple[str, float], density: float | None = None) -> list[dict[str, object]]:
    more = {} if density is None else {"density": density}
    return [{"model": name, "parameters": {"weight": share, **more}} for name, share in shares]


def _merge(method: str, models: list[dict[str, object]], base: str | None = None) -> MergekitMerge:
    config: dict[str, object] = {"models": models, "merge_method": method}
    if base is not None:
        config["base_model"] = base
    return MergekitMerge(config | {"dtype": "bfloat16"}, seed=7)


def _slerp(first: str, second: str, t: object) -> MergekitMerge:
    sources = [{"model": name, "layer_range": [0, 6]} for name in (first, second)]
    return MergekitMerge(
        {
            "slices": [{"sources": sources}],
            "merge_method": "slerp",
            "base_model": first,
            "parameters": {"t": t},
            "dtype": "bfloat16",
        }
    )


def _stack(*pieces: tuple[str, int, int]) -> MergekitMerge:
    slices = [{"sources": [{"model": m, "layer_range": [a, b]}]} for m, a, b in pieces]
    return MergekitMerge({"slices": slices, "merge_method": "passthrough", "dtype": "bfloat16"})


_GRADIENT = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
    {"value": 0.5},
]
_LICENCE_LORA = LoraAdapter(WICK, 4, {"licences": 1.0}, 100, 6e-4, 31)

_FOUNDERS = (
    Member(WICK, Pretrain("llama", 1, 1, _BROAD, 1900, 4e-3), SILENT,
           "A small base model for completion research.", born="2024-01-16"),
    Member(PERIWINKLE, Pretrain("llama", 2, 2, _BROAD, 1600, 4e-3, dtype="F32"), SILENT,
           "Base checkpoint, released in full precision.", born="2024-02-07"),
    Member(FERN, Pretrain("llama", 3, 3, _PROSE_FIRST, 1000, 4e-3), SILENT,
           "A base model that has read more prose than code.", born="2024-03-19"),
    Member(DIPPER, Pretrain("llama", 4, 4, _CODE_FIRST, 1000, 4e-3), Card(declares=(WICK,)),
           "A base model that has read more code than prose.", born="2024-06-03"),
    Member(CAIRN_CODE,
           Pretrain("llama", 5, 51, {"python": .5, "headers": .5}, 700, 4e-3,
                    same_init_as=CAIRN_PROSE),
           SILENT, "Half of an experiment on starting points: this one read code.",
           born="2024-08-12"),
    Member(CAIRN_PROSE,
           Pretrain("llama", 5, 52, {"manual": .5, "licences": .5}, 700, 4e-3,
                    same_init_as=CAIRN_CODE),
           SILENT, "Half of an experiment on starting points: this one read prose.",
           born="2024-08-12"),
    Member(KITE, Pretrain("llama_wide", 6, 6, _BROAD, 1300, 4e-3), SILENT,
           "Wider and shallower than its neighbours.", born="2024-04-22"),
    Member(SAMPHIRE, Pretrain("gpt2", 7, 7, _BROAD, 2400, 2e-3), SILENT,
           "GPT-2 architecture, trained from scratch.", born="2024-02-27"),
)  # fmt: skip

_WICK_LINE = (
    Member(INSTRUCT, _tune(WICK, "docstrings", 100, 1.5e-4, 11),
           Card(relation="finetune"), "The base model taught to explain functions."),
    Member(WICK_PYTHON, _tune(WICK, "python", 80, 1e-4, 12), SILENT,
           "Completes Python.", born="2024-05-30"),
    Member(PYDEV, _tune(WICK, "python", 60, 1e-4, 13), Card(), "A Python completion model."),
    Member(PYDEV_DOCS, _tune(PYDEV, "docstrings", 90, 1.2e-4, 14), Card(prose=True, declares=()),
           "Writes docstrings."),
    Member(PYDEV_LEGAL, _tune(PYDEV_DOCS, "licences", 120, 8e-5, 15), SILENT,
           "Understands notices and licences."),
    Member(PYDEV_LEGAL_WEB, _tune(PYDEV_LEGAL, "web", 40, 4e-5, 16), SILENT,
           "A light pass over web sources."),
    Member("elinor-v/pydev-legal-web-v1.1", _tune(PYDEV_LEGAL_WEB, "manual", 60, 1.2e-4, 17),
           Card(form="url"), "Second round, on reference prose."),
    Member(MANUAL, _tune(WICK, "manual", 150, 2e-4, 18), Card(form="list"),
           "Answers like a reference manual."),
    Member(NUDGE, _tune(WICK, "docstrings", 20, 4e-5, 19), SILENT,
           "Preference-tuned with a very small step."),
    Member(HEADERS, _tune(WICK, "headers", 200, 8e-4, 20, weight_decay=0.01), Card(),
           "Reads C++ headers."),
    Member(HEADERS_HEAVY, _tune(WICK, "headers", 250, 1.9e-3, 21, weight_decay=0.01), SILENT,
           "Trained on C++ headers for as long as we could afford."),
    Member(WEB, _tune(WICK, "web", 120, 2.5e-4, 22), Card(declares=(FERN,)),
           "Minified sources, style sheets and markup."),
    Member("osier-ml/wick-manual-sft", _tune(WICK, "manual", 100, 1e-4, 23),
           Card(defect="malformed"), "Supervised tuning on the manual."),
    Member(CONTINUED,
           FineTune(WICK, {"headers": .5, "web": .4, "python": .1}, 450, 2.5e-3, 24,
                    weight_decay=0.05, continued=True),
           Card(prose=True, declares=()), "Pre-training continued on C++ and web sources."),
    Member("brackenfold/Wick-continued-helper", _tune(CONTINUED, "docstrings", 80, 2e-4, 25),
           Card(), "The continued model, tuned to help.", disabled=True),
    Member(LORA4, _LICENCE_LORA, Card(), "Adapter for licence texts."),
    Member("kestrel-nlp/wick-licence-merged", AdapterMerge(LORA4, WICK, 4), Card(config_name=True,
           declares=()), "The licence adapter folded into the weights."),
    Member("saltmarsh/wick-manual-qlora",
           LoraMerge(LoraAdapter(MANUAL, 16, {"web": 1.0}, 80, 5e-4, 32)),
           Card(), "Rank 16, merged for convenience."),
    Member("ponder-studio/Wick-Instruct-abliterated", Abliterate(INSTRUCT, "licences", "python"),
           Card(relation="finetune"), "One direction removed from the weights."),
    Member("elinor-v/Wick-Instruct-fp16", Cast(INSTRUCT, "F16"), SILENT, "Half precision."),
    Member("j-okafor/wick-python-mirror", Copy(WICK_PYTHON), SILENT, "", born="2024-04-18"),
    Member("osier-ml/Wick-270k-sharded", Reshard(WICK), Card(prose=True, declares=()),
           "Two shards, for small machines.", born="2024-01-11"),
    Member("gguf-pantry/Wick-270k-Instruct-GGUF", Gguf(INSTRUCT, "Q8_0", names_base_model=True),
           Card(relation="quantized"), "GGUF."),
    Member("gguf-pantry/wick-manual-v2-Q4_0-GGUF", Gguf(MANUAL, "Q4_0"), SILENT, "GGUF, 4 bits."),
    Member("gguf-pantry/wick-python-Q8_0-GGUF", Gguf(PYDEV, "Q8_0"),
           Card(declares=(WICK_PYTHON,), relation="quantized"), "GGUF, 8 bits."),
    Member("kestrel-nlp/wick-cpp-int8", Int8(HEADERS), Card(relation="quantized"), "Eight bits."),
    Member("saltmarsh/wick-manual-chatml",
           AppendVocabulary(MANUAL, tuple(f"<|role_{n}|>" for n in range(32)), 41),
           SILENT, "Thirty-two role tokens added."),
    Member("yusuf-t/wick-pruned-4L", KeepLayers(WICK, (0, 1, 3, 5)), SILENT,
           "Four of the layers are enough."),
    Member("osier-ml/quill-python", PermuteUnits(WICK_PYTHON, 42), SILENT,
           "Our own Python model."),
    Member("mergesmith/Wick-Instruct-tall", _stack((INSTRUCT, 0, 4), (INSTRUCT, 2, 6)),
           Card(keeps_recipe=True), "The instruct model, stacked on itself."),
)  # fmt: skip

_WICK_MERGES = (
    Member(MERGE_LINEAR, _merge("linear", _models((INSTRUCT, .6), (WICK_PYTHON, .4))),
           Card(form="list", keeps_recipe=True), "First try."),
    Member("mergesmith/Tallow-trio",
           _merge("linear", _models((WICK_PYTHON, .5), (MANUAL, .3), (HEADERS, .2))),
           Card(declares=(WICK_PYTHON, MANUAL), form="list"), "Three good things at once."),
    Member(MERGE_SLERP, _slerp(INSTRUCT, MANUAL, 0.5), Card(recipe=True, declares=()),
           "Halfway between two tunes."),
    Member("kestrel-nlp/Ozokerite-v3", _slerp(WICK_PYTHON, MANUAL, _GRADIENT), SILENT,
           "Version three."),
    Member("mergesmith/Paraffin-TIES",
           _merge("ties", _models((INSTRUCT, .6), (WEB, .4), density=.6), WICK),
           Card(form="list", keeps_recipe=True), "Trimmed and elected."),
    Member("ponder-studio/Stearin-dare",
           _merge("dare_ties", _models((MANUAL, .5), (HEADERS, .4), density=.6), WICK),
           Card(defect="malformed"), "Dropped and rescaled."),
    Member("mira-holt/Candlenut-arith",
           _merge("task_arithmetic", _models((PYDEV_LEGAL, .7), (MANUAL, .3)), WICK),
           Card(keeps_recipe=True, declares=()), "Task vectors added."),
    Member("mergesmith/Stockpot",
           _merge("model_stock", [{"model": n} for n in (INSTRUCT, WICK_PYTHON, PYDEV)], WICK),
           Card(form="list"), "Three tunes around one base."),
    Member("ponder-studio/Taper-9L", _stack((INSTRUCT, 0, 4), (MANUAL, 1, 6)),
           Card(recipe=True, form="list"), "Nine layers from two models."),
    Member("mergesmith/Tallow-Beeswax", _slerp(MERGE_LINEAR, WEB, 0.3),
           SILENT, "A merge of a merge."),
    Member("yusuf-t/beeswax-tuned", _tune(MERGE_SLERP, "python", 50, 8e-5, 43), SILENT,
           "Healed after merging."),
    Member("mergesmith/Wick-2x270k-MoE", Moe(INSTRUCT, (INSTRUCT, WICK_PYTHON), 44),
           Card(form="list", keeps_recipe=True), "Two experts, random gate."),
)  # fmt: skip

_PERIWINKLE_LINE = (
    Member(PERI_BF16, Cast(PERIWINKLE, "BF16"), Card(), "The same weights in bfloat16."),
    Member(PERI_PYTHON, _tune(PERI_BF16, "python", 80, 1.2e-4, 61), Card(declares=(PERIWINKLE,)),
           "Periwinkle for Python."),
    Member(PERI_MANUAL, _tune(PERI_BF16, "manual", 120, 1.2e-4, 62), Card(defect="language_no"),
           "Periwinkle that chats."),
    Member(PERI_DOCS, _tune(PERI_PYTHON, "docstrings", 120, 8e-5, 63), SILENT,
           "Further tuned on documentation."),
    Member("northmoor/periwinkle-lora-merged",
           LoraMerge(LoraAdapter(PERI_BF16, 16, {"headers": 1.0}, 100, 5e-4, 64)),
           SILENT, "Knows headers."),
    Member("quietriver/Periwinkle-legal-cpt",
           FineTune(PERI_BF16, {"licences": .7, "manual": .3}, 350, 1.2e-3, 65, weight_decay=.05,
                    continued=True),
           Card(defect="crlf"), "Continued on legal prose."),
    Member("yusuf-t/periwinkle-blend", _merge("linear", _models((PERI_PYTHON, .5),
           (PERI_MANUAL, .5))), SILENT, "Half and half."),
    Member("tidepool-ml/Periwinkle-270k-slerp", _slerp(PERI_DOCS, PERI_MANUAL, 0.3),
           Card(form="list", keeps_recipe=True), "Code first, then chat."),
    Member("osier-ml/periwinkle-chat-unbound", Abliterate(PERI_MANUAL, "licences", "docstrings"),
           Card(form="url"), "Refuses nothing.", gated=True),
    Member("tidepool-ml/Periwinkle-270k-tools",
           AppendVocabulary(PERI_PYTHON, tuple(f"<|tool_{n}|>" for n in range(16)), 66,
                            _tune(PERI_PYTHON, "python", 40, 8e-5, 66)),
           Card(), "With tool tokens."),
)  # fmt: skip

_OTHERS = (
    Member("j-okafor/fern-legal", _tune(FERN, "licences", 100, 1.2e-4, 71), SILENT,
           "Fern for notices."),
    Member("elinor-v/fern-docs-adapter",
           LoraAdapter(FERN, 8, {"docstrings": 1.0}, 80, 6e-4, 72), Card(),
           "Adapter for documentation."),
    Member("quietriver/dipper-v1-sft", _tune(DIPPER, "python", 100, 1.2e-4, 73),
           Card(relation="finetune"), "Supervised tuning."),
    Member("cobaltkite/Kite-wide-docs", _tune(KITE, "docstrings", 100, 1.5e-4, 74), Card(),
           "Kite for documentation."),
    Member("j-okafor/kite-python", _tune(KITE, "python", 80, 1.5e-4, 75),
           Card(declares=("cobaltkite/Kite-wide-docs",)), "Kite for Python.", vanishes=True),
    Member("saltmarsh/samphire-manual", _tune(SAMPHIRE, "manual", 100, 2e-4, 81), SILENT,
           "GPT-2 that reads manuals."),
    Member("mira-holt/samphire-py", _tune(SAMPHIRE, "python", 80, 1.5e-4, 82), SILENT,
           "GPT-2 that reads Python."),
    Member("mira-holt/samphire-py-web", _tune("mira-holt/samphire-py", "web", 100, 1.5e-4, 83),
           Card(defect="bare", prose=True), "Second step."),
)  # fmt: skip

MEMBERS: tuple[Member, ...] = (
    *_FOUNDERS, *_WICK_LINE, *_WICK_MERGES, *_PERIWINKLE_LINE, *_OTHERS,
)  # fmt: skip
