"""The component that shows the atlas: what it is sent, and what it sends back.

The server sends one block of bytes: the length of a JSON head (32 bits, little-endian), the head,
and the compressed tiles that the browser asked for, as they lie in the atlas's file. Back come
``want`` (numbers of tiles) and ``webgl`` ("none" where the browser has no WebGL2).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import duckdb
import streamlit as st

from lineage.explorer.atlas_script import SCRIPT
from lineage.explorer.atlas_words import COLOURINGS
from lineage.explorer.palette import VARIABLES
from lineage.explorer.words import short
from lineage.views import atlas as views

__all__ = ["MOST_BYTES", "MapView", "Request", "atlas_map", "pack_answer"]

MOST_BYTES = 480_000
"""Most bytes of one answer; tiles that do not fit are asked for again."""

_MOST_TILES = 8
_LONGEST_NAME = 160  # the Hub's own names are shorter: what is sent whole leads to its lineage
_USUAL_HEIGHT_PX = 600

_BUTTONS = (
    ("in", "+", "Zoom in: fewer positions"),
    ("out", "\N{MINUS SIGN}", "Zoom out: more positions"),
    ("later", "⇤⇥", "Zoom in on time"),
    ("wider", "⇥⇤", "Zoom out of time"),
    ("all", "Whole forest", "Show the whole forest"),
)
_HTML = f"""<div class="box"><div class="hb atlas">
<div class="bar"><div class="legend"></div><div class="tools">{
    "".join(
        f'<button type="button" data-act="{act}" aria-label="{words}" title="{words}">{sign}'
        "</button>"
        for act, sign, words in _BUTTONS
    )
}</div></div>
<div class="stage" tabindex="0" role="application"><canvas class="under"></canvas>
<canvas class="glass"></canvas>
<canvas class="over"></canvas><div class="tip" hidden></div></div>
<p class="says" role="status"></p></div></div>
"""
_CSS = """
.atlas{color:var(--ink);font-family:var(--st-font,system-ui,sans-serif);font-size:.9rem;
line-height:1.45}
.bar{display:flex;flex-wrap:wrap;gap:.5rem 1.2rem;align-items:center;
justify-content:space-between;margin-bottom:.5rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem .95rem;color:var(--soft);font-size:.82rem}
.legend span{display:inline-flex;align-items:center;gap:.38rem}
.legend i{width:.72rem;height:.72rem;border-radius:50%}.legend .adapter{border-radius:1px}
.legend .quantized{border-radius:0;clip-path:polygon(50% 0,100% 100%,0 100%)}
.legend .merge{border-radius:0;clip-path:polygon(50% 0,100% 50%,50% 100%,0 50%)}
.tools{display:flex;gap:.3rem}
.tools button{font:inherit;font-size:.85rem;color:var(--ink);background:var(--card);
border:1px solid var(--edge);border-radius:7px;min-width:2.1rem;height:2.1rem;padding:0 .55rem;
cursor:pointer}
.tools button:hover{border-color:var(--ink)}
.tools button:focus-visible,.stage:focus-visible{outline:2px solid var(--finetune);
outline-offset:2px}
.stage{position:relative;height:clamp(380px,66vh,640px);border:1px solid var(--edge);
border-radius:12px;background:var(--paper);overflow:hidden;touch-action:none;cursor:grab;
user-select:none}
.stage canvas{position:absolute;inset:0;width:100%;height:100%;pointer-events:none}
.tip{position:absolute;max-width:min(340px,86%);background:var(--card);color:var(--ink);
border:1px solid var(--edge);border-radius:8px;padding:.4rem .6rem;font-size:.8rem;
pointer-events:none;overflow-wrap:anywhere;box-shadow:0 4px 14px rgba(0,0,0,.12)}
.tip div{color:var(--soft)}
.tip[hidden]{display:none}
.says{color:var(--soft);font-size:.82rem;margin:.45rem 0 0;min-height:1.3em;
font-variant-numeric:tabular-nums}
"""


@dataclass(frozen=True, slots=True)
class MapView:
    """What the map is to show.

    Attributes
    ----------
    window
        Where to begin, and to go when the reader follows a link to another part.
    key
        The parameters of the address that `window` was made from.
    colour
        Name of the colouring.
    spot
        A model to ring.
    clades
        To be named at the margin.
    digest
        Which atlas this is: the browser forgets its tiles when it changes.
    words
        What the map shows, for those who cannot see it.
    """

    window: views.Window
    key: str
    colour: str
    spot: views.Spot | None
    clades: tuple[views.Clade, ...]
    digest: str
    words: str


@dataclass(frozen=True, slots=True)
class Request:
    """Tiles that a browser asks for, and the number of its request; 0 where nothing was asked."""

    tiles: tuple[int, ...] = ()
    serial: int = 0

    @classmethod
    def read(cls, asked: object, n_tiles: int) -> Request:
        """A request as the browser sent it; nonsense is left out, and more than eight tiles."""
        if not isinstance(asked, Mapping):
            return cls()
        tiles, serial = asked.get("tiles"), asked.get("serial")
        listed = tiles if isinstance(tiles, list) else []
        known = [n for n in listed if type(n) is int and 0 <= n < n_tiles]
        return cls(tuple(dict.fromkeys(known))[:_MOST_TILES], serial if type(serial) is int else 0)


def pack_answer(
    cursor: duckdb.DuckDBPyConnection,
    atlas: views.Atlas,
    view: MapView,
    request: Request,
) -> bytes:
    """Everything the browser needs for its next drawing, in at most `MOST_BYTES`."""
    sent: list[tuple[int, bytes]] = []
    names: dict[int, list[str]] = {}
    room = MOST_BYTES - 40_000  # the head without names: bins, levels, two hundred clades at most
    for number in request.tiles:
        block, called = atlas.block(number), _names(cursor, atlas, number)
        cost = len(block) + len(json.dumps(called, ensure_ascii=False).encode())
        if sent and cost > room:
            break
        room -= cost
        sent.append((number, block))
        if called:
            names[number] = called
    head = {
        "atlas": {
            "digest": view.digest, "n": atlas.n_models, "undated": atlas.n_undated,
            "start": atlas.bins.start, "edges": atlas.bins.edges.tolist(),
            "levels": atlas.levels, "leaf": views.LEAF_MODELS, "base": atlas.rows_of(0),
            "rows": views.TILE_ROWS,
        },
        "facets": {
            name: [asdict(item) for item in colouring.categories]
            for name, colouring in COLOURINGS.items()
        },
        "colour": view.colour,
        "words": view.words,
        "view": {
            "first": view.window.first, "rows": view.window.rows, "since": view.window.since,
            "span": view.window.span,
        },
        "key": view.key,
        "answers": request.serial,
        "mark": None if view.spot is None else {
            "row": view.spot.position, "name": _called(view.spot.repo_id),
            "seconds": views.NO_DATE if view.spot.seconds is None else view.spot.seconds,
        },
        "clades": [[short(item.repo_id, 60), item.position, item.size] for item in view.clades],
        "tiles": [[number, len(block)] for number, block in sent],
        "names": names,
    }  # fmt: skip
    text = json.dumps(head, ensure_ascii=False).encode("utf-8", "replace")
    return struct.pack("<I", len(text)) + text + b"".join(block for _, block in sent)


def _names(cursor: duckdb.DuckDBPyConnection, atlas: views.Atlas, number: int) -> list[str]:
    if number >= atlas.n_leaves:
        return []
    first = number * views.LEAF_MODELS
    found = views.names_at(cursor, first, first + views.LEAF_MODELS - 1)
    return [_called(name) for name in found]


def _called(name: str) -> str:
    # At most so many bytes as JSON: what takes more than one for a letter is no name of the Hub's.
    is_plain = len(json.dumps(name)) == len(name) + 2
    return short(name, _LONGEST_NAME if is_plain else _LONGEST_NAME // 6)


@st.cache_resource
def _component() -> Callable[..., object]:
    return st.components.v2.component("herdbook.atlas", html=_HTML, css=VARIABLES + _CSS, js=SCRIPT)


def atlas_map(
    cursor: duckdb.DuckDBPyConnection, atlas: views.Atlas, view: MapView, *, key: str
) -> bool:
    """Show the map; False where the browser has no WebGL2.

    Tiles that the browser asked for are sent with this run.
    """
    asked = f"{key}-asked"

    def remember() -> None:
        # Before the run: the request is needed when the component is built, not after. It is
        # answered in every run till the next one comes: a run can be cut short by another, and
        # what it sent is then dropped.
        want = getattr(st.session_state.get(key), "want", None)
        if want is not None:
            st.session_state[asked] = want

    if asked in st.session_state:
        request = Request.read(st.session_state[asked], atlas.n_tiles)
    else:  # nothing was asked for yet: what a window of usual height will need
        request = Request(tuple(views.tiles_of(atlas, view.window, _USUAL_HEIGHT_PX)))
    answer = _component()(
        key=key,
        data=pack_answer(cursor, atlas, view, request),
        on_want_change=remember,
        on_webgl_change=lambda: None,
    )
    return getattr(answer, "webgl", None) != "none"
