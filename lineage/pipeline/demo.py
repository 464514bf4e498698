"""The demonstration: the whole run on the pocket Hub, and what it found in words."""

from __future__ import annotations

import time
from pathlib import Path

import lineage
from crawler.hub_server import running_hub
from lineage.errors import NotFoundError
from lineage.model import Edge, Evidence, Finding, Grade, Kind, Verdict
from lineage.pipeline.progress import talk
from lineage.pipeline.run import run
from lineage.store import reads
from lineage.store.findings import current_findings
from lineage.store.home import Home
from lineage.store.publish import open_published
from lineage.views.questions import coverage

__all__ = ["demo", "found_lines", "pocket_folder"]

_MERGE_EXAMPLES = 3


def pocket_folder() -> Path:
    """The pocket Hub of this checkout.

    Raises
    ------
    NotFoundError
        If the package was installed without it.
    """
    for root in (Path(lineage.__file__).resolve().parent.parent, Path.cwd()):
        folder = root / "data" / "pocket"
        if (folder / "truth.json").is_file():
            return folder
    raise NotFoundError("the pocket Hub (data/pocket) is not here; run the demo from a checkout")


def demo(home: Home) -> list[str]:
    """Run everything on the pocket Hub into `home`; returns what was found, in words.

    Raises
    ------
    HerdbookError
        If the home cannot be used.
    """
    folder = pocket_folder()
    home.prepare()
    started = time.monotonic()
    with running_hub(folder) as endpoint:
        talk(f"pocket Hub at {endpoint}")
        run(home, endpoint)
    return [*found_lines(home), f"{time.monotonic() - started:.0f} s from Hub to publication"]


def found_lines(home: Home) -> list[str]:
    """What the current publication of `home` shows, in a few lines."""
    connection = open_published(home)
    try:
        seen = coverage(connection)
        edges = reads.edges(connection)
        findings = current_findings(connection)
    finally:
        connection.close()
    share = 100 * seen.bytes_read / seen.weight_bytes if seen.weight_bytes else 0.0
    lines = [
        f"{seen.n_models} models, {seen.n_fingerprinted} of them read:"
        f" {seen.bytes_read / 1e6:.1f} MB of {seen.weight_bytes / 1e6:.1f} MB of weights"
        f" ({share:.0f} %)",
        f"{seen.n_claims} declarations; of {seen.n_edges} edges {seen.n_confirmed} confirmed,"
        f" {seen.n_undeclared} undeclared, {seen.n_contradicted} contradicted,"
        f" {seen.n_unverified} unverified",
    ]
    lines += _undeclared_lines(edges)
    lines += _merge_lines(findings)
    lines += _contradiction_lines(edges)
    return lines


def _undeclared_lines(edges: tuple[Edge, ...]) -> list[str]:
    hidden = [edge for edge in edges if edge.verdict is Verdict.UNDECLARED]
    if not hidden:
        return []
    single = [edge for edge in hidden if edge.relation != "merge"] or hidden
    shown = min(single, key=lambda edge: (edge.grade is Grade.TIE, edge.p_value or 0.0, edge.child))
    return [
        f"{len(hidden)} parents that nobody declared, such as",
        f"  {shown.child} ← {shown.parent} ({shown.kind}, {shown.grade})",
    ]


def _merge_lines(findings: tuple[Finding, ...]) -> list[str]:
    merges = [one for one in findings if one.kind is Kind.MERGE and len(one.parents) > 1]
    proved = [one for one in merges if one.grade is Grade.PROVED]
    if not merges:
        return []
    lines = [f"{len(merges)} merges unmixed, {len(proved)} of them replayed bit by bit, such as"]
    for merge in (proved or merges)[:_MERGE_EXAMPLES]:
        shares = " + ".join(f"{share.weight:.3f} {share.parent}" for share in merge.parents)
        lines.append(f"  {merge.child} = {merge.method or 'merge'}({shares})")
    return lines


def _contradiction_lines(edges: tuple[Edge, ...]) -> list[str]:
    wrong = [edge for edge in edges if edge.verdict is Verdict.CONTRADICTED]
    return [
        f"contradicted: {edge.child} is declared to come from {edge.parent}; {_reason(edge).text}"
        for edge in wrong[:_MERGE_EXAMPLES]
    ]


def _reason(edge: Edge) -> Evidence:
    return edge.evidence[-1]
