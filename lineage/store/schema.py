"""Every table and column, declared once: DDL and ``docs/data-model.md`` are made from this.

Two databases share the declarations. The *working* database (``HOME/herdbook.duckdb``) is written
by the pipeline only; the *published* one (``HOME/published/…``) is a compact read-only copy with
columns for drawing and browsing. Claims and findings are append-only and never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "SCHEMA_VERSION", "WORKING", "Column", "Table"]

SCHEMA_VERSION = 7


@dataclass(frozen=True, slots=True)
class Column:
    """One column: DuckDB type (with NOT NULL where it holds) and its meaning."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table; `key` lists the primary key's columns (empty: append-only log).

    Each column of `looked_up` has an index: rows are fetched one by one by its values.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    looked_up: tuple[str, ...] = ()

    def ddl(self) -> str:
        """The CREATE statement."""
        lines = [f'"{column.name}" {column.type}' for column in self.columns]
        if self.key:
            lines.append(f"PRIMARY KEY ({', '.join(self.key)})")
        return f'CREATE TABLE "{self.name}" (' + ", ".join(lines) + ")"


def _table(name: str, doc: str, columns: str, key: str = "", looked_up: str = "") -> Table:
    """Read a declaration of lines ``name | type | meaning``."""
    rows = [
        tuple(part.strip() for part in line.split("|"))
        for line in columns.splitlines()
        if line.strip()
    ]
    named = tuple(Column(*row) for row in rows)
    return Table(name, doc, named, tuple(key.split()), tuple(looked_up.split()))


_SNAPSHOT_COLUMNS = """
    repo_id        | VARCHAR NOT NULL     | owner/name
    revision       | VARCHAR              | commit, 40 hex digits; NULL when the repository could not be read
    observed_at    | TIMESTAMPTZ NOT NULL | when this state was first seen
    status         | VARCHAR NOT NULL     | ok, gated, disabled or gone
    gated          | VARCHAR              | auto or manual: who may read is asked; NULL: open
    author         | VARCHAR              | owner, as the Hub says
    created_at     | TIMESTAMPTZ          | as the Hub says; floor at 2022-03-02T23:29:04Z
    last_modified  | TIMESTAMPTZ          | as the Hub says
    licence        | VARCHAR              | licence, SPDX id or the Hub's word
    licence_name   | VARCHAR              | what a licence of the author's own is called
    library        | VARCHAR              | library_name
    pipeline_tag   | VARCHAR              | task
    languages      | VARCHAR[]            | languages stated
    datasets       | VARCHAR[]            | data sets stated
    tags           | VARCHAR[]            | all tags
    architecture   | VARCHAR              | first of config's architectures, else GGUF's general.architecture
    model_type     | VARCHAR              | config's model_type
    parameters     | BIGINT               | number of stored values over all tensors, as the Hub counts them
    dtype          | VARCHAR              | dtype that most stored values have
    context_length | BIGINT               | tokens of context that the configuration states
    quantisation   | VARCHAR              | method and bits that the configuration states
"""
_COUNT_COLUMNS = """
    downloads_30d  | BIGINT               | rolling 30-day count; never summed over time
    likes          | BIGINT               | at that moment
"""
_READING_COLUMNS = """
    size_bytes     | BIGINT               | sum of file sizes
    n_files        | INTEGER              | number of files
    tokenizer      | VARCHAR              | digest of the tokenizer's files
    card_characters | BIGINT              | length of the model card
    card_completeness | DOUBLE            | share of what a model card should say (docs/traits.md)
"""

RUN = _table(
    "run",
    "Provenance: one row per run of a stage.",
    """
    run_id         | BIGINT NOT NULL      | serial number
    stage          | VARCHAR NOT NULL     | crawl, watch, ingest, fingerprint, infer, measure, behave, publish
    started_at     | TIMESTAMPTZ NOT NULL | UTC
    finished_at    | TIMESTAMPTZ          | NULL: still running or killed
    version        | VARCHAR NOT NULL     | herdbook version
    parameters     | JSON NOT NULL        | arguments of the stage
    environment    | JSON NOT NULL        | Python, platform and package versions
    inputs         | JSON NOT NULL        | digests or counts of what was read
    """,
    "run_id",
)
SNAPSHOT = _table(
    "snapshot",
    "One state of one repository, from observed_at until its next row; never overwritten.",
    _SNAPSHOT_COLUMNS,
)
REPOSITORY = _table(
    "repository",
    "The crawler's ledger: one row per repository ever seen, with what was last done about it.",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name
    first_seen     | TIMESTAMPTZ NOT NULL | when it was first seen
    listed_at      | TIMESTAMPTZ NOT NULL | when it was last seen in a listing, or read
    created_at     | TIMESTAMPTZ          | as the Hub says; the census goes along it
    last_modified  | TIMESTAMPTZ          | as last listed
    revision       | VARCHAR              | commit as last listed
    status         | VARCHAR NOT NULL     | ok, gated, disabled or gone
    state          | UBIGINT              | digest of the latest snapshot; NULL: never listed
    read_revision  | VARCHAR              | commit at which details were last read
    read_at        | TIMESTAMPTZ          | when details were last asked for
    wanted_at      | TIMESTAMPTZ          | when another stage or a person asked for its details
    """,
)
OBSERVATION = _table(
    "observation",
    "Counts of one repository at one moment. Nothing is overwritten; rolling windows are never summed.",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name
    observed_at    | TIMESTAMPTZ NOT NULL | when
    downloads_30d  | BIGINT               | rolling 30-day count; zero may mean "not counted"
    downloads_all_time | BIGINT           | since the beginning, as the Hub counts; has been seen to fall
    likes          | BIGINT               | at that moment
    trending       | DOUBLE               | the Hub's trending score
    source         | VARCHAR NOT NULL     | hub, or the name of an ingested file
    """,
)
READING = _table(
    "reading",
    "What the details of a repository at a commit add to its listing.",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name
    revision       | VARCHAR NOT NULL     | commit
    read_at        | TIMESTAMPTZ NOT NULL | when
    licence        | VARCHAR              | licence of the card's own text, where the Hub states none
    architecture   | VARCHAR              | of config.json or GGUF metadata, where the Hub states none
    """
    + _READING_COLUMNS,
    "repo_id revision",
)
SWEEP = _table(
    "sweep",
    "One walk along a listing, page by page; it goes on where it was interrupted.",
    """
    sweep_id       | BIGINT NOT NULL      | serial number
    kind           | VARCHAR NOT NULL     | census, check (the rotating re-check) or increment
    endpoint       | VARCHAR NOT NULL     | whose listing
    scope          | VARCHAR NOT NULL     | under which its pages stand in the archive
    started_at     | TIMESTAMPTZ NOT NULL | when
    next_url       | VARCHAR              | page to go on with; NULL: through
    n_pages        | BIGINT NOT NULL      | pages entered
    n_records      | BIGINT NOT NULL      | records entered
    newest         | TIMESTAMPTZ          | latest change that was listed: the next increment ends there
    oldest         | TIMESTAMPTZ          | earliest creation that was listed: all after it are listed
    finished_at    | TIMESTAMPTZ          | NULL: not through yet
    """,
    "sweep_id",
)
ALIAS = _table(
    "alias",
    "Old ids that lead to another repository: it was renamed.",
    """
    old_id         | VARCHAR NOT NULL     | id as it was written or known
    new_id         | VARCHAR NOT NULL     | id that the Hub answers with
    seen_at        | TIMESTAMPTZ NOT NULL | when this was seen
    """,
    "old_id",
)
FILE = _table(
    "file",
    "The files of a repository at a commit.",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name
    revision       | VARCHAR NOT NULL     | commit
    path           | VARCHAR NOT NULL     | path inside the repository (text from strangers)
    size_bytes     | BIGINT NOT NULL      | size
    sha256         | VARCHAR              | digest of large files; NULL for small ones
    blob_id        | VARCHAR              | git's object id
    """,
    "repo_id revision path",
)
TEXT = _table(
    "card",
    "The model card's text at a commit: hostile text, never rendered as HTML.",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name
    revision       | VARCHAR NOT NULL     | commit
    card_text      | VARCHAR              | README.md, NULL when absent
    config_text    | VARCHAR              | config.json as text, NULL when absent
    """,
    "repo_id revision",
)
CLAIM = _table(
    "claim",
    "What somebody said about a parent. A claim that is no longer seen keeps its last_seen.",
    """
    child          | VARCHAR NOT NULL     | owner/name
    parent         | VARCHAR              | Hub id the words were resolved to; NULL: unresolved
    parent_text    | VARCHAR NOT NULL     | what was written
    relation       | VARCHAR              | finetune, adapter, quantized, merge; NULL: not said
    source         | VARCHAR NOT NULL     | merge_recipe, adapter_config, gguf_metadata, card, tag, card_recipe, quantisation_config, config, prose
    text           | VARCHAR NOT NULL     | the words it came from
    weight         | DOUBLE               | share stated by a recipe
    method         | VARCHAR              | merge method stated by a recipe
    revision       | VARCHAR NOT NULL     | commit at which it was first seen
    first_seen     | TIMESTAMPTZ NOT NULL | first observation
    last_seen      | TIMESTAMPTZ          | latest observation; NULL while it stands: when its child was last listed
    ended_at       | TIMESTAMPTZ          | first moment at which it was no longer said; NULL: it stands
    """,
)
RECIPE = _table(
    "recipe",
    "A merge recipe that a repository states, whole.",
    """
    child          | VARCHAR NOT NULL     | owner/name
    source         | VARCHAR NOT NULL     | merge_recipe or card_recipe
    position       | INTEGER NOT NULL     | order within the source
    method         | VARCHAR NOT NULL     | merge method
    document       | JSON NOT NULL        | parents, weights, densities, gradients, layer ranges, dtype
    text           | VARCHAR NOT NULL     | the YAML it came from (text from strangers)
    revision       | VARCHAR NOT NULL     | commit at which it was first seen
    first_seen     | TIMESTAMPTZ NOT NULL | first observation
    ended_at       | TIMESTAMPTZ          | first moment at which it was no longer said; NULL: it stands
    """,
)
DOUBT = _table(
    "doubt",
    "Claims that cannot all be true, as of the latest crawl: self-parents, cycles, children older than parents.",
    """
    child          | VARCHAR NOT NULL     | owner/name
    parent         | VARCHAR              | the parent that was claimed
    code           | VARCHAR NOT NULL     | self_parent, cycle, older_than_parent, quantized_full_precision, trained_but_converted, adapter_without_files
    reason         | VARCHAR NOT NULL     | one sentence
    """,
)
PROBLEM = _table(
    "problem",
    "What could not be read, with its reason: one row per repository, stage and path.",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name, or the request when no repository is known
    revision       | VARCHAR              | commit, when known
    stage          | VARCHAR NOT NULL     | crawl, fingerprint, infer
    path           | VARCHAR              | file, when it concerns one
    code           | VARCHAR NOT NULL     | of the error (crawler.errors), or pickle, no_weights, tied, skipped, budget, not_stored, fault, worker
    reason         | VARCHAR NOT NULL     | one sentence
    observed_at    | TIMESTAMPTZ NOT NULL | when
    raw            | VARCHAR              | the text that could not be parsed, cut (text from strangers)
    """,
)
TRAIT = _table(
    "trait",
    "A measured property of a model. Missing is an absent row, never zero.",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name
    name           | VARCHAR NOT NULL     | e.g. loss/python
    value          | DOUBLE NOT NULL      | number
    metric         | VARCHAR NOT NULL     | e.g. cross_entropy
    dataset        | VARCHAR NOT NULL     | what it was measured on
    higher_is_better | BOOLEAN            | NULL: not known
    source         | VARCHAR NOT NULL     | card, or the name of an ingested file
    revision       | VARCHAR NOT NULL     | commit
    observed_at    | TIMESTAMPTZ NOT NULL | when
    """,
)
FINGERPRINT = _table(
    "fingerprint",
    "The ledger of the fingerprint pass: what was read of a model, at what cost, and where it lies (docs/parts.md).",
    """
    repo_id        | VARCHAR NOT NULL     | owner/name
    revision       | VARCHAR NOT NULL     | commit
    scheme         | VARCHAR NOT NULL     | version of the probe plan and of the sketches
    digest         | VARCHAR              | digest of the fingerprint's content; NULL: not read
    format         | VARCHAR              | safetensors, gguf, torch, onnx, adapter
    bytes_read     | BIGINT NOT NULL      | bytes of weights fetched by range, headers included
    requests       | INTEGER NOT NULL     | range requests made
    weight_bytes   | BIGINT NOT NULL      | size of the weight files
    n_tensors      | INTEGER NOT NULL     | tensors in the headers
    seconds        | DOUBLE NOT NULL      | wall-clock time
    made_at        | TIMESTAMPTZ NOT NULL | when
    stage          | INTEGER NOT NULL DEFAULT 3 | how deep: 2, 3, or 4 for everything
    part           | VARCHAR              | part that the fingerprint lies in; NULL: none
    bytes_stored   | BIGINT NOT NULL DEFAULT 0 | bytes of its words and sketches in the part, compressed
    reason         | VARCHAR              | why there is no fingerprint; NULL: there is
    given_up       | VARCHAR[]            | what the budget cost, in sentences
    budget_bytes   | BIGINT               | bytes that reading was allowed to cost
    n_unknown      | INTEGER NOT NULL DEFAULT 0 | tensors whose names no rule knows
    device         | VARCHAR              | where the sketches were computed
    """,
    "repo_id revision scheme",
)
PAIR = _table(
    "pair",
    "The family test of every pair of models that were compared, of the latest inference.",
    """
    run_id         | BIGINT NOT NULL      | inference run
    a              | VARCHAR NOT NULL     | owner/name, a < b
    b              | VARCHAR NOT NULL     | owner/name
    verdict        | VARCHAR NOT NULL     | related, unrelated, common_init, untestable
    statistic      | DOUBLE               | test statistic; NULL when nothing was comparable
    p_value        | DOUBLE               | of the family test
    bit_equality   | DOUBLE               | share of compared words that are equal
    """,
    "run_id a b",
)
FINDING = _table(
    "finding",
    "What the weights show about one model's origin. History is kept: valid_to is NULL for the current one.",
    """
    finding_id     | BIGINT NOT NULL      | serial number
    run_id         | BIGINT NOT NULL      | inference run
    child          | VARCHAR NOT NULL     | owner/name
    kind           | VARCHAR NOT NULL     | founder, duplicate, cast, … (glossary)
    grade          | VARCHAR NOT NULL     | proved, inferred, tie, abstain
    base           | VARCHAR              | base model of a merge or adapter
    method         | VARCHAR              | merge or quantisation method
    rank           | INTEGER              | rank of a low-rank change
    p_value        | DOUBLE               | family test against the nearest parent
    probability    | DOUBLE               | belief in the edge; NULL while uncalibrated
    ties           | VARCHAR[] NOT NULL   | equally good single parents
    evidence       | JSON NOT NULL        | list of {name, value, text}
    recipe_yaml    | VARCHAR              | mergekit recipe that rebuilds the child
    note           | VARCHAR NOT NULL     | one sentence for people
    valid_from     | TIMESTAMPTZ NOT NULL | when this finding was first made
    valid_to       | TIMESTAMPTZ          | when a later run replaced it; NULL: current
    target_modules | VARCHAR[]            | roles of the matrices that a low-rank change touched; NULL: not of low rank
    tokens_kept    | BIGINT               | tokens with the parent's number; NULL: the vocabulary is the parent's
    tokens_renumbered | BIGINT            | tokens with another number than the parent's
    tokens_appended | BIGINT              | tokens that the parent does not have
    tokens_dropped | BIGINT               | tokens that only the parent has
    unseen_ancestor | VARCHAR             | unseen:… , an ancestor that nobody published, between child and parent
    """,
    "finding_id",
)
FINDING_PARENT = _table(
    "finding_parent",
    "The parents of a finding, with shares.",
    """
    finding_id     | BIGINT NOT NULL      | finding
    position       | INTEGER NOT NULL     | 0 is the primary parent
    parent         | VARCHAR NOT NULL     | owner/name
    weight         | DOUBLE NOT NULL      | share of the child
    low            | DOUBLE               | lower bound of the share
    high           | DOUBLE               | upper bound of the share
    """,
    "finding_id position",
)
FINDING_LAYER = _table(
    "finding_layer",
    "Where each layer of the child came from.",
    """
    finding_id     | BIGINT NOT NULL      | finding
    child_layer    | INTEGER NOT NULL     | layer of the child
    parent         | VARCHAR NOT NULL     | owner/name
    parent_layer   | INTEGER NOT NULL     | layer of the parent
    """,
    "finding_id child_layer parent",
)
EDGE_LAYER = _table(
    "edge_layer",
    "A child beside a parent that a finding or a claim names, layer by layer; of the latest inference.",
    """
    child          | VARCHAR NOT NULL     | owner/name
    parent         | VARCHAR NOT NULL     | owner/name
    layer          | INTEGER              | layer of the child; NULL: outside the layers
    parent_layer   | INTEGER              | layer of the parent it was held against; NULL: outside
    n_words        | BIGINT NOT NULL      | values compared; a pair of which nothing compares has one row, of 0
    n_equal        | BIGINT NOT NULL      | of these, equal after decoding
    relative_change | DOUBLE              | ‖C−P‖/‖P‖; NULL: P is zero, or nothing compares
    n_codes        | BIGINT NOT NULL      | of a quantised child: codes asked
    n_replayed     | BIGINT NOT NULL      | of these, codes that the parent's values give
    coefficient    | DOUBLE               | of a merge: this parent's, all parents fitted freely together
    """,
)
EDGE_MATCH = _table(
    "edge_match",
    "Which layer of the parent each layer of the child resembles; of the same pairs.",
    """
    child          | VARCHAR NOT NULL     | owner/name
    parent         | VARCHAR NOT NULL     | owner/name
    roles          | VARCHAR NOT NULL     | matrices whose rows were matched
    layer          | INTEGER NOT NULL     | layer of the child
    z              | FLOAT[] NOT NULL     | statistic of row matching against each layer of the parent; NULL: too few rows
    """,
)
ESTIMATE = _table(
    "estimate",
    "Population statistics of the latest measure run, each with interval, n and method.",
    """
    run_id         | BIGINT NOT NULL      | measure run
    statistic      | VARCHAR NOT NULL     | heritability, selection_differential, opportunity, …
    trait          | VARCHAR              | trait name; NULL for statistics of fitness alone
    fitness        | VARCHAR              | fitness measure, where one is used
    population     | VARCHAR NOT NULL     | all, or the founder whose clade it is
    value          | DOUBLE               | NULL: cannot be trusted, method says why
    low            | DOUBLE               | lower bound
    high           | DOUBLE               | upper bound
    level          | DOUBLE NOT NULL      | coverage of the interval
    n              | BIGINT NOT NULL      | observations
    n_clusters     | BIGINT               | founders or families
    p_value        | DOUBLE               | where a test was made
    method         | VARCHAR NOT NULL     | estimator and its source
    """,
)
REPORT = _table(
    "report",
    "Whole answers as documents, of the latest run that gave them: verdicts, trees of behaviour.",
    """
    run_id         | BIGINT NOT NULL      | the run that made it
    kind           | VARCHAR NOT NULL     | lewontin or behaviour
    name           | VARCHAR NOT NULL     | what it is about: trait, fitness and population; set of prompts
    made_at        | TIMESTAMPTZ NOT NULL | when
    document       | JSON NOT NULL        | what the command prints with --json
    """,
    "kind name",
)

_EDGE = _table(
    "edge",
    "Claim and finding reconciled, one row per child and parent, in order of `child_pos`.",
    """
    child          | VARCHAR NOT NULL     | owner/name
    parent         | VARCHAR NOT NULL     | owner/name (may lie outside the catalogue)
    position       | INTEGER NOT NULL     | 0 is the primary parent, which the drawing follows
    relation       | VARCHAR NOT NULL     | finetune, adapter, quantized, merge
    kind           | VARCHAR              | what the weights show; NULL when only declared
    weight         | DOUBLE               | share of the child; NULL when unknown
    verdict        | VARCHAR NOT NULL     | confirmed, undeclared, contradicted, unverified
    grade          | VARCHAR NOT NULL     | proved, inferred, tie, declared
    p_value        | DOUBLE               | family test
    probability    | DOUBLE               | belief; NULL while uncalibrated
    evidence       | JSON NOT NULL        | list of {name, value, text}
    child_pos      | INTEGER              | pos of the child's model; rows are in its order; NULL: not catalogued
    parent_pos     | INTEGER              | pos of the parent's model; NULL: outside the catalogue
    """,
    looked_up="child_pos parent_pos",
)
_MODEL = Table(
    "model",
    "One row per model: its latest observation and its place in the graph and in the drawing.",
    (
        *_table("", "", _SNAPSHOT_COLUMNS + _COUNT_COLUMNS + _READING_COLUMNS).columns,
        *_table(
            "",
            "",
            """
    kind           | VARCHAR              | kind of the current finding; NULL: weights not read
    grade          | VARCHAR              | grade of the current finding
    note           | VARCHAR              | the finding in one sentence
    primary_parent | VARCHAR              | parent at position 0; NULL: founder or unknown
    founder        | VARCHAR NOT NULL     | end of the chain of primary parents (itself for founders)
    generation     | INTEGER NOT NULL     | longest path from a founder, in edges
    n_parents      | INTEGER NOT NULL     | parents
    n_children     | INTEGER NOT NULL     | children
    n_descendants  | INTEGER NOT NULL     | distinct descendants over all edges
    pos            | INTEGER NOT NULL     | preorder position in the ladderised primary forest
    size           | INTEGER NOT NULL     | clade size: the clade is pos BETWEEN pos AND pos + size - 1
    n_claims       | INTEGER NOT NULL     | declared parents
    n_problems     | INTEGER NOT NULL     | things that could not be read
    """,
        ).columns,
    ),
    ("repo_id",),
    ("pos",),
)
_LARGE_FILE = _table(
    "large_file",
    "The large files of each model at its latest commit, in order of `pos`.",
    """
    pos            | INTEGER NOT NULL     | pos of the model
    path           | VARCHAR NOT NULL     | path inside the repository (text from strangers)
    size_bytes     | BIGINT NOT NULL      | size
    sha256         | VARCHAR NOT NULL     | digest; of small files the Hub tells none
    """,
)
_LICENCE_CONFLICT = _table(
    "licence_conflict",
    "A model whose licence allows more than that of an ancestor: the nearest of each class of terms.",
    """
    child          | VARCHAR NOT NULL     | owner/name
    ancestor       | VARCHAR NOT NULL     | owner/name
    child_class    | VARCHAR NOT NULL     | permissive, copyleft or custom
    ancestor_class | VARCHAR NOT NULL     | copyleft, custom or non_commercial
    n_edges        | INTEGER NOT NULL     | edges between them, along a shortest path of edges that stand
    """,
)
_META = _table(
    "meta",
    "What this publication is: key and value.",
    """
    key            | VARCHAR NOT NULL     | schema_version, data_date, herdbook_version, endpoint, ignore_claims, …
    value          | VARCHAR NOT NULL     | text
    """,
    "key",
)

WORKING: tuple[Table, ...] = (
    RUN, REPOSITORY, SNAPSHOT, OBSERVATION, READING, FILE, TEXT, SWEEP, ALIAS, CLAIM, RECIPE, DOUBT,
    PROBLEM, TRAIT, FINGERPRINT, PAIR,
    FINDING, FINDING_PARENT, FINDING_LAYER, EDGE_LAYER, EDGE_MATCH, ESTIMATE, REPORT,
)  # fmt: skip
"""Tables of the working database, in order of creation."""

PUBLISHED: tuple[Table, ...] = (
    _META, _MODEL, _EDGE, CLAIM, RECIPE, DOUBT, ALIAS, PROBLEM, OBSERVATION, TRAIT, FINGERPRINT,
    PAIR, FINDING, FINDING_PARENT, FINDING_LAYER, EDGE_LAYER, EDGE_MATCH, _LARGE_FILE,
    _LICENCE_CONFLICT, ESTIMATE, REPORT,
)  # fmt: skip
"""Tables of the published database: working tables cut down to what is current, and the graph."""
