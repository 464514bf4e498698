"""Copies in another basis: the same function, written so that no word is where it was.

A transformer's residual stream may be expressed in any orthogonal basis, scales may move between a
normalisation's gains and the matrices behind it, heads may turn inside themselves, and the linear
half of a gated unit may change sign. What was done is read from the embeddings, undone, and every
other sampled tensor must then come back to the rounding of the number type: the embeddings alone
would only show that two vocabularies mean the same.

The symmetries are those that quantisation methods use to spread outliers (Ashkboos et al.,
"QuaRot", arXiv:2404.00456; Xiao et al., "SmoothQuant", arXiv:2211.10438).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.model import Evidence
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = ["Disguise", "find_disguise"]

F64 = NDArray[np.float64]

_MANTISSA_BITS = {"F32": 23, "F16": 10, "BF16": 7}
_ROUNDING_SLACK = 1.25
"""How far above the expected rounding error a residue may lie."""
_LEAST_ERROR = 1e-6
"""Relative error of the arithmetic here and of whoever turned the basis in single precision."""
_ALIKE = 4.0
"""Inner products of embeddings carry the rounding of both factors in both models."""
_LEAST_TURN = 0.1
"""Relative difference from which a tensor was turned or rescaled: training moves tensors less."""
_MOST_TOKENS = 32
_CONDITION = 1e-6
_TURNED_HEADS = "heads of attention in another basis (queries and keys are not compared)"
_WRITERS = ("o", "down")
_ATTENTION = ("q", "k", "v", "o")
_GAINS = {
    "q": "attn_norm", "k": "attn_norm", "v": "attn_norm",
    "up": "ffn_norm", "gate": "ffn_norm", "head": "final_norm",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disguise:
    """What has to be undone to turn a child back into its parent.

    Attributes
    ----------
    directed
        Whether something was lost, so that it cannot have been done the other way round.
    """

    directed: bool
    evidence: tuple[Evidence, ...]


def find_disguise(child: Fingerprint, parent: Fingerprint) -> Disguise | None:
    """How `child` is `parent` in another basis; None if it is not, or samples cannot show it.

    Needs an embedding with at least as many sampled rows as coordinates, unless these were only
    reordered or negated. Of writers of the residual stream, whose rows are coordinates, those rows
    are compared whose origin was read; in a rotated stream that takes all of them.
    """
    if child.shape_signature != parent.shape_signature or child.dtype != parent.dtype:
        return None
    embedding = TensorKey("embed")
    if child.dtype not in _MANTISSA_BITS or embedding not in child.samples:
        return None
    ours, theirs = child.samples[embedding], parent.samples[embedding]
    if len(ours.shape) != 2 or ours.rows != theirs.rows:
        return None
    if not _same_products(ours, theirs):
        return None
    turned = _reordering(ours, theirs)
    x, y = (one.values.astype(np.float64) for one in (ours, theirs))
    if turned is None and _relative(x, y) < _LEAST_TURN:
        return None
    if turned is None:
        rotation = _rotation(child, parent)
        turned = None if rotation is None else (rotation, "the residual stream rotated")
    return None if turned is None else _Undoing(child, parent, *turned).result()


def _same_products(ours: Sample, theirs: Sample) -> bool:
    """Whether tokens have the inner products that they had: they do in every basis."""
    x, y = (one.values[:_MOST_TOKENS].astype(np.float64) for one in (ours, theirs))
    difference = np.linalg.norm(x @ x.T - y @ y.T)
    allowed = _ALIKE * max(_LEAST_ERROR, _rounding_error(y, ours.dtype))
    return bool(difference <= allowed * np.linalg.norm(y @ y.T))


def _reordering(ours: Sample, theirs: Sample) -> tuple[F64, str] | None:
    """The signed permutation from the parent's coordinates to the child's, and what it is."""
    x, y = ours.values, theirs.values
    width = x.shape[1]
    if np.array_equal(x, y):
        return np.eye(width), ""
    places = {np.abs(y[:, j]).tobytes(): j for j in range(width)}
    order = [places.get(np.abs(x[:, i]).tobytes(), -1) for i in range(width)]
    if len(set(order)) == width and min(order) >= 0:
        basis = np.zeros((width, width))
        signs = np.sign(np.einsum("ti,ti->i", x.astype(np.float64), y[:, order]))
        basis[order, np.arange(width)] = np.where(signs == 0, 1, signs)
        moved = sum(i != j for i, j in enumerate(order))
        negated = int((signs < 0).sum())
        said = [f"{moved} coordinates of the residual stream reordered"] if moved else []
        said += [f"{negated} coordinates of the residual stream negated"] if negated else []
        return basis, ", ".join(said)
    return None


def _rotation(child: Fingerprint, parent: Fingerprint) -> F64 | None:
    """The rotation of the residual stream that fits all its readers best (Schönemann 1966).

    None where they do not tell all of it. Writers are left out, to test it on.
    """
    width = child.samples[TensorKey("embed")].values.shape[1]
    product = np.zeros((width, width))
    for key, sample in child.samples.items():
        if key.role == "embed" or (key.role in _GAINS and key.role not in _ATTENTION):
            x, y = (_behind_gains(model, key) for model in (child, parent))
            if x.shape == y.shape and x.shape[1] == width and not sample.transposed:
                product += y.T @ x
    left, sizes, right = np.linalg.svd(product)
    return np.asarray(left @ right) if sizes[-1] > _CONDITION * sizes[0] else None


def _behind_gains(model: Fingerprint, key: TensorKey) -> F64:
    """A matrix that reads the residual stream, the gains before it taken in."""
    values = model.samples[key].values.astype(np.float64)
    gains = _gains(model, key)
    return values if gains is None else values * gains


def _gains(model: Fingerprint, key: TensorKey) -> F64 | None:
    role = _GAINS.get(key.role)
    sample = None if role is None else model.samples.get(TensorKey(role, key.layer))
    if sample is None or sample.values.size != model.samples[key].values.shape[1]:
        return None
    return sample.values.ravel().astype(np.float64)


@dataclass
class _Undoing:
    """One attempt: the parent's tensors in the child's basis, beside the child's."""

    child: Fingerprint
    parent: Fingerprint
    basis: F64
    what: str

    def result(self) -> Disguise | None:
        """The disguise, if every tensor comes back."""
        residues = []
        done = [self.what] if self.what else []
        turned: dict[int, set[str]] = {}
        for key in sorted(self.child.samples):
            found = self._residue(key)
            if found is None:
                return None
            residue, how = found
            residues.append(residue)
            done += [how] if how and how not in done else []
            if how == _TURNED_HEADS:
                turned.setdefault(key.layer, set()).add(key.role)
        # Where values and outputs stayed, queries and keys that differ were trained.
        if not done or any(roles != set(_ATTENTION) for roles in turned.values()):
            return None
        folded = self._gains_were_folded()
        if folded is None:
            return None
        if folded:
            done.append("the gains folded into the matrices behind them")
        worst = max(residues)
        closeness = (
            "every sampled word" if worst == 0 else f"every tensor within {100 * worst:.2g} %"
        )
        text = f"{'; '.join(done)}: undoing this gives {closeness}"
        return Disguise(folded, (Evidence("disguise_undone", 1 - worst, text),))

    def _gains_were_folded(self) -> bool | None:
        """Whether all gains became constant; None if the parent's are: it was made from the child.

        Training leaves no gains constant.
        """
        ours, theirs = (
            [s.values for key, s in sorted(one.samples.items()) if key.role.endswith("norm")]
            for one in (self.child, self.parent)
        )
        constant, was_constant = (
            bool(gains) and all(np.ptp(g) == 0 for g in gains) for gains in (ours, theirs)
        )
        if was_constant and not constant:
            return None
        return constant and not was_constant

    def _residue(self, key: TensorKey) -> tuple[float, str] | None:
        """Relative residue of one tensor, and what else had to be undone; None if it is another."""
        ours, theirs = self.child.samples[key], self.parent.samples[key]
        if key.role.endswith("norm"):
            return 0.0, ""  # compared where the matrices behind it are
        if len(ours.shape) != 2 or ours.transposed:
            return (0.0, "") if self._is_untouched_vector(key) else None
        pair = self._written(ours, theirs) if key.role in _WRITERS else self._read(key)
        if pair is None:
            return None
        x, y = pair
        how = ""
        if key.role == "up":
            y, how = self._with_signs(x, y, how)
        elif key.role == "down":
            y = self._with_signs(x.T, y.T, how)[0].T
        residue = _relative(x, y)
        if residue <= self._allowed(key, ours.dtype):
            return residue, how or self._moved_gains(key)
        if key.role in _ATTENTION and len(ours.rows) == ours.shape[0]:
            return self._turned_head(key, x, y)
        return None

    def _is_untouched_vector(self, key: TensorKey) -> bool:
        """Biases and the like: only where the basis stayed, since their coordinates may turn."""
        same = np.array_equal(self.child.samples[key].values, self.parent.samples[key].values)
        return same and np.array_equal(self.basis, np.eye(len(self.basis)))

    def _written(self, ours: Sample, theirs: Sample) -> tuple[F64, F64] | None:
        """A matrix that writes into the residual stream: its rows are coordinates."""
        if ours.rows != theirs.rows or ours.shape[0] != len(self.basis):
            return None
        rows = np.array(ours.rows)
        # A row of the child is known if all rows of the parent that it is made of were read.
        known = ~np.delete(self.basis, rows, axis=0)[:, rows].any(axis=0)
        if not known.any():
            return None
        basis = self.basis[np.ix_(rows, rows[known])]
        return ours.values[known].astype(np.float64), basis.T @ theirs.values

    def _read(self, key: TensorKey) -> tuple[F64, F64] | None:
        """A matrix that reads the residual stream, behind its gains."""
        ours, theirs = self.child.samples[key], self.parent.samples[key]
        if ours.rows != theirs.rows or ours.values.shape[1] != len(self.basis):
            return None
        x, y = (_behind_gains(model, key) for model in (self.child, self.parent))
        return x, y @ self.basis

    def _moved_gains(self, key: TensorKey) -> str:
        return "scales moved through the gains" if self._are_rescaled(key) else ""

    def _are_rescaled(self, key: TensorKey) -> bool:
        """Whether the gains before a matrix are far from the parent's, and not constant."""
        ours, theirs = _gains(self.child, key), _gains(self.parent, key)
        if ours is None or theirs is None or np.ptp(ours) == 0:
            return False
        return _relative(ours, theirs @ np.abs(self.basis)) > _LEAST_TURN

    def _allowed(self, key: TensorKey, dtype: str) -> float:
        """The residue that rounding leaves: of the child's words, and of gains that moved.

        None where coordinates were only reordered or negated: that is exact.
        """
        rescaled = self._are_rescaled(key)
        if not rescaled and np.isin(self.basis, (-1.0, 0.0, 1.0)).all():
            return 0.0
        once = _rounding_error(self.child.samples[key].values.astype(np.float64), dtype)
        return max(_LEAST_ERROR, _ROUNDING_SLACK * once * (math.sqrt(2) if rescaled else 1))

    def _with_signs(self, x: F64, y: F64, how: str) -> tuple[F64, str]:
        """The parent's rows with the signs of the child's."""
        signs = np.where((x * y).sum(axis=1) < 0, -1.0, 1.0)
        return y * signs[:, None], "signs of hidden units changed" if (signs < 0).any() else how

    def _turned_head(self, key: TensorKey, x: F64, y: F64) -> tuple[float, str] | None:
        """Attention whose heads turned inside themselves, as far as samples show it.

        Values and outputs keep their Gram matrices; queries and keys trade scales between each
        other, and of them only the sum of what heads look at would be kept: they are not compared.
        """
        if _relative(x, y) < _LEAST_TURN:
            return None
        if key.role in ("q", "k"):
            return 0.0, _TURNED_HEADS
        ours, theirs = (x.T @ x, y.T @ y) if key.role == "v" else (x @ x.T, y @ y.T)
        residue = _relative(ours, theirs)
        allowed = 2 * _ROUNDING_SLACK * _rounding_error(x, self.child.samples[key].dtype)
        return (residue, _TURNED_HEADS) if residue <= max(_LEAST_ERROR, allowed) else None


def _relative(x: F64, y: F64) -> float:
    size = float(np.linalg.norm(y))
    return float(np.linalg.norm(x - y)) / size if size > 0 else float(np.linalg.norm(x) > 0)


def _rounding_error(values: F64, dtype: str) -> float:
    """Relative root mean square error of rounding `values` to a number type.

    Uniform inside a cell: its width over √12, the width being ``2^(exponent − mantissa bits)``.
    """
    _, exponents = np.frexp(values)
    widths = np.where(values == 0, 0.0, np.exp2(exponents - 1.0 - _MANTISSA_BITS[dtype]))
    size = float(np.linalg.norm(values))
    return float(np.linalg.norm(widths)) / np.sqrt(12) / size if size > 0 else 0.0
