"""Where models are made: folders of repositories, opened and saved as strangers would."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from .text import SPECIAL_TOKENS, Corpus
from .training import NAMES_OF_DTYPES, load_model

__all__ = ["WEIGHTS", "Workshop", "reopened", "stored_state"]

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The repositories made so far below `root`; tokenizer and text in `scratch`."""

    root: Path
    scratch: Path
    corpus: Corpus

    def folder(self, model: str) -> Path:
        """The folder of a repository."""
        return self.root / model

    def load(self, model: str) -> PreTrainedModel:
        """A model that was made before, in float32."""
        return load_model(self.folder(model))

    def vocabulary_size(self) -> int:
        """Tokens of the family's tokenizer."""
        tokenizer = json.loads((self.scratch / "tokenizer.json").read_text(encoding="utf-8"))
        return len(tokenizer["model"]["vocab"])

    def save(self, network: PreTrainedModel, out: Path, dtype: str) -> PreTrainedModel:
        """Store the weights in `dtype`; returns the network as a reader finds it."""
        copy.deepcopy(network).to(NAMES_OF_DTYPES[dtype]).save_pretrained(str(out))
        (out / "generation_config.json").unlink(missing_ok=True)
        self.write_tokenizer(out)
        return load_model(out)

    def write_tokenizer(self, out: Path) -> None:
        """Put the family's tokenizer beside the weights."""
        shutil.copy(self.scratch / "tokenizer.json", out / "tokenizer.json")
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL_TOKENS[0],
            "eos_token": SPECIAL_TOKENS[0],
            "pad_token": SPECIAL_TOKENS[1],
            "model_max_length": 256,
        }
        (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def reopened(state: dict[str, torch.Tensor], source: Path) -> PreTrainedModel:
    """A model of other weights under the names, and with the configuration, of a repository."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(source / "config.json", folder)
        save_file(state, str(Path(folder) / WEIGHTS), {"format": "pt"})
        return load_model(Path(folder))


def stored_state(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a repository as they are stored."""
    state: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        state.update(load_file(str(path)))
    return state
