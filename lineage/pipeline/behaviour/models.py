"""The runners that ask a model what comes next: transformers here, and any endpoint elsewhere.

::

    Runner                  alleles(prompts, settings), provenance
    ├── TransformersRunner  a folder of :mod:`lineage.pipeline.behaviour.staging`; exact frequencies
    └── EndpointRunner      an OpenAI-compatible ``/v1/completions``; frequencies of draws
"""

from __future__ import annotations

import gc
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lineage.errors import HerdbookError, UsageError
from lineage.pipeline.behaviour.alleles import (
    Alleles,
    BehaviourSettings,
    Ids,
    Vocabulary,
    counted,
    drawn,
    next_characters,
)
from lineage.pipeline.behaviour.endpoint import Endpoint, complete

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = [
    "EndpointRunner",
    "Runner",
    "Tokenizer",
    "TransformersRunner",
    "pick_device",
    "read_vocabulary",
    "transformers_runner",
]

Floats = NDArray[np.float64]

_MOST_ROWS = 64
_VALUES_AT_ONCE = 1 << 27  # logits of a batch, where all positions are given: half a gigabyte
_HEADROOM = 16  # positions kept free for the characters that come next
_MOST_POSITIONS = 4_096
_ANCHOR = "a"
"""A letter before which a token reads as it does inside a text: with its leading space."""


class Runner(Protocol):
    """Anything that can be asked what comes next."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """With what it was run."""

    def alleles(self, prompts: Sequence[str], settings: BehaviourSettings) -> list[Alleles]:
        """What comes next at each prompt.

        Raises
        ------
        HerdbookError
            If the model cannot be run; says why.
        """


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    all_special_ids: Sequence[int]

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Tokens besides the vocabulary's own; each says whether it is `special`."""

    def __len__(self) -> int:
        """Number of tokens, added ones included."""

    def __call__(
        self, text: str, *, add_special_tokens: bool = True
    ) -> Mapping[str, Sequence[int]]:
        """Token numbers as ``input_ids``."""

    def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: bool,
    ) -> str:
        """The text of tokens."""


# ---- transformers ----------------------------------------------------------------------------


def pick_device(device: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes a GPU where there is one.

    Raises
    ------
    UsageError
        If there is no GPU for ``cuda``.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise UsageError("there is no GPU that torch can use; --device cpu runs without")
    return "cuda" if has_gpu and device != "cpu" else "cpu"


@contextmanager
def transformers_runner(folder: Path, device: str, n_stored: int) -> Iterator[TransformersRunner]:
    """The model of a staged folder, given back afterwards.

    Parameters
    ----------
    folder
        As :func:`lineage.pipeline.behaviour.staging.stage` makes it.
    device
        ``cpu`` (computed as float32) or ``cuda`` (computed as stored).
    n_stored
        Values that its weight files hold.

    Raises
    ------
    HerdbookError
        If the configuration asks for more than is stored, or weights are missing: what would
        speak then is chance.
    """
    runner = TransformersRunner(folder, device, n_stored)
    try:
        yield runner
    finally:
        runner.close()


class TransformersRunner:
    """A causal language model on this machine; see :func:`transformers_runner`."""

    def __init__(self, folder: Path, device: str, n_stored: int) -> None:
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        safely = {"trust_remote_code": False, "local_files_only": True}
        config = transformers.AutoConfig.from_pretrained(folder, **safely)
        _require_no_more_than_stored(config, n_stored)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **safely)
        self._model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            dtype=torch.float32 if device == "cpu" else "auto",
            output_loading_info=True,
            **safely,
        )
        missing = [*loaded["missing_keys"], *(str(key) for key in loaded["mismatched_keys"])]
        if missing:
            raise HerdbookError(
                f"{len(missing)} of its tensors are missing or of another shape (first: "
                f"{min(missing)[:200]})"
            )
        self._model.eval().to(device)
        self._device = device
        forward = inspect.signature(self._model.forward).parameters
        self._keeps_last = "logits_to_keep" in forward
        stated = getattr(config.get_text_config(), "max_position_embeddings", None)
        limit = stated if isinstance(stated, int) and stated > 0 else _MOST_POSITIONS
        self._most_tokens = max(1, min(limit, _MOST_POSITIONS) - _HEADROOM)
        n_rows = int(self._model.get_output_embeddings().weight.shape[0])
        self._vocabulary = read_vocabulary(self._tokenizer, n_rows)

    @property
    def provenance(self) -> Mapping[str, str]:
        """Versions, device, and the type that was computed with."""
        return {
            "runner": "transformers",
            "transformers": version("transformers"),
            "torch": version("torch"),
            "device": self._device,
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }

    def alleles(self, prompts: Sequence[str], settings: BehaviourSettings) -> list[Alleles]:
        """Frequencies of the next characters, computed; or of draws from them.

        Draws follow the computed distribution, as token by token sampling would.
        """
        tokens = [self._tokens(prompt) for prompt in prompts]
        found = next_characters(
            tokens,
            partial(self._probabilities, settings.temperature),
            self._vocabulary,
            settings.characters,
        )
        if settings.samples is None:
            return found
        return [
            drawn(one, settings.samples, np.random.default_rng([settings.seed, place]))
            if one.frequencies
            else one
            for place, one in enumerate(found)
        ]

    def close(self) -> None:
        """Give the memory back."""
        del self._model, self._tokenizer
        gc.collect()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _tokens(self, prompt: str) -> Ids:
        """The prompt as the model was trained to be given one; its end where it is too long.

        What marks the end of a text is taken off: a tokenizer may add it, and nothing comes after.
        """
        ids = [int(one) for one in self._tokenizer(prompt)["input_ids"]]
        while len(ids) > 1 and self._vocabulary.ends[ids[-1]]:
            ids.pop()
        if not ids:
            raise HerdbookError("its tokenizer makes nothing of a prompt")
        return tuple(ids[-self._most_tokens :])

    def _probabilities(
        self, temperature: float, sequences: Sequence[Ids]
    ) -> Iterator[tuple[int, Floats]]:
        by_length: dict[int, list[int]] = defaultdict(list)
        for place, ids in enumerate(sequences):
            by_length[len(ids)].append(place)
        for length, places in sorted(by_length.items()):
            positions = 1 if self._keeps_last else length
            n_values = positions * self._model.config.get_text_config().vocab_size
            rows = max(1, min(_MOST_ROWS, _VALUES_AT_ONCE // n_values))
            for start in range(0, len(places), rows):
                batch = places[start : start + rows]
                logits = self._last_logits([sequences[place] for place in batch])
                yield from zip(batch, _softmax(logits, temperature), strict=True)

    def _last_logits(self, sequences: Sequence[Ids]) -> Floats:
        """Logits of the token after each sequence; all are of one length, so none is padded."""
        import torch

        ids = torch.tensor(sequences, dtype=torch.long, device=self._device)
        last: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_last else {}
        with torch.inference_mode():
            logits = self._model(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **last
            ).logits[:, -1, :]
            found = logits.to("cpu", torch.float64).numpy()
        if not np.isfinite(found).all():
            raise HerdbookError("its logits are not finite")
        return np.asarray(found, dtype=np.float64)


def _require_no_more_than_stored(config: PretrainedConfig, n_stored: int) -> None:
    """Raise where a configuration would have more allocated than its weight files can fill."""
    import torch
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    wanted = sum(tensor.numel() for tensor in model.parameters())
    if wanted > 2 * n_stored:
        raise HerdbookError(
            f"its configuration asks for {wanted:,} values, its files hold {n_stored:,}"
        )


def read_vocabulary(tokenizer: Tokenizer, n_rows: int) -> Vocabulary:
    """The texts of a tokenizer's tokens as they read inside a text.

    Parameters
    ----------
    tokenizer
        Of transformers.
    n_rows
        Tokens that the model gives a probability; those beyond the tokenizer's are void.
    """
    anchor = tuple(tokenizer(_ANCHOR, add_special_tokens=False)["input_ids"])
    before = _decoded(tokenizer, anchor)

    def decode(ids: Ids) -> str:
        return _after(_decoded(tokenizer, (*anchor, *ids)), before)

    n_known = min(len(tokenizer), n_rows)
    texts = [decode((token,)) for token in range(n_known)]
    special = set(tokenizer.all_special_ids)
    special |= {n for n, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = np.zeros(n_rows, dtype=bool)
    ends[[token for token in special if token < n_rows]] = True
    void = np.arange(n_rows) >= n_known
    void &= ~ends
    return Vocabulary(texts + [""] * (n_rows - n_known), ends, void, decode)


def _decoded(tokenizer: Tokenizer, ids: Ids) -> str:
    return tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def _after(text: str, before: str) -> str:
    """What stands in `text` after `before`; all of it where it begins otherwise."""
    return text[len(before) :] if text.startswith(before) else text


def _softmax(logits: Floats, temperature: float) -> Floats:
    """Probabilities at a temperature; at zero all on the largest, the first of equals."""
    if temperature == 0:
        likeliest = np.zeros_like(logits)
        likeliest[np.arange(logits.shape[0]), logits.argmax(axis=1)] = 1.0
        return likeliest
    scaled = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), dtype=np.float64)


# ---- endpoints -------------------------------------------------------------------------------


class EndpointRunner:
    """A model behind an OpenAI-compatible endpoint: continuations are drawn and counted."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @property
    def provenance(self) -> Mapping[str, str]:
        """Where it was asked; the endpoint alone knows what stands behind the name."""
        return {"runner": "endpoint", "url": self._endpoint.shown, "model": self._endpoint.model}

    def alleles(self, prompts: Sequence[str], settings: BehaviourSettings) -> list[Alleles]:
        """Frequencies among drawn continuations; at temperature zero one continuation is all.

        Raises
        ------
        HerdbookError
            If the endpoint refuses, or does not answer after several tries.
        """
        n_draws = 1 if settings.temperature == 0 else settings.samples
        if n_draws is None:
            raise UsageError("an endpoint shows draws only: say how many with --samples")
        texts = complete(self._endpoint, prompts, n_draws, settings)
        return [counted([text[: settings.characters] for text in said]) for said in texts]
