"""What was declared of a model against what its weights show, claim by claim.

Kinship is judged in one place, :mod:`lineage.infer.reconcile`, whose edges are taken as they are.
Here is added what an edge does not say: why a claim stays open, whether the relation was named
rightly, whether a merge names all its parents, and whether a "fine-tune" is a mere copy.

An objection needs a finding that is proved or inferred, or the family test.
What the Hub fills in by itself is nobody's word: the tags ``finetune`` and ``merge`` stand wherever
a card gives no relation, and ``general.base_model`` of a GGUF file is copied from another's card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crawler.records import ClaimSource
from lineage.infer.declared import Declared, declarations
from lineage.infer.quantised import CODES_MISSED, TENSORS_OF
from lineage.infer.reconcile import generations, remark_on
from lineage.model import Evidence, Grade, Kind, Relation, Verdict
from lineage.views.rows import ClaimRow, EdgeRow, FindingRow, ModelCard
from lineage.views.rulings import (
    SEVERITY,
    AuditLine,
    Declaration,
    Facts,
    ModelAudit,
    Reason,
    Ruling,
)
from lineage.views.words import KIND_WORDS

__all__ = ["audit_model", "found_instead"]

_DECIDED = frozenset({Grade.PROVED, Grade.INFERRED})
_MERGES = frozenset({Kind.MERGE, Kind.PASSTHROUGH, Kind.MOE})
_COPIES = frozenset({Kind.DUPLICATE, Kind.CAST, Kind.PERMUTED})
_CONVERTED = frozenset({Kind.DUPLICATE, Kind.CAST})
_FILLED_IN = frozenset({Relation.FINETUNE, Relation.MERGE})
_OWN_WORDS = frozenset({Reason.NOT_TRIED, Reason.OPEN_ABOVE, Reason.LATER_THAN_CHILD, Reason.BASE})
"""Reasons that reconciliation gave, in words of its own."""
_COPIED_METADATA = "general.base_model"
_PHRASES: Mapping[str | None, str] = {
    Relation.FINETUNE: "a fine-tune of",
    Relation.ADAPTER: "an adapter of",
    Relation.QUANTIZED: "a quantisation of",
    Relation.MERGE: "a merge with",
}


def found_instead(edge: EdgeRow, finding: FindingRow | None) -> tuple[str, ...]:
    """Parents that the weights show in place of a contradicted one."""
    if finding is None or edge.verdict != Verdict.CONTRADICTED:
        return ()
    return tuple(share.parent for share in finding.parents)


def audit_model(facts: Facts) -> ModelAudit:
    """Judge every claim about a model, and every parent that its weights show.

    Parameters
    ----------
    facts
        Of one model. Claims and edges are those of one publication: a claim without an edge is one
        that :func:`lineage.infer.reconcile.reconcile` made a remark of.

    Returns
    -------
    ModelAudit
        One line for each declared or found parent, and for each claim that names none.
    """
    case = _Case(facts, {one.parent: one for one in _declared(facts)})
    lines = [*case.edge_lines(), *case.remark_lines(), *case.other_lines()]
    finding = facts.finding
    return ModelAudit(
        facts.card.repo_id,
        facts.card.status,
        finding.kind if finding else None,
        finding.grade if finding else None,
        finding.note if finding else "",
        tuple(sorted(lines, key=lambda line: SEVERITY[line.ruling])),
    )


def _declared(facts: Facts) -> tuple[Declared, ...]:
    return declarations(facts.claims).get(facts.card.repo_id, ())


def _stated(declared: Declared) -> tuple[str, ...]:
    """Relations that somebody wrote, most trusted source first."""
    return tuple(
        claim.relation
        for claim in declared.claims
        if claim.relation
        and not (claim.source == ClaimSource.TAG and claim.relation in _FILLED_IN)
        and not (
            claim.source == ClaimSource.GGUF_METADATA and claim.text.startswith(_COPIED_METADATA)
        )
    )


def _phrase(declared: Declared) -> str:
    """The claim in words: "Declared as a fine-tune of a/b"."""
    if declared.is_base:
        return f"Declared as the base of this merge: {declared.parent}"
    word = next(iter(_stated(declared)), None) or next(
        (c.relation for c in declared.claims if c.source == ClaimSource.TAG and c.relation), None
    )
    return f"Declared as {_PHRASES.get(word, 'made from')} {declared.parent}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _told(edge: EdgeRow) -> tuple[Evidence, ...]:
    """Evidence of an edge without the claim, which stands beside it."""
    return tuple(fact for fact in edge.evidence if fact.name != "claim")


@dataclass(frozen=True, slots=True)
class _Case:
    """One model under audit; `said` holds its claims by parent."""

    facts: Facts
    said: Mapping[str, Declared]

    # -- lines ----------------------------------------------------------------------------------

    def edge_lines(self) -> list[AuditLine]:
        return [self._of_edge(edge) for edge in self.facts.edges]

    def remark_lines(self) -> list[AuditLine]:
        """Claims of an ancestor or of a base: they made no edge, but a remark on one."""
        have_edges = {edge.parent for edge in self.facts.edges}
        return [
            self._of_remark(declared)
            for parent, declared in self.said.items()
            if parent not in have_edges
        ]

    def other_lines(self) -> list[AuditLine]:
        """Claims that name the model itself, or no repository."""
        lines: dict[tuple[str | None, str], list[ClaimRow]] = {}
        for claim in self.facts.claims:
            if claim.parent is None or claim.parent == self.facts.card.repo_id:
                key = (claim.parent, "" if claim.parent else claim.parent_text)
                lines.setdefault(key, []).append(claim)
        made = []
        for (parent, _), claims in lines.items():
            text = claims[0].parent_text
            reason = Reason.UNRESOLVED if parent is None else Reason.ITSELF
            words = "words that mean no repository" if parent is None else "the model itself"
            sentence = f"Declared as made from {text}: {words}."
            made.append(
                self._line(
                    parent, Ruling.UNVERIFIABLE, sentence, reason, (), text=text, claims=claims
                )
            )
        return made

    def _line(
        self,
        parent: str | None,
        ruling: Ruling,
        sentence: str,
        reason: str | None,
        evidence: Sequence[Evidence],
        *,
        weight: float | None = None,
        text: str | None = None,
        claims: Sequence[ClaimRow] = (),
    ) -> AuditLine:
        declared = self.said.get(parent or "")
        finding = self.facts.finding
        said = claims or (declared.claims if declared else ())
        doubts = self.facts.doubts.get((parent or "").lower(), ()) if said else ()
        return AuditLine(
            self.facts.card.repo_id,
            parent,
            text or parent or "",
            ruling,
            reason,
            sentence,
            tuple(Declaration(str(one.source), one.relation, one.text) for one in said),
            finding.kind if finding else None,
            finding.grade if finding else None,
            weight,
            finding.p_value if finding else None,
            finding.probability if finding else None,
            (*evidence, *doubts),
        )

    def _of_edge(self, edge: EdgeRow) -> AuditLine:
        if edge.verdict == Verdict.UNDECLARED:
            return self._unsaid(edge)
        declared = self.said.get(edge.parent) or Declared(edge.child, edge.parent, ())
        if edge.verdict == Verdict.CONTRADICTED:
            return self._refuted(edge, declared)
        if edge.verdict == Verdict.UNVERIFIED:
            return self._open(edge, declared)
        return self._agreed(edge, declared)

    # -- declared and found ---------------------------------------------------------------------

    def _agreed(self, edge: EdgeRow, declared: Declared) -> AuditLine:
        unfaithful = self._unfaithful(declared)
        if unfaithful is not None:
            return unfaithful
        kind = KIND_WORDS.get(edge.kind or "", edge.kind)
        ruling, reason = self._of_relation(edge, declared), None
        if ruling is Ruling.MISLABELLED_COPY:
            sentence = f"{_phrase(declared)}, but it is a copy: {self._copy_words(edge)}."
        elif ruling is Ruling.WRONG_RELATION:
            sentence = f"{_phrase(declared)}; that is the parent, but the weights show: {kind}."
        elif edge.grade == Grade.TIE:
            reason, ties = Reason.TIE, self.facts.finding.ties if self.facts.finding else ()
            sentence = f"{_phrase(declared)}, one of several that fit equally: {_listed(ties)}."
        else:
            same = next((fact.text for fact in edge.evidence if fact.name == "equivalent"), "")
            sentence = f"{_phrase(declared)}; {same or f'the weights agree ({kind})'}."
        return self._line(
            edge.parent, ruling, sentence, reason, _told(edge), weight=edge.weight
        )  # fmt: skip

    def _of_relation(self, edge: EdgeRow, declared: Declared) -> Ruling:
        """Whether the words for a confirmed edge fit; one that fits is enough."""
        stated = set(_stated(declared))
        excluded = self._excluded(edge, declared)
        if edge.grade not in _DECIDED or not stated or not stated <= excluded:
            return Ruling.CONFIRMED
        if edge.kind in _COPIES and stated & _FILLED_IN:
            return Ruling.MISLABELLED_COPY
        return Ruling.WRONG_RELATION

    def _excluded(self, edge: EdgeRow, declared: Declared) -> frozenset[str]:
        """Relations that the weights exclude for a decided edge.

        Only what replays word for word excludes training and merging: a quantisation that is merely
        likely may be one of an unpublished fine-tune, a likely merge may have been trained on.
        """
        proved = edge.grade == Grade.PROVED
        words: set[str] = set()
        if edge.kind != Kind.ADAPTER and all(
            claim.source != ClaimSource.ADAPTER_CONFIG for claim in declared.claims
        ):
            words.add(Relation.ADAPTER)
        if edge.kind != Kind.QUANTIZED and not self._may_be_quantised(edge):
            words.add(Relation.QUANTIZED)
        if edge.kind == Kind.ADAPTER or (edge.kind == Kind.QUANTIZED and proved):
            words.add(Relation.MERGE)
        if proved and edge.kind in _MERGES | _COPIES | {Kind.QUANTIZED}:
            words.add(Relation.FINETUNE)
        if proved and edge.kind in _COPIES and self._n_merged() > 1:
            words.add(Relation.MERGE)
        return frozenset(words)

    def _may_be_quantised(self, edge: EdgeRow) -> bool:
        """Whether a model that was not found quantised can be called so all the same.

        Its parent may be; and of a repository of several files one was read, which may be the
        converted but unquantised one, unless the crawl saw that all are of full precision.
        """
        parent = self.facts.named.get(edge.parent)
        if parent is not None and parent.kind == Kind.QUANTIZED:
            return True
        doubts = self.facts.doubts.get(edge.parent.lower(), ())
        return edge.kind in _CONVERTED and all(
            doubt.name != "quantized_full_precision" for doubt in doubts
        )

    def _n_merged(self) -> int:
        """How many parents are declared as parents of a merge."""
        return sum(Relation.MERGE in _stated(declared) for declared in self.said.values())

    def _copy_words(self, edge: EdgeRow) -> str:
        """What makes a copy one, and what is not known of it."""
        words = next((fact.text for fact in _told(edge)), KIND_WORDS[edge.kind or ""])
        note = self.facts.finding.note if self.facts.finding else ""
        return f"{words} ({note})" if note else words

    # -- found only -----------------------------------------------------------------------------

    def _unsaid(self, edge: EdgeRow) -> AuditLine:
        kind = KIND_WORDS.get(edge.kind or "", edge.kind)
        finding, reason = self.facts.finding, None
        confirmed = [e.parent for e in self.facts.edges if e.verdict == Verdict.CONFIRMED]
        trained = self._refuted_training(edge)
        is_short = edge.kind in _MERGES and edge.grade in _DECIDED and bool(confirmed)
        if is_short and not self._is_covered(edge) and not self._has_open():
            ruling = Ruling.MISSING_PARENT
            share = "" if edge.weight is None else f" with a share of {edge.weight:.2f}"
            sentence = (
                f"The weights show {edge.parent} as a parent of this {kind}{share}; what was "
                f"declared names only {_listed(confirmed)}."
            )
        elif trained is not None:
            ruling = Ruling.MISLABELLED_COPY
            sentence = (
                f"{_phrase(trained)}, but it is a copy of {edge.parent}, which nobody declared: "
                f"{self._copy_words(edge)}."
            )
        else:
            ruling = Ruling.UNDECLARED
            note = f"; {finding.note}" if finding is not None and finding.note else ""
            sentence = (
                f"The weights show {edge.parent} as parent ({kind}{note}); nobody declared it."
            )
            if edge.grade == Grade.TIE and finding is not None and len(finding.ties) > 1:
                reason = Reason.TIE
                sentence = (
                    f"The weights show one of {_listed(finding.ties)} as parent ({kind}) and "
                    "cannot tell which; none was declared."
                )
        return self._line(edge.parent, ruling, sentence, reason, _told(edge), weight=edge.weight)

    def _refuted_training(self, edge: EdgeRow) -> Declared | None:
        """The claim of training that an undeclared copy makes a lie, if any.

        Of two models with the same words either may be the original, so only a cast tells that
        this one is the copy. And what it repeats may itself descend from the declared parent,
        unless the weights refuted that.
        """
        if edge.kind != Kind.CAST or edge.grade != Grade.PROVED:
            return None
        refuted = {
            other.parent
            for other in self.facts.edges
            if other.verdict == Verdict.CONTRADICTED and not self._closes_a_mere_circle(other)
        }
        trained = [one for one in self.said.values() if Relation.FINETUNE in _stated(one)]
        if not trained or any(one.parent not in refuted for one in trained):
            return None
        return trained[0]

    def _is_covered(self, edge: EdgeRow) -> bool:
        """Whether a declared ancestor stands above a found parent: its line was named."""
        return any(
            (remark := remark_on(edge.evidence, parent)) is not None
            and remark.name == "declared_ancestor"
            for parent in self.said
        )

    def _has_open(self) -> bool:
        """Whether a declared parent could not be checked: it may be what the weights show."""
        return any(
            edge.verdict == Verdict.UNVERIFIED or self._closes_a_mere_circle(edge)
            for edge in self.facts.edges
            if (declared := self.said.get(edge.parent)) is None or not declared.is_base
        ) or any(claim.parent is None for claim in self.facts.claims)

    # -- declared only --------------------------------------------------------------------------

    def _closes_a_mere_circle(self, edge: EdgeRow) -> bool:
        """Whether a claim was refused for a circle that rests on other claims or ties."""
        return edge.verdict == Verdict.CONTRADICTED and any(
            fact.name == Reason.CYCLE for fact in edge.evidence
        )

    def _refuted(self, edge: EdgeRow, declared: Declared) -> AuditLine:
        told = _told(edge)
        why = told[0] if told else Evidence("other", None, "the weights disagree")
        if self._closes_a_mere_circle(edge):
            sentence = f"{_phrase(declared)}, but {why.text}: not all of it can be true."
            return self._line(
                edge.parent, Ruling.UNVERIFIABLE, sentence, Reason.CYCLE, told
            )  # fmt: skip
        finding = self.facts.finding
        facts = finding.evidence if finding else ()
        instead = found_instead(edge, finding)
        words = why.text
        if instead and why.name == "unrelated":
            words += f"; the weights show {_listed(instead)} instead"
        if instead and finding is not None and finding.kind in _COPIES:
            words += f", word for word: {next((f.text for f in facts), KIND_WORDS[finding.kind])}"
        ruling = Ruling.CONTRADICTED
        sentence = f"{_phrase(declared)}; {words}."
        is_quantised = finding is not None and finding.kind == Kind.QUANTIZED
        if is_quantised and Relation.QUANTIZED in _stated(declared):
            ruling = Ruling.UNFAITHFUL_QUANTISATION
            codes = next((f.text for f in facts if f.name == "codes_replayed"), "")
            other = codes if instead and codes else "no other model is known to give its codes"
            sentence = (
                f"{_phrase(declared)}, but the codes do not come from it: {why.text}; {other}."
            )
        return self._line(edge.parent, ruling, sentence, why.name, (*told, *facts))

    def _tensors(self) -> str:
        """How many tensors of a quantised model have the codes of which model; empty: of one."""
        facts = self.facts.finding.evidence if self.facts.finding else ()
        return "; ".join(fact.text for fact in facts if fact.name.startswith(TENSORS_OF))

    def _unfaithful(self, declared: Declared) -> AuditLine | None:
        """A declared quantisation whose codes are not the declared model's, though nobody's alone.

        Only where the model was held against the codes, and codes of this type follow from values.
        """
        finding = self.facts.finding
        if (
            finding is None
            or finding.kind != Kind.QUANTIZED
            or Relation.QUANTIZED not in _stated(declared)
        ):
            return None
        missed = next(
            (f for f in finding.evidence if f.name == f"{CODES_MISSED}{declared.parent}"), None
        )
        mixed = len(finding.parents) > 1
        if missed is None and not mixed:
            return None
        why = f"its codes come from several models: {self._tensors()}"
        if not mixed and missed is not None:
            why = f"the codes do not come from it: {missed.text}; {finding.note}"
        return self._line(
            declared.parent,
            Ruling.UNFAITHFUL_QUANTISATION,
            f"{_phrase(declared)}, but {why}.",
            "codes",
            finding.evidence,
        )

    def _open(self, edge: EdgeRow, declared: Declared) -> AuditLine:
        unfaithful = self._unfaithful(declared)
        if unfaithful is not None:
            return unfaithful
        reason, why = self._why_open(edge, declared)
        finding = self.facts.finding
        return self._line(
            edge.parent,
            Ruling.UNVERIFIABLE,
            f"{_phrase(declared)}; {why}.",
            reason,
            finding.evidence if finding else (),
        )

    def _why_open(self, edge: EdgeRow, declared: Declared) -> tuple[Reason, str]:
        """Why reconciliation left a claim open, as far as the publication tells."""
        finding, child = self.facts.finding, self.facts.card
        parent = self.facts.named.get(edge.parent)
        told = _told(edge)
        if finding is None:
            return Reason.UNREAD, self._unread(child)
        if parent is None:
            return Reason.PARENT_NOT_CATALOGUED, "it is not in the register"
        if parent.kind is None:
            return Reason.PARENT_UNREAD, self._unread(parent)
        if parent.kind == Kind.ADAPTER:
            return Reason.PARENT_ADAPTER, "it is an adapter, which holds no whole model"
        if finding.kind == Kind.ADAPTER and not finding.parents:
            return Reason.ADAPTER, finding.note or "an adapter alone cannot tell its base"
        if finding.grade == Grade.ABSTAIN:
            return Reason.ABSTAINED, finding.note or "the weights do not decide"
        if finding.grade == Grade.TIE:
            return Reason.TIE, f"the weights fit {_listed(finding.ties)} equally"
        if told and told[-1].name in _OWN_WORDS:
            return Reason(told[-1].name), told[-1].text
        names = _listed([share.parent for share in finding.parents])
        if finding.kind in _MERGES:
            return Reason.OPEN_MERGE, f"the weights show {names}, but not whether that is all"
        if finding.parents and declared.relation == Relation.MERGE:
            return (
                Reason.NEAR_BASE,
                f"the weights show {names} alone, but a merge of many can come that near to a base",
            )
        if not finding.parents:
            return Reason.UNDECIDED, "the weights show no parent, and do not exclude this one"
        return Reason.UNDECIDED, told[-1].text if told else "the weights could not decide"

    def _unread(self, card: ModelCard) -> str:
        """That weights were not read, and why."""
        why = self.facts.unread.get(card.repo_id, "")
        if card.status != "ok":
            why = f"the repository is {card.status}"
        return f"the weights of {card.repo_id} were not read" + (f" ({why})" if why else "")

    def _of_remark(self, declared: Declared) -> AuditLine:
        facts = [fact for edge in self.facts.edges for fact in edge.evidence]
        remark = remark_on(facts, declared.parent)
        if remark is None:
            sentence = f"{_phrase(declared)}; the weights could not decide."
            return self._line(
                declared.parent, Ruling.UNVERIFIABLE, sentence, Reason.UNDECIDED, ()
            )  # fmt: skip
        if remark.name == "declared_base":
            where, reason = "is the base of the merge", "base"
        else:
            n = round(remark.value or 0)
            where, reason = f"stands {generations(n)} above it in the register", "ancestor"
        sentence = f"{_phrase(declared)}, which {where}."
        return self._line(declared.parent, Ruling.ANCESTOR, sentence, reason, (remark,))
