"""The style sheet of the explorer's panels: type, spacing, badges, cards, the lineage's light."""

from __future__ import annotations

__all__ = ["PAGE_SHEET", "SHEET"]

SHEET = """
div.hb{color:var(--ink);font-family:var(--st-font,system-ui,sans-serif);font-size:16px;
line-height:1.5;font-variant-numeric:tabular-nums}
.hb{box-sizing:border-box}.hb *{box-sizing:border-box}
.hb a{color:inherit;text-decoration:none}.hb a:hover .name,
.hb a.word:hover{text-decoration:underline;text-underline-offset:3px}
.hb h1,.hb h2,.hb h3{font-family:var(--st-heading-font,Georgia,serif);font-weight:600;
line-height:1.15;margin:0;letter-spacing:-.01em;text-wrap:balance}
.hb h1{font-size:clamp(1.7rem,4.2vw,2.5rem)}.hb h2{font-size:1.35rem;margin:0 0 .75rem}
.hb h3{font-size:1.05rem}
.hb p{margin:.35rem 0}.lede{font-size:1.12rem;color:var(--soft);max-width:72ch;
margin-top:.6rem!important;text-wrap:pretty}
.soft{color:var(--soft)}.tiny{font-size:.82rem}.mono{font-family:var(--st-code-font,monospace);
font-size:.86em;overflow-wrap:anywhere}
.break{overflow-wrap:anywhere}.stack>*+*{margin-top:1.5rem}
.eyebrow{font-size:.76rem;letter-spacing:.09em;text-transform:uppercase;color:var(--soft);
font-weight:600;margin:0 0 .5rem}
.grid{display:grid;gap:.75rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr))}
.figures{display:grid;gap:0;grid-template-columns:repeat(auto-fit,minmax(min(45%,150px),1fr));
border-block:1px solid var(--edge)}
.figures>*{padding:.8rem 1rem .75rem 0}.figures b{display:block;font-size:1.65rem;font-weight:600;
font-family:var(--st-heading-font,Georgia,serif);line-height:1.15}
.card{display:block;background:var(--card);border:1px solid var(--edge);border-radius:10px;
padding:.8rem .95rem;min-width:0;transition:border-color .12s}
a.card:hover,a.card:focus-visible{border-color:var(--ink)}
.hb a:focus-visible,.hb summary:focus-visible{outline:2px solid var(--finetune);outline-offset:2px;
border-radius:6px}
.card.on{border-color:var(--ink);box-shadow:inset 0 0 0 1px var(--ink)}
.card .name{font-weight:600;overflow-wrap:anywhere}
.owner{color:var(--soft);font-weight:400}
.row{display:flex;flex-wrap:wrap;gap:.3rem .6rem;align-items:baseline}
.apart{justify-content:space-between}
.badge{display:inline-flex;gap:.35em;align-items:center;white-space:nowrap;font-size:.8rem;
font-weight:600;line-height:1;padding:.28em .6em .3em;border-radius:99px;
border:1px solid currentColor}
.v-confirmed{color:var(--confirmed)}.v-undeclared{color:var(--undeclared)}
.v-contradicted{color:var(--contradicted)}.v-unverified{color:var(--unverified)}
.chip{font-size:.8rem;color:var(--soft);border:1px solid var(--edge);border-radius:5px;
padding:.1em .45em;white-space:nowrap}
.glyph{width:15px;height:15px;flex:none;align-self:center}.glyph .mark{fill:var(--unknown)}
.pane{overflow-x:auto;border:1px solid var(--edge);border-radius:12px;background:var(--paper)}
.pane svg{display:block;min-width:860px;width:100%;height:auto}
.fit svg{display:block;max-width:100%;height:auto;overflow:visible}
.scroll{overflow-x:auto}.scroll svg{display:block;min-width:560px;max-width:100%;height:auto}
.n[data-go]{cursor:pointer;outline:none}
.n[data-go]:hover .label,.n[data-go]:focus-visible .label{text-decoration:underline;
text-underline-offset:3px}
.n[data-go]:focus-visible .target{stroke:var(--finetune);stroke-width:2.5}
svg.dim .edges>g,svg.dim .nodes>g{opacity:.22}svg.dim .edges>g.lit,svg.dim .nodes>g.lit{opacity:1}
svg.dim .lit .line{stroke-width:2.6}
@media (prefers-reduced-motion:no-preference){.edges>g,.nodes>g{transition:opacity .12s}}
details{border-top:1px solid var(--edge)}details:last-of-type{border-bottom:1px solid var(--edge)}
summary{cursor:pointer;padding:.75rem .2rem;list-style:none;display:grid;gap:.25rem .9rem;
grid-template-columns:8.4rem minmax(0,1fr) auto;align-items:baseline}
summary>.badge{justify-self:start}summary .tiny{margin-left:.6rem}
summary::-webkit-details-marker{display:none}summary::after{content:"+";color:var(--soft);
font-size:1.1rem;line-height:1}details[open] summary::after{content:"–"}
details .inside{padding:.1rem .2rem 1.2rem 9.5rem;display:grid;gap:1rem 2rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,280px),1fr))}
@media (max-width:640px){summary{grid-template-columns:minmax(0,1fr) auto}
summary>.badge{grid-column:1/-1;justify-self:start}details .inside{padding-left:.2rem}}
dl{display:grid;grid-template-columns:minmax(6.5rem,auto) minmax(0,1fr);gap:.3rem .9rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
ul.plain{list-style:none;margin:0;padding:0}ul.plain>li{padding:.5rem 0;
border-top:1px solid var(--edge)}ul.plain>li:first-child{border-top:0;padding-top:0}
blockquote{margin:.3rem 0 0;padding:.35rem .7rem;border-left:3px solid var(--edge);
color:var(--soft);white-space:pre-wrap;overflow-wrap:anywhere;max-height:9.5em;overflow-y:auto;
font-family:var(--st-code-font,monospace);font-size:.8rem;line-height:1.45}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th{font-weight:600;color:var(--soft);text-align:left;font-size:.8rem}
td,th{padding:.4rem .8rem .4rem 0;border-bottom:1px solid var(--edge);vertical-align:baseline}
td.num,th.num{text-align:right;white-space:nowrap}
.stackbar{display:flex;height:10px;border-radius:5px;overflow:hidden;gap:2px;margin:.2rem 0 1rem}
.stackbar i{display:block;background:currentColor;min-width:3px}
.empty{border:1px dashed var(--edge);border-radius:12px;padding:1.6rem 1.4rem;max-width:46rem;
margin-top:1.4rem}
.empty h2{margin-bottom:.4rem}
code.command{display:inline-block;margin-top:.5rem;padding:.35em .7em;border-radius:6px;
background:var(--band);font-family:var(--st-code-font,monospace);font-size:.9rem;
overflow-wrap:anywhere}
.glyph .r-finetune,.r-finetune .mark{fill:var(--finetune)}.r-adapter .mark{fill:var(--adapter)}
.r-quantized .mark{fill:var(--quantized)}.r-merge .mark{fill:var(--merge)}
.grid.four{grid-template-columns:repeat(auto-fit,minmax(min(100%,220px),1fr));margin-bottom:.9rem}
.gap{margin-top:1.4rem}
.sections{columns:2 340px;column-gap:3.2rem;margin-top:2.2rem}
.sections>section{break-inside:avoid;padding-bottom:2.2rem}
.sections h3{margin:1.2rem 0 .4rem}.sections>section{min-width:0}.later{margin-top:1.6rem!important}
.notice{border-left:3px solid var(--adapter);padding:.2rem 0 .2rem .9rem;max-width:84ch;
margin:1.2rem 0}
.recipe{background:var(--band);border-radius:8px;padding:.8rem 1rem;overflow:auto;max-height:22rem;
font-family:var(--st-code-font,monospace);font-size:.82rem;line-height:1.5;margin:.4rem 0}
.measure{max-width:76ch}.wide-gap>*+*{margin-top:2.6rem}.wide-gap{margin-top:1.8rem}
.says{max-width:84ch;margin-top:.9rem}.says li{padding:.3rem 0;border-top:0}
.subtle{margin-left:.7rem;font-family:var(--st-font,sans-serif);font-weight:400;letter-spacing:0}
.pager{display:flex;gap:1rem;align-items:baseline;margin-top:1rem}
a.word{border-bottom:1px solid var(--edge)}
.crumbs{display:flex;flex-wrap:wrap;gap:.2rem .45rem;margin:0 0 .5rem;font-size:.9rem;
align-items:baseline}.crumbs .sep{color:var(--soft)}
.hb button.tool{font:inherit;font-size:.9rem;color:inherit;background:none;cursor:pointer;
border:1px solid var(--edge);border-radius:8px;padding:.3rem .75rem}
.hb button.tool:hover{border-color:var(--ink)}
.hb button.tool:focus-visible{outline:2px solid var(--finetune);outline-offset:2px}
.tools{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center;margin:.6rem 0 0}
.stack:focus-visible .target{stroke:var(--finetune);stroke-width:2}
.pile .stack[data-go]:hover text{text-decoration:underline;text-underline-offset:3px}
svg.minimap{display:block;width:100%;height:84px;border:1px solid var(--edge);border-radius:8px;
margin-top:.6rem}
table.narrow{width:auto;min-width:16rem}
details.twin{border:0!important}details.twin summary{display:inline-flex;gap:.5rem;padding:.3rem 0;
font-size:.82rem;color:var(--soft)}details.twin .inside{padding:0 0 .6rem;display:block}
"""

PAGE_SHEET = """<style>
.stMainBlockContainer{max-width:1240px;padding-top:5.6rem;padding-bottom:4rem}
@media (max-width:640px){.stMainBlockContainer{padding-inline:1rem}}
[data-testid="stHeader"]{border-bottom:1px solid rgba(128,128,128,.18)}
[data-testid="stCaptionContainer"],[data-testid="stCaptionContainer"] p{color:inherit;opacity:1}
[data-testid="stCaptionContainer"]{opacity:.8}
</style>
"""
