"""The lines from two models up to a common ancestor, as one SVG. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Sequence

from lineage.explorer.drawing import shape
from lineage.explorer.markup import Markup, address, tag
from lineage.explorer.palette import STYLE
from lineage.explorer.words import RELATION_WORDS, VERDICT_WORDS, plural, short
from lineage.views.comparison import Meeting, PathEdge

__all__ = ["draw_meeting"]

_WIDTH = 640
_ROW = 46
_TOP = 24
_CHARACTERS = 36


def draw_meeting(meeting: Meeting, edges: Sequence[PathEdge]) -> Markup:
    """The ancestor on top, the line to the first model on the left, to the second on the right.

    Where one model is the ancestor itself there is one line. Names and edges are links.
    """
    by_pair = {(edge.child, edge.parent): edge for edge in edges}
    lines = [line for line in (meeting.line_a, meeting.line_b) if len(line) > 1]
    xs = [40.0] if len(lines) < 2 else [40.0, _WIDTH / 2 + 30]
    top_x = xs[0] if len(lines) < 2 else _WIDTH / 2 - 60
    drawn_edges: list[Markup] = []
    nodes = [_node(meeting.ancestor, "founder", top_x, _TOP, 60)]
    for x, line in zip(xs, lines, strict=False):
        longest = 60 if len(lines) < 2 else _CHARACTERS
        at = (top_x, float(_TOP))
        for depth, child in enumerate(line[-2::-1], start=1):
            parent = line[len(line) - depth]
            here = (x, _TOP + depth * float(_ROW))
            edge = by_pair.get((child, parent))
            drawn_edges.append(_edge(child, parent, edge, at, here))
            relation = edge.relation if edge is not None else "unknown"
            nodes.append(_node(child, relation, *here, longest))
            at = here
    depth = max((len(line) for line in lines), default=1)
    words = f"{meeting.ancestor} is the meeting point of {plural(meeting.n_edges, 'edge')}: " + (
        "; ".join(" from ".join(line) for line in lines)
    )
    return tag(
        "svg",
        tag("title", words),
        Markup(f"<style>{STYLE}</style>"),
        tag("g", *drawn_edges, class_="edges"),
        tag("g", *nodes, class_="nodes"),
        xmlns="http://www.w3.org/2000/svg",
        class_="hb",
        viewBox=f"0 0 {_WIDTH} {_TOP + depth * _ROW}",
        width=_WIDTH,
        height=_TOP + depth * _ROW,
        role="group",
        aria_label=words,
        style="min-width:520px",
    )


def _node(repo_id: str, relation: str, x: float, y: float, longest: int) -> Markup:
    target = address("lineage", model=repo_id)
    return tag(
        "g",
        tag("title", repo_id),
        tag("rect", x=f"{x - 14:.0f}", y=f"{y - 14:.0f}", width="28", height="28", rx="6",
            class_="target"),
        shape(relation, x, y, 6.5, class_="mark"),
        tag("text", short(repo_id, longest), x=f"{x + 14:.0f}", y=f"{y + 4:.0f}", class_="label"),
        class_=f"n r-{relation}",
        tabindex="0",
        role="link",
        aria_label=f"Lineage of {repo_id}",
        data_go=target,
        data_id=repo_id,
    )  # fmt: skip


_Point = tuple[float, float]


def _edge(child: str, parent: str, edge: PathEdge | None, above: _Point, here: _Point) -> Markup:
    (px, py), (cx, cy) = above, here
    bend = py + _ROW / 2
    d = f"M{px:.0f} {py + 8:.0f}V{bend:.0f}H{cx:.0f}V{cy - 9:.0f}"
    verdict = edge.verdict if edge is not None else "unverified"
    relation = RELATION_WORDS.get(edge.relation, edge.relation) if edge is not None else ""
    words = f"{child} from {parent} ({relation}). {VERDICT_WORDS.get(verdict, '')}"
    target = address("evidence", child=child, parent=parent)
    return tag(
        "g",
        tag("title", words),
        tag("path", d=d, class_="line"),
        tag("path", d=d, style="stroke:transparent;stroke-width:14;fill:none"),
        class_=f"n e v-{verdict}",
        tabindex="0",
        role="link",
        aria_label=f"Evidence: {words}",
        data_go=target,
        data_child=child,
        data_parent=parent,
    )
