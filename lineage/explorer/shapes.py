"""The shapes of marks: one for each relation, so that colour is never alone."""

from __future__ import annotations

from lineage.explorer.markup import Markup, tag

__all__ = ["shape"]


def shape(name: str, x: float, y: float, r: float, **attributes: object) -> Markup:
    """The shape of a relation, centred."""
    if name == "adapter":
        side = r * 0.92
        return tag(
            "rect", x=f"{x - side:.1f}", y=f"{y - side:.1f}", width=f"{2 * side:.1f}",
            height=f"{2 * side:.1f}", rx="1.5", **attributes,
        )  # fmt: skip
    if name == "quantized":
        points = f"{x:.1f},{y - 1.15 * r:.1f} {x + 1.1 * r:.1f},{y + 0.85 * r:.1f} "
        return tag("polygon", points=points + f"{x - 1.1 * r:.1f},{y + 0.85 * r:.1f}", **attributes)
    if name == "merge":
        d = 1.35 * r
        points = f"{x:.1f},{y - d:.1f} {x + d:.1f},{y:.1f} {x:.1f},{y + d:.1f} {x - d:.1f},{y:.1f}"
        return tag("polygon", points=points, **attributes)
    return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{r:.1f}", **attributes)
