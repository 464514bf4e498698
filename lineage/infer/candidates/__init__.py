"""Candidates among millions: for every model the few others that may be its relatives.

A pair test costs a millisecond, so nobody tests all pairs of a million models. What is looked up
instead are *marks* (:mod:`.marks`): digests and word bands that relatives share to the bit, and
short sketches that lie near each other. :func:`find_candidates` joins the ones and searches among
the others at a cost that grows almost linearly (:mod:`.search`). Candidates are a shortlist, no
evidence: whoever stands on it is tested as if every pair had been.

Importing this package imports torch.
"""

from lineage.infer.candidates.marks import Marks, marks_of
from lineage.infer.candidates.search import Candidates, find_candidates

__all__ = ["Candidates", "Marks", "find_candidates", "marks_of"]
