"""Whether a share, with its error and beside the whole change's, says that it was inherited."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lineage.infer import carrying
from lineage.infer.carrying import Carrying


@dataclass
class Told:
    """Steps of which one share is known, whichever is asked for."""

    beta: float
    error: float
    whole: float
    onwards: float = 0.0
    length: float = 1.0
    pool: None = None

    def carried(self, reference, ancestor):
        return self

    def share(self, child):
        return self.beta, self.error

    def whole_share(self, child):
        return self.whole

    def turning(self, child):
        return self.onwards

    def times_as_long(self, child):
        return self.length


@pytest.fixture(autouse=True)
def no_rows(monkeypatch):
    monkeypatch.setattr(carrying, "has_rows_untouched", lambda *_: False)
    monkeypatch.setattr(carrying, "inherits_rows", lambda *_: False)


@pytest.mark.parametrize(
    ("beta", "error", "whole", "verdict"),
    [
        (0.97, 0.02, 0.9, True),
        (0.97, 0.02, 1.4, True),  # sure: what else was trained on the same text changes nothing
        (0.97, 0.05, 1.05, True),
        (0.90, 0.05, 1.02, None),  # unsure, and the whole share lies 2.4 errors above it
        (0.90, 0.10, 1.02, True),
        (0.90, 0.05, 1.10, False),  # moved in parallel
        (0.78, 0.06, 0.70, True),  # worn off, in leading directions first
        (0.78, 0.06, 0.80, None),
        (0.66, 0.05, 0.60, False),
        (0.78, 0.12, 0.70, None),
        (0.60, 0.05, 0.30, True),  # the reference went the child's way, in leading directions
        (0.45, 0.05, 0.10, False),
        (1.25, 0.05, 1.30, True),  # went on along its parent's way, in all directions alike
        (1.25, 0.05, 1.45, None),
        (1.25, 0.05, 1.70, False),
        (1.25, 0.10, 1.30, None),
        (1.38, 0.05, 1.38, False),
        (0.97, 0.20, 0.97, None),
        (0.30, 0.05, 0.30, False),
        (float("nan"), 0.05, 1.0, False),
        (1.0, float("inf"), 1.0, False),
    ],
)
def test_a_share_is_inherited_by_its_size_its_error_and_the_whole_changes(
    beta, error, whole, verdict
):
    assert Carrying(Told(beta, error, whole)).descends("c", "x", "r") is verdict


@pytest.mark.parametrize(
    ("beta", "error", "length", "verdict"),
    [
        (2.5, 0.3, 20, None),  # chance makes up a whole share: .5 in .5 of it, and 2.5 of those
        (3.8, 0.3, 20, False),
        (-1.8, 0.3, 20, None),  # a whole share is a ninth as likely as none, no less
        (-2.0, 0.3, 20, False),
        (0.3, 0.3, 9, None),
        (-0.4, 0.2, 9, False),
        (0.29, 0.16, 6.1, None),
        (0.29, 0.16, 5.9, False),  # chance makes up less than .3: its error alone counts
        (-0.1, 0.2, 10, None),
        (2.5, 0.1, 20, False),  # a sure share needs no allowance
    ],
)
def test_a_step_much_longer_than_another_hides_whether_it_was_inherited(
    beta, error, length, verdict
):
    carries = Carrying(Told(beta, error, beta, length=length))
    assert carries.descends("c", "x", "r") is verdict


@pytest.mark.parametrize(("onwards", "verdict"), [(-0.74, True), (-0.76, False)])
def test_what_would_have_taken_back_nearly_all_of_a_change_did_not_inherit_it(onwards, verdict):
    carries = Carrying(Told(0.97, 0.02, 0.1, onwards=onwards))
    assert carries.descends("c", "x", "r") is verdict


def test_what_has_a_row_as_it_was_does_not_descend_however_much_it_carries(monkeypatch):
    asked = []
    monkeypatch.setattr(carrying, "has_rows_untouched", lambda *names: asked.append(names) or True)
    carries = Carrying(Told(1.0, 0.01, 1.0))
    assert carries.descends("c", "x", "r") is False
    assert carries.descends("c", "x", "r") is False
    assert asked == [(None, "c", "x", "r")]  # asked once
    assert carries.found_untouched() == [("c", "x", "r")]


@pytest.mark.parametrize(
    ("beta", "untouched", "verdict"),
    [(0.97, False, True), (0.78, False, True), (0.78, True, False), (0.30, False, False)],
)
def test_a_row_that_only_the_ancestor_moved_decides_what_shares_leave_open(
    monkeypatch, beta, untouched, verdict
):
    monkeypatch.setattr(carrying, "inherits_rows", lambda _, *names: names == ("c", "x", "r"))
    monkeypatch.setattr(carrying, "has_rows_untouched", lambda *_: untouched)
    assert Carrying(Told(beta, 0.05, beta)).descends("c", "x", "r") is verdict


def test_a_part_is_sure_and_the_most_of_it_lies_its_errors_above():
    assert Carrying(Told(0.30, 0.05, 0.3)).part("c", "x", "r") == 0.30
    assert Carrying(Told(0.15, 0.05, 0.3)).part("c", "x", "r") == 0.0
    assert Carrying(Told(0.15, 0.05, 0.3)).most_of("c", "x", "r") == pytest.approx(0.275)
    assert Carrying(Told(float("nan"), float("inf"), 0.3)).most_of("c", "x", "r") == float("inf")
