"""Whom a population page is about: family, relation and day, all in the address."""

from __future__ import annotations

from datetime import UTC, date, datetime

import streamlit as st

from lineage import views
from lineage.explorer.choices import choose_one
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.words import RELATION_WORDS, plural
from lineage.views.propagation import Scope, scope_of

__all__ = ["choose_day", "choose_family", "choose_relation", "day_of"]

_LONGEST_NAME = 200


def choose_family(visit: Visit) -> Scope:
    """Everybody, a large family, or the clade of any model that the address names."""
    options = {"": "All models"}
    for one in remembered(visit, views.families):
        options[one.name] = f"{one.name} ({plural(one.n_models, 'model')})"
    asked = st.query_params.get("family", "")
    if asked not in options and len(asked) <= _LONGEST_NAME:
        scope = remembered(visit, scope_of, asked)
        if scope is not None:
            options[asked] = f"{asked} ({plural(scope.n_models, 'model')})"
    family = choose_one("Family or clade", options, "family", "")
    scope = remembered(visit, scope_of, family)
    assert scope is not None
    return scope


def choose_relation() -> str:
    """One relation to the primary parent, or all (empty)."""
    options = {"": "All relations", **{k: v for k, v in RELATION_WORDS.items() if k != "unknown"}}
    return choose_one("Relation", options, "relation", "")


def choose_day(label: str, key: str, default: date, first: date, last: date) -> date | None:
    """A day in the address; None where none is asked for, or no day of the register."""
    try:
        asked: date | None = date.fromisoformat(st.query_params.get(key, ""))
    except ValueError:
        asked = None
    if asked is not None and not first <= asked <= last:
        asked = None
    widget = f"{key}-day"
    st.session_state[widget] = asked or min(max(default, first), last)

    def changed() -> None:
        chosen = st.session_state[widget]
        if chosen is None or chosen == default:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = chosen.isoformat()

    st.date_input(label, key=widget, min_value=first, max_value=last, on_change=changed)
    return asked


def day_of(day: float) -> date:
    """The date of a day counted since 1970 UTC."""
    return datetime.fromtimestamp(86_400 * day, UTC).date()
