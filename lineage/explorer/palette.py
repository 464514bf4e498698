"""Colours of marks and verdicts in both themes, and the style sheet of every picture.

Marks follow Okabe and Ito's set, chosen for their distance under the common colour deficiencies.
The sheet serves the page and the downloaded file alike: in the page ``data-theme`` on an ancestor
decides, in a file the reader's ``prefers-color-scheme``.
"""

from __future__ import annotations

__all__ = ["LIGHT", "STYLE", "VARIABLES"]

_LIGHT = """
--ink:#1b2433;--soft:#5a6578;--faint:#e7e4dc;--paper:#fdfcf9;--card:#ffffff;--line:#98a1b0;
--band:#f1eee5;--finetune:#0072B2;--adapter:#E69F00;--quantized:#009E73;--merge:#D55E00;
--unknown:#595959;--confirmed:#0f766e;--undeclared:#a8277f;--contradicted:#b42318;
--unverified:#667085;--edge:#d8d4c9;
--c0:#0072B2;--c1:#E69F00;--c2:#009E73;--c3:#CC79A7;--c4:#56B4E9;--c5:#D55E00;--c6:#7b5ea7;
--other:#8d8d8d;
""".replace("\n", "")
_DARK = """
--ink:#e8e6e0;--soft:#a3acba;--faint:#262d39;--paper:#12161d;--card:#181d26;--line:#6f7a8c;
--band:#1d2430;--finetune:#4aa8e0;--adapter:#f0b53a;--quantized:#2cc295;--merge:#f0813a;
--unknown:#a9afb9;--confirmed:#4fd1c0;--undeclared:#ee86cb;--contradicted:#ff8a7a;
--unverified:#98a2b3;--edge:#39424f;
--c0:#4aa8e0;--c1:#f0b53a;--c2:#2cc295;--c3:#e79cc6;--c4:#8fd0f5;--c5:#f0813a;--c6:#a98ed6;
--other:#9a9a9a;
""".replace("\n", "")

VARIABLES = (
    f".hb{{{_LIGHT}}}@media (prefers-color-scheme:dark){{.hb{{{_DARK}}}}}"
    f'[data-theme="light"] .hb{{{_LIGHT}}}[data-theme="dark"] .hb{{{_DARK}}}'
    f'.hb[data-theme="light"]{{{_LIGHT}}}.hb[data-theme="dark"]{{{_DARK}}}'
)
"""Custom properties of both themes on everything of class ``hb``; a picture that leaves the page
takes its theme with it as its own ``data-theme``."""

LIGHT = dict(pair.split(":") for pair in _LIGHT.strip(";").split(";"))
"""The light theme's colours by name, for files that know only one."""

STYLE = (
    VARIABLES
    + """
svg.hb{font:12.5px "Source Sans","Source Sans 3","Segoe UI",system-ui,"DejaVu Sans",sans-serif}
svg.hb .paper{fill:var(--paper)}svg.hb .band{fill:var(--band)}
svg.hb text{fill:var(--ink)}
svg.hb .axis path{stroke:var(--faint);fill:none}
svg.hb .axis text{fill:var(--soft);font-size:11.5px;text-anchor:middle}
svg.hb .line{fill:none;stroke:var(--line);stroke-width:1.5;stroke-linejoin:round}
svg.hb .extra .line{stroke:var(--merge);stroke-width:1.4;stroke-dasharray:6 4;stroke-opacity:.8}
svg.hb .v-undeclared .line{stroke:var(--undeclared);stroke-width:2}
svg.hb .v-undeclared.extra .line{stroke:var(--merge);stroke-width:1.6}
svg.hb .v-unverified.extra .line{stroke-dasharray:6 4}
svg.hb .v-unverified .line{stroke-opacity:.85;stroke-dasharray:2 3}
svg.hb .v-contradicted .line{stroke:var(--contradicted);stroke-dasharray:9 4}
svg.hb .tie .line{stroke-dasharray:.1 5;stroke-linecap:round;stroke-width:2.4}
svg.hb .found{fill:var(--paper);stroke:var(--undeclared);stroke-width:2}
svg.hb .cross{fill:none;stroke:var(--contradicted);stroke-width:2.2;stroke-linecap:round}
svg.hb .mark{fill:var(--unknown);stroke:var(--paper);stroke-width:1.5}
svg.hb .r-finetune .mark{fill:var(--finetune)}svg.hb .r-adapter .mark{fill:var(--adapter)}
svg.hb .r-quantized .mark{fill:var(--quantized)}svg.hb .r-merge .mark{fill:var(--merge)}
svg.hb .r-ghost .mark,svg.hb .s-gone .mark,svg.hb .s-disabled .mark{fill:var(--paper);
stroke:var(--unknown);stroke-dasharray:2.5 2}
svg.hb .s-gated .mark{stroke:var(--ink);stroke-dasharray:2.5 2}
svg.hb .count{fill:#fff;font-size:9.5px;font-weight:700;text-anchor:middle;pointer-events:none;
paint-order:stroke;stroke:#000;stroke-opacity:.45;stroke-width:1.6px}
svg.hb .label{paint-order:stroke;stroke:var(--paper);stroke-width:4;stroke-linejoin:round}
svg.hb .is-focus .label{stroke:var(--band);font-weight:700}
svg.hb .owner,svg.hb .more{fill:var(--soft)}svg.hb .r-ghost .label tspan,
svg.hb .s-gone .label tspan{fill:var(--soft);font-style:italic}
svg.hb .ring{fill:none;stroke:var(--ink);stroke-width:2}
svg.hb .target{fill:transparent}
svg.hb .hollow .mark{fill:var(--paper);stroke:var(--unknown)}
svg.hb .hollow .count{fill:var(--ink);stroke:none}
svg.hb .stub{fill:none;stroke:var(--merge);stroke-width:1.6}
svg.hb .hit .label{font-weight:700}svg.hb .hit .target{fill:var(--undeclared);fill-opacity:.3}
svg.hb .ribbon path{stroke:var(--paper);stroke-width:.5}
svg.hb .pile text{font-size:12px;fill:var(--soft);paint-order:stroke;stroke:var(--paper);
stroke-width:3}
svg.hb .scaled .mark{stroke:var(--soft);stroke-width:1}svg.hb .mark.under{opacity:.45}
svg.hb .pile-line .line{stroke-dasharray:1 3}
svg.hb .window{fill:var(--undeclared);fill-opacity:.1;stroke:var(--undeclared);stroke-width:1.6;
vector-effect:non-scaling-stroke}
svg.hb .legend text{fill:var(--soft);font-size:11.5px}
svg.hb .bar{fill:var(--finetune)}svg.hb .bar.b1{fill:var(--merge)}
svg.hb .bar.b2{fill:var(--quantized)}
svg.hb .bar.b3{fill:var(--adapter)}svg.hb .bar.b4{fill:var(--undeclared)}
svg.hb .bar.b5{fill:var(--unknown)}
svg.hb .zero{stroke:var(--soft);stroke-dasharray:3 3}svg.hb .whisker{stroke:var(--finetune);
stroke-width:2.4;stroke-linecap:round}
svg.hb .dot{fill:var(--finetune);stroke:var(--paper);stroke-width:1.5}
svg.hb .small{fill:var(--soft);font-size:11.5px}svg.hb .end{text-anchor:end}
svg.hb .middle{text-anchor:middle}svg.hb .on-bar{fill:#fff;font-size:10px;text-anchor:middle}
""".replace("\n", "")
)
"""Everything a picture needs to look the same in the page and in a file."""
