"""The measure stage on homes whose history is known, and the store of its estimates."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lineage.errors import NotFoundError
from lineage.model import Estimate, Finding, Grade, Kind, ParentShare
from lineage.pipeline.measure import measure
from lineage.store.estimates import (
    EstimateRow,
    read_estimates,
    read_members,
    read_traits,
    replace_estimates,
)
from lineage.store.findings import replace_findings
from lineage.store.home import Home

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REVISION = "a" * 40


class Register:
    """A home filled by hand."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.connection = self.home.open_working()
        self.findings: list[Finding] = []

    def model(
        self,
        name: str,
        loss: float | None,
        parents: tuple[tuple[str, float], ...] = (),
        *,
        kind: Kind = Kind.FINETUNE,
        age_days: float = 300,
        likes: int = 1,
        parameters: int = 1000,
    ) -> None:
        row = (name, REVISION, NOW, "ok", "o", NOW - timedelta(days=age_days), NOW, parameters)
        self.connection.execute(
            "INSERT INTO snapshot (repo_id, revision, observed_at, status, author, created_at,"
            " last_modified, parameters) VALUES (?,?,?,?,?,?,?,?)",
            list(row),
        )
        self.connection.execute(
            "INSERT INTO observation VALUES (?, ?, 7, NULL, ?, NULL, 'hub')", [name, NOW, likes]
        )
        if loss is not None:
            self.trait(name, loss)
        shares = tuple(ParentShare(parent, weight) for parent, weight in parents)
        self.findings.append(
            Finding(name, kind if shares else Kind.FOUNDER, Grade.INFERRED, shares)
        )

    def trait(self, name: str, value: float, metric: str = "ce", when: datetime = NOW) -> None:
        self.connection.execute(
            "INSERT INTO trait VALUES (?, 'loss/x', ?, ?, 'x', false, 'card', ?, ?)",
            [name, value, metric, REVISION, when],
        )

    def claim(self, child: str, parent: str, ended_at: datetime | None = None) -> None:
        self.connection.execute(
            "INSERT INTO claim VALUES (?, ?, ?, 'finetune', 'card', 'base_model', NULL, NULL, ?,"
            " ?, NULL, ?)",
            [child, parent, parent, REVISION, NOW, ended_at],
        )

    def close(self, findings: bool = True) -> Home:
        if findings:
            replace_findings(self.connection, 1, self.findings)
        self.connection.close()
        return self.home


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "home")


def estimates(home: Home) -> dict[tuple[str, str | None, str | None, str], Estimate]:
    connection = home.open_working()
    try:
        return {
            (row.statistic, row.trait, row.fitness, row.population): row.estimate
            for row in read_estimates(connection)
        }
    finally:
        connection.close()


def half_inherited(register: Register) -> None:
    """Three founders; each child's loss is 1 + half its mid-parent's; one merge; one copy."""
    for f, loss in (("o/a", 3.0), ("o/b", 4.0), ("o/c", 7.0)):
        register.model(f, loss, age_days=400)
        for k in range(2):
            register.model(f"{f}{k}", 1 + loss / 2, ((f, 1.0),), parameters=1000 + k)
    register.model("o/merge", 1 + 0.5 * (0.25 * 3 + 0.75 * 4), (("o/b", 0.75), ("o/a", 0.25)))
    register.model("o/acopy", 3.0, (("o/a", 1.0),), kind=Kind.DUPLICATE, likes=100, age_days=250)
    register.model("o/ofcopy", 2.5, (("o/acopy", 1.0),), age_days=240)


def test_a_history_without_noise_gives_its_heritability_exactly(register: Register) -> None:
    half_inherited(register)
    report = measure(register.close())
    found = estimates(register.home)
    slope = found["heritability", "loss/x", None, "all"]
    assert (slope.value, slope.low, slope.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (slope.n, slope.n_clusters) == (8, 3)
    assert "copies collapsed" in slope.method
    with_copies = found["heritability_with_copies", "loss/x", None, "all"]
    assert with_copies.n == 9
    assert with_copies.value < 0.49  # the copy repeats its parent, off the line
    assert report.n_models == 12
    assert report.n_copies == 1
    assert report.n_estimates == len(found)
    constitutive = found["heritability", "log10 parameters", None, "all"]
    assert "constitutive" in constitutive.method
    assert "constitutive" not in slope.method


def test_fitness_of_an_original_counts_what_its_copies_were_given(register: Register) -> None:
    half_inherited(register)
    home = register.close()
    measure(home)
    found = estimates(home)
    # children within 180 d: a: a0, a1, merge, ofcopy; b: b0, b1, merge; c: c0, c1; 8 others: none
    opportunity = found["opportunity", None, "children_180d", "all"]
    mean, squares = 9 / 11, (16 + 9 + 4) / 11
    assert opportunity.value == pytest.approx(squares / mean**2 - 1)
    excess = found["opportunity_excess", None, "children_180d", "all"]
    assert excess.value == pytest.approx(squares / mean**2 - 1 - 1 / mean)
    assert found["opportunity", None, "likes_per_day", "all"].value > 1  # o/a has 101 likes
    assert ("opportunity_excess", None, "likes_per_day", "all") not in found
    assert found["opportunity", None, "downloads_30d", "all"].n == 11
    selection = found["selection_differential", "loss/x", "children_180d", "all"]
    assert selection.n == 11
    assert selection.low <= selection.value <= selection.high


def test_the_young_have_no_fitness_and_the_unmeasured_no_trait(register: Register) -> None:
    half_inherited(register)
    register.model("o/young", 3.0, (("o/a", 1.0),), age_days=20)
    register.model("o/dark", None, (("o/a", 1.0),))
    home = register.close()
    measure(home)
    found = estimates(home)
    assert found["opportunity", None, "children_180d", "all"].n == 12  # dark, not young
    assert found["selection_differential", "loss/x", "children_180d", "all"].n == 11
    assert found["opportunity", None, "downloads_30d", "all"].n == 12
    assert found["heritability", "loss/x", None, "all"].n == 9  # young, not dark


def test_downloads_of_copies_count_for_the_original_and_the_floor_is_no_birth(
    register: Register,
) -> None:
    half_inherited(register)
    register.model("o/bcopy", 4.0, (("o/b", 1.0),), kind=Kind.DUPLICATE)
    home = register.close()
    measure(home)
    found = estimates(home)
    # 7 downloads each; o/a and o/b have those of their copies too
    downloads = found["opportunity", None, "downloads_30d", "all"]
    assert downloads.value == pytest.approx(49 * (18 / 121) / (91 / 11) ** 2)
    connection = home.open_working()
    connection.execute(
        "UPDATE snapshot SET created_at = '2022-03-02T23:29:04Z' WHERE repo_id = 'o/c0'"
    )
    connection.close()
    measure(home)
    assert estimates(home)["opportunity", None, "children_180d", "all"].n == 10


def test_sizes_are_compared_on_a_logarithmic_scale_and_the_seed_moves_only_the_p_value(
    register: Register,
) -> None:
    for k in range(9):
        register.model(f"o/f{k}", None, parameters=10 ** (k + 2), likes=k * k)
        register.model(f"o/c{k}", None, ((f"o/f{k}", 1.0),), parameters=10 ** (k + 3))
    home = register.close()
    measure(home)
    slope = estimates(home)["heritability", "log10 parameters", None, "all"]
    assert slope.value == pytest.approx(1.0)
    key = ("selection_differential", "log10 parameters", "likes_per_day", "all")
    one = estimates(home)[key]
    measure(home, seed=1)
    other = estimates(home)[key]
    assert (other.value, other.low, other.high) == (one.value, one.low, one.high)
    assert other.p_value != one.p_value


def test_a_trait_of_two_models_is_no_population_and_sizes_alone_make_no_clade(
    register: Register,
) -> None:
    register.model("o/f", 1.0)
    register.model("o/f0", 2.0, (("o/f", 1.0),))
    for k in range(1, 9):
        register.model(f"o/f{k}", None, (("o/f", 1.0),))
    register.model("o/other", 4.0)
    home = register.close()
    measure(home)
    assert {key[3] for key in estimates(home)} == {"all"}
    connection = home.open_working()
    connection.execute("DELETE FROM trait WHERE repo_id = 'o/other'")
    connection.close()
    measure(home)
    assert {key[1] for key in estimates(home)} == {None, "log10 parameters"}


def test_a_large_clade_is_measured_by_itself_with_its_lines_as_clusters(
    register: Register,
) -> None:
    register.model("o/f", 2.0)
    for k in range(4):
        register.model(f"o/f{k}", 2.0 + k, (("o/f", 1.0),))
        register.model(f"o/f{k}x", 1.0 + (2.0 + k) / 2, ((f"o/f{k}", 1.0),))
    register.model("o/g", 3.0)
    register.model("o/m", 9.0, (("o/g", 0.5), ("o/f", 0.5)))  # of o/g's clade: its first parent
    home = register.close()
    measure(home)
    found = estimates(home)
    clade = found["heritability", "loss/x", None, "o/f"]
    assert (clade.n, clade.n_clusters) == (8, 4)
    assert "one founder's clade" in clade.method
    assert not any(key[3] == "o/g" for key in found)
    everybody = found["heritability", "loss/x", None, "all"]
    assert (everybody.n, everybody.n_clusters) == (9, 2)


def test_claims_make_edges_unless_they_are_ignored(register: Register) -> None:
    for k in range(3):
        register.model(f"o/f{k}", 2.0 + k)
        register.model(f"o/c{k}", 3.0 + k)
        register.claim(f"o/c{k}", f"o/f{k}")
    register.claim("o/c0", "o/f2", ended_at=NOW)  # no longer made
    home = register.close(findings=False)
    assert measure(home).n_edges == 3
    assert estimates(home)["heritability", "loss/x", None, "all"].value == pytest.approx(1.0)
    assert measure(home, ignore_claims=True).n_edges == 0
    assert math.isnan(estimates(home)["heritability", "loss/x", None, "all"].value)


def test_claims_against_the_weights_make_no_edge_and_declared_quantisations_are_copies(
    register: Register,
) -> None:
    for k in range(3):
        register.model(f"o/f{k}", 2.0 + k)
        register.model(f"o/c{k}", 3.0 + k)
        register.claim(f"o/c{k}", f"o/f{k}")
    register.connection.execute(
        "INSERT INTO pair VALUES (1, 'o/c0', 'o/f0', 'unrelated', 0.0, 0.5, 0.0)"
    )
    register.connection.execute("UPDATE claim SET relation = 'quantized' WHERE child = 'o/c1'")
    report = measure(register.close(findings=False))
    assert (report.n_edges, report.n_copies) == (2, 1)


def test_a_parent_outside_the_catalogue_is_a_missing_value(register: Register) -> None:
    half_inherited(register)
    register.model("o/orphan", 9.0, (("far/away", 0.5), ("o/a", 0.5)))
    home = register.close()
    measure(home)
    assert estimates(home)["heritability", "loss/x", None, "all"].n == 8


def test_measuring_twice_keeps_one_set_and_the_same_intervals(register: Register) -> None:
    half_inherited(register)
    home = register.close()
    measure(home)
    first = repr(estimates(home))
    measure(home)
    assert repr(estimates(home)) == first
    connection = home.open_working()
    runs = connection.execute("SELECT stage, finished_at IS NOT NULL FROM run").fetchall()
    assert runs == [("measure", True)] * 2
    assert connection.execute("SELECT DISTINCT run_id FROM estimate").fetchall() == [(2,)]
    connection.close()


def test_an_empty_register_has_nothing_to_measure(register: Register, tmp_path: Path) -> None:
    report = measure(register.close())
    assert report.n_models == 0
    with pytest.raises(NotFoundError, match="crawl"):
        measure(Home(tmp_path / "nowhere"))


def test_estimates_survive_the_store_with_nan_as_null(register: Register) -> None:
    sure = Estimate(0.5, 0.1, 0.9, 0.9, 12, "m", 3, 0.04)
    unsure = Estimate(math.nan, math.nan, math.nan, 0.95, 2, "m; not estimated: why")
    rows = (
        EstimateRow("heritability", "loss/x", None, "all", sure),
        EstimateRow("opportunity", None, "likes_per_day", "all", unsure),
    )
    replace_estimates(register.connection, 1, rows)
    assert repr(read_estimates(register.connection)) == repr(rows)
    count = "SELECT count(*) FROM estimate WHERE value IS NULL AND low IS NULL"
    assert register.connection.execute(count).fetchall() == [(1,)]
    register.close()


def test_the_latest_values_are_read_and_other_scales_kept_apart(register: Register) -> None:
    register.model("o/a", 2.0)
    register.trait("o/a", 9.0, when=NOW - timedelta(days=1))
    register.connection.execute(
        "INSERT INTO snapshot (repo_id, observed_at, status) VALUES ('o/a', ?, 'gone')",
        [NOW + timedelta(days=1)],
    )
    (member,) = read_members(register.connection)
    assert (member.likes, member.parameters) == (1, 1000)
    assert member.observed_at == NOW + timedelta(days=1)
    assert [(t.trait, t.value) for t in read_traits(register.connection)] == [("loss/x", 2.0)]
    register.trait("o/a", 30.0, metric="perplexity")
    assert [(t.trait, t.value) for t in read_traits(register.connection)] == [
        ("loss/x (ce, x)", 2.0),
        ("loss/x (perplexity, x)", 30.0),
    ]
    register.connection.execute(
        "INSERT INTO trait VALUES ('o/a', 'loss/x', 0.2, 'ce', 'x', false, ?, ?, ?)",
        ["ingest:board.csv", REVISION, NOW],
    )
    assert [t.trait for t in read_traits(register.connection)] == [
        "loss/x (ce, x; card)", "loss/x (ce, x; ingest:board.csv)", "loss/x (perplexity, x; card)",
    ]  # fmt: skip
    register.close()
