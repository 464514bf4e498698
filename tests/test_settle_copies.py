"""Copies that nothing but their relatives tell from their originals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lineage.infer.assemble import infer_lineage
from lineage.model import Finding, Grade, Kind
from simulated import FFN, Herd, Weights, fingerprint, stored


@dataclass
class Family:
    base: Weights
    child: Weights
    moved: Weights
    sibling: Weights


def with_units_moved(weights: Weights, rng: np.random.Generator) -> Weights:
    order = rng.permutation(FFN)
    return {
        key: values[order]
        if key.role in ("up", "gate")
        else values[:, order]
        if key.role == "down"
        else values
        for key, values in weights.items()
    }


@pytest.fixture(scope="module")
def family():
    herd = Herd(6)
    base = stored(herd.founder())
    child = herd.train(base, 0.02)
    moved = with_units_moved(child, herd.rng)
    return Family(base, child, moved, herd.train(base, 0.02))


def infer(models: dict[str, Weights]) -> dict[str, Finding]:
    prints = [fingerprint(name, weights) for name, weights in models.items()]
    return {one.child: one for one in infer_lineage(prints, {}).findings}


@pytest.mark.parametrize("names", [("a/child", "z/moved"), ("z/child", "a/moved")])
def test_the_one_that_its_relatives_are_laid_out_like_is_the_original(family, names):
    child, moved = names
    models = {child: family.child, moved: family.moved, "f/base": family.base}
    found = infer(models | {"s/sibling": family.sibling})[moved]
    assert (found.kind, found.grade) == (Kind.PERMUTED, Grade.INFERRED)
    assert [share.parent for share in found.parents] == [child]
    assert "laid out" in found.note


def with_gains_moved(weights: Weights, rng: np.random.Generator) -> Weights:
    gains = rng.uniform(0.5, 2.0, next(iter(weights.values())).shape[-1]).astype(np.float32)
    return {
        key: values * gains
        if key.role == "ffn_norm"
        else values / gains
        if key.role in ("up", "gate")
        else values
        for key, values in weights.items()
    }


@pytest.mark.parametrize("names", [("a/child", "z/moved"), ("z/child", "a/moved")])
def test_the_one_that_kept_its_relatives_words_is_the_original_of_a_rescaled_copy(family, names):
    child, moved = names
    rescaled = stored(with_gains_moved(family.child, np.random.default_rng(1)))
    models = {child: family.child, moved: rescaled, "f/base": family.base}
    found = infer(models | {"s/sibling": family.sibling})[moved]
    assert (found.kind, found.grade) == (Kind.PERMUTED, Grade.INFERRED)
    assert [share.parent for share in found.parents] == [child]


def test_without_relatives_one_of_the_two_is_a_tie_and_the_other_its_founder(family):
    found = infer({"a/child": family.child, "z/moved": family.moved})
    tied = [one for one in found.values() if one.kind is Kind.PERMUTED]
    assert len(tied) == 1
    assert tied[0].grade is Grade.TIE
    (other,) = found.keys() - {tied[0].child}
    assert tied[0].ties == (other,)
    assert not found[other].parents


def test_a_model_that_was_trained_a_little_is_no_turned_copy(family):
    herd = Herd(9)
    models = {"f/base": family.base, "n/nudged": herd.train(family.base, 0.0005)}
    assert all(one.kind is not Kind.PERMUTED for one in infer(models).values())
