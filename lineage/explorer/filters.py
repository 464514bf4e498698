"""The common side bar: which models are wanted and what colours them, all of it in the address.

``relation`` and ``verdict`` are lists with commas, ``since`` and ``until`` days, ``downloads`` and
``descendants`` least numbers, ``colour`` a name of :data:`COLOURS` or ``trait:`` and a trait,
``up`` and ``down`` generations, ``most`` how many models are drawn one by one. What an address
says wrongly is as if it were not said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

import streamlit as st

from lineage.explorer.words import RELATION_WORDS
from lineage.views.clades import Bounds

__all__ = ["COLOURS", "TRAIT", "Filters", "read_filters", "side_bar"]

COLOURS = {
    "relation": "Relation",
    "verdict": "Verdict",
    "licence": "Licence",
    "task": "Task",
    "architecture": "Architecture",
    "library": "Library",
    "month": "Month of creation",
    "downloads": "Downloads in 30 days",
    "likes": "Likes",
    "parameters": "Parameters",
    "descendants": "Descendants",
}
"""What can colour models, apart from measured traits."""

TRAIT = "trait:"
"""What the name of a colour begins with when it is a measured trait's."""

_Value = TypeVar("_Value", str, int)

_RELATIONS = ("finetune", "adapter", "quantized", "merge")
_VERDICTS = ("confirmed", "undeclared", "contradicted", "unverified")
_DEPTHS = (1, 2, 3, 4, 6, 8, 12, 20)
_MOST = (30, 60, 120, 240)
_LARGEST = 10**12
_LONGEST = 200  # characters of a trait's name
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2100, 1, 1)


@dataclass(frozen=True, slots=True)
class Filters:
    """What a view is narrowed to and how it is coloured; the defaults narrow nothing."""

    bounds: Bounds = field(default_factory=Bounds)
    colour: str = "relation"
    up: int = 8
    down: int = 3
    most: int = 60

    def query(self) -> dict[str, str]:
        """The parameters of an address that asks for this; defaults are left out."""
        bounds, plain = self.bounds, Filters()
        said = {
            "colour": self.colour if self.colour != plain.colour else "",
            "relation": ",".join(bounds.relations),
            "verdict": ",".join(bounds.verdicts),
            "since": bounds.since.isoformat() if bounds.since else "",
            "until": bounds.until.isoformat() if bounds.until else "",
            "downloads": str(bounds.min_downloads or ""),
            "descendants": str(bounds.min_descendants or ""),
            "up": str(self.up) if self.up != plain.up else "",
            "down": str(self.down) if self.down != plain.down else "",
            "most": str(self.most) if self.most != plain.most else "",
        }
        return {key: value for key, value in said.items() if value}


def read_filters(query: Mapping[str, str]) -> Filters:
    """What the parameters of an address ask for.

    Examples
    --------
    >>> read_filters({"relation": "merge,<b>", "since": "2024-02-30", "downloads": "9"}).query()
    {'relation': 'merge', 'downloads': '9'}
    """
    plain = Filters()
    return Filters(
        Bounds(
            _listed(query.get("relation", ""), _RELATIONS),
            _listed(query.get("verdict", ""), _VERDICTS),
            _day(query.get("since", "")),
            _day(query.get("until", "")),
            _count(query.get("downloads", "")),
            _count(query.get("descendants", "")),
        ),
        _colour(query.get("colour", "")),
        _one_of(query.get("up", ""), _DEPTHS, plain.up),
        _one_of(query.get("down", ""), _DEPTHS, plain.down),
        _one_of(query.get("most", ""), _MOST, plain.most),
    )


def _listed(text: str, options: Sequence[str]) -> tuple[str, ...]:
    asked = set(text.split(","))
    chosen = tuple(option for option in options if option in asked)
    return chosen if len(chosen) < len(options) else ()


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if _FIRST_DAY <= day <= _LAST_DAY else None


def _count(text: str) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(_LARGEST))
    return min(int(text), _LARGEST) if is_number else 0


def _one_of(text: str, options: Sequence[int], default: int) -> int:
    number = _count(text)
    return number if number in options else default


def _colour(text: str) -> str:
    if text in COLOURS:
        return text
    if text.startswith(TRAIT) and len(TRAIT) < len(text) <= _LONGEST:
        return text
    return "relation"


# -- widgets ------------------------------------------------------------------------------------


def side_bar(traits: Sequence[str] = (), *, depths: bool = False) -> Filters:
    """Show the filters in the side bar; gives what the address asks for.

    Parameters
    ----------
    traits
        Names of measured traits that may colour models.
    depths
        Whether to offer generations and the number of models, which only a drawing has.
    """
    filters = read_filters(st.query_params)
    with st.sidebar:
        st.subheader("View")
        colours = {**COLOURS, **{TRAIT + name: name for name in traits}}
        colours.setdefault(filters.colour, filters.colour.removeprefix(TRAIT))
        _pick("Colour by", list(colours), "colour", filters.colour, colours.__getitem__)
        if depths:
            _pick("Models drawn one by one", _MOST, "most", filters.most, _at_most)
            _pick("Generations above", _DEPTHS, "up", filters.up, str)
            _pick("Generations below", _DEPTHS, "down", filters.down, str)
        st.subheader("Only")
        bounds = filters.bounds
        _pick_some("Relation", _RELATIONS, "relation", bounds.relations, RELATION_WORDS.get)
        _pick_some("Verdict", _VERDICTS, "verdict", bounds.verdicts, str.capitalize)
        _pick_day("Created from", "since", bounds.since)
        _pick_day("Created until", "until", bounds.until)
        _pick_count("Least downloads in 30 days", "downloads", bounds.min_downloads)
        _pick_count("Least descendants", "descendants", bounds.min_descendants)
        if bounds != Bounds():
            st.button("Clear", on_click=_clear, icon=":material/close:", width="stretch")
    return filters


def _at_most(n: int) -> str:
    return f"at most {n}"


def _say(key: str, default: object = None) -> None:
    """Write what a widget holds into the address."""
    value = st.session_state[f"filter-{key}"]
    text = ",".join(value) if isinstance(value, list) else str(value or "")
    st.query_params.pop("page", None)
    if value == default or not text:
        st.query_params.pop(key, None)
    else:
        st.query_params[key] = text


def _hold(key: str, value: object) -> str:
    # The address decides: the widget's state is set before the widget is built.
    st.session_state[f"filter-{key}"] = value
    return f"filter-{key}"


def _pick(
    label: str,
    options: Sequence[_Value],
    key: str,
    value: _Value,
    words: Callable[[_Value], str],
) -> None:
    default = getattr(Filters(), key)
    st.selectbox(
        label, options, key=_hold(key, value), format_func=words,
        on_change=_say, args=(key, default),
    )  # fmt: skip


def _pick_some(
    label: str,
    options: Sequence[str],
    key: str,
    value: tuple[str, ...],
    words: Callable[[str], str | None],
) -> None:
    st.multiselect(
        label, options, key=_hold(key, list(value)), placeholder="Any",
        format_func=lambda name: words(name) or name, on_change=_say, args=(key,),
    )  # fmt: skip


def _pick_day(label: str, key: str, value: date | None) -> None:
    st.date_input(
        label, value=None, key=_hold(key, value), min_value=_FIRST_DAY, max_value=_LAST_DAY,
        on_change=_say, args=(key,),
    )  # fmt: skip


def _pick_count(label: str, key: str, value: int) -> None:
    st.number_input(
        label, min_value=0, max_value=_LARGEST, step=1, key=_hold(key, value),
        on_change=_say, args=(key,),
    )  # fmt: skip


def _clear() -> None:
    for key in ("relation", "verdict", "since", "until", "downloads", "descendants"):
        st.query_params.pop(key, None)
