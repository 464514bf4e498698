"""What was declared of models against what their weights show, from the published database."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from lineage.errors import NotFoundError
from lineage.explorer.words import KIND_WORDS, SOURCE_WORDS, p_words, plural
from lineage.pipeline.show import require_detail
from lineage.store.home import Home
from lineage.store.publish import open_published
from lineage.views import questions
from lineage.views.rulings import AuditLine, ModelAudit, Ruling

__all__ = ["COLUMNS", "AuditReport", "audit"]

COLUMNS = ("model", "verdict", "parent", "declared by", "finding", "why", "evidence")
"""Columns of :meth:`AuditReport.rows`."""
_AT_ONCE = 1000
_INDENT = "  "
_NARROWEST = 40
_HELD = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The audits of some models of one publication; `strict` widens what counts as objection."""

    data_date: str
    strict: bool
    models: tuple[ModelAudit, ...]

    @property
    def n_objections(self) -> int:
        """Lines that object, over all models."""
        return sum(len(model.objections(strict=self.strict)) for model in self.models)

    @property
    def verdicts(self) -> Mapping[str, int]:
        """Number of lines by verdict, gravest first; all verdicts are there."""
        counted = Counter(line.ruling for model in self.models for line in model.lines)
        return {str(ruling): counted[ruling] for ruling in Ruling}

    def to_dict(self) -> dict[str, object]:
        """The report as documented in ``docs/commands.md``."""
        return {
            "data_date": self.data_date,
            "strict": self.strict,
            "n_models": len(self.models),
            "n_objections": self.n_objections,
            "verdicts": dict(self.verdicts),
            "models": [self._model(model) for model in self.models],
        }

    def _model(self, model: ModelAudit) -> dict[str, object]:
        objections = model.objections(strict=self.strict)
        lines = []
        for line in model.lines:
            fields = asdict(line)
            lines.append(
                {
                    "parent": fields.pop("parent"),
                    "parent_text": fields.pop("parent_text"),
                    "verdict": str(fields.pop("ruling")),
                    "is_objection": line in objections,
                    **{key: value for key, value in fields.items() if key != "child"},
                }
            )
        return {
            "model": model.model,
            "status": model.status,
            "kind": model.kind,
            "grade": model.grade,
            "note": model.note,
            "n_objections": len(objections),
            "lines": lines,
        }

    def rows(self) -> list[tuple[str, ...]]:
        """One row for each line, in order of :data:`COLUMNS`."""
        return [
            (
                line.child,
                _words(line),
                line.parent or line.parent_text,
                _sources(line),
                _finding(line),
                line.sentence,
                "; ".join(fact.text for fact in line.evidence),
            )
            for model in self.models
            for line in model.lines
        ]

    def lines(self, width: int) -> list[str]:
        """The same for people: a block for each model, wrapped at `width` where words allow.

        Of several models those about which there is nothing to say are left out.
        """
        lines: list[str] = []
        for model in self.models:
            if model.lines or len(self.models) == 1:
                lines += [*_block(model, width), ""]
        return lines[:-1]

    @property
    def summary(self) -> str:
        """Counts in one sentence."""
        counts = [f"{n:,} {name.replace('_', ' ')}" for name, n in self.verdicts.items() if n]
        return f"{plural(len(self.models), 'model')}, {plural(self.n_objections, 'objection')}" + (
            f": {', '.join(counts)}" if counts else ""
        )


def audit(
    home: Home,
    models: Sequence[str] = (),
    *,
    author: str = "",
    strict: bool = False,
) -> AuditReport:
    """Compare what was declared of models with what their weights show.

    Parameters
    ----------
    home
        Whose current publication is read.
    models
        Names. Empty: all models, or all of `author`, those with the gravest rulings first.
    author
        Owner, where no `models` are named; empty: any.
    strict
        Whether undeclared and unverifiable parents count as objections.

    Raises
    ------
    NotFoundError
        If nothing was published, the publication left out what was declared, a model is unknown
        (names similar ones), or no model is of `author`.
    """
    connection = open_published(home)
    try:
        publication = questions.publication(connection)
        if publication.get("ignore_claims") == "true":
            raise NotFoundError(
                f"the publication in {home.root} leaves out what was declared; run `herdbook infer`"
                " and `herdbook publish` without --ignore-claims"
            )
        wanted = list(dict.fromkeys(models)) or list(questions.model_names(connection, author))
        if author and not wanted:
            raise NotFoundError(f"no model of {author} in {home.root}")
        audited: list[ModelAudit] = []
        for start in range(0, len(wanted), _AT_ONCE):
            audited += questions.audit_models(connection, wanted[start : start + _AT_ONCE])
        known = {one.model for one in audited}
        for name in wanted:
            if name not in known:
                require_detail(connection, home, name)  # says so, and names similar ones
        if not models:
            audited.sort(key=lambda one: (one.severity, one.model))
        return AuditReport(publication.get("data_date", ""), strict, tuple(audited))
    finally:
        connection.close()


def _words(line: AuditLine) -> str:
    return str(line.ruling).replace("_", " ")


def _sources(line: AuditLine) -> str:
    return ", ".join(dict.fromkeys(SOURCE_WORDS.get(s.source, s.source) for s in line.declared))


def _finding(line: AuditLine) -> str:
    if line.grade is None:
        return "weights not read"
    parts = [KIND_WORDS.get(line.kind or "", line.kind or ""), line.grade]
    if line.p_value is not None:
        parts.append(p_words(line.p_value))
    if line.probability is not None:
        parts.append(f"probability {line.probability:.3f}")
    return ", ".join(parts)


def _block(model: ModelAudit, width: int) -> list[str]:
    if not model.lines:
        shown = "the weights show none" if model.kind else "the weights were not read"
        return [f"{model.model}: nobody declared a parent, and {shown}"]
    told: list[str] = []
    for line in model.lines:
        by = f" Declared by {_sources(line)}." if line.declared else ""
        told += _wrapped(f"{_words(line)}: {line.sentence}{by}", width)
    said = " ".join(line.sentence for line in model.lines)
    facts = [fact.text for line in model.lines for fact in line.evidence]
    evidence = dict.fromkeys(fact for fact in facts if fact not in said)
    if evidence:
        told += _wrapped(f"evidence: {'; '.join(evidence)}", width)
    return [f"{model.model} ({_finding(model.lines[0])})", *told]


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(
        text.replace(" %", _HELD + "%"),
        max(width, _NARROWEST),
        initial_indent=_INDENT,
        subsequent_indent=2 * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_HELD, " ") for line in lines]
