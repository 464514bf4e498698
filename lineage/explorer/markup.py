"""Markup that cannot be broken out of: every text is escaped when it enters."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import urlencode

__all__ = ["Markup", "address", "join", "tag"]

# Control characters are not allowed in XML, not even as references. Bidirectional overrides and
# zero-width characters make one name look like another.
_UNWANTED = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
)
_REPLACED = re.compile(f"[{_UNWANTED}]")
_PLAIN = re.compile(f"[^&<>\"'{_UNWANTED}]*")


class Markup(str):
    """Text that is already well-formed, escaped markup."""

    __slots__ = ()


def _safe(value: object) -> str:
    text = str(value)
    # Most of a page's thousands of texts hold nothing to escape.
    return text if _PLAIN.fullmatch(text) else escape(_REPLACED.sub("\ufffd", text), quote=True)


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element: children that are not :class:`Markup` are escaped, None is left out.

    Attribute names lose a trailing underscore and take hyphens for underscores.

    Examples
    --------
    >>> tag("b", "<script>", class_="name")
    '<b class="name">&lt;script&gt;</b>'
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_safe(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{words}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Several pieces one after another, escaped as in :func:`tag`."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else _safe(child)
            for child in children
            if child is not None
        )
    )


def address(page: str, /, **query: object) -> str:
    """A relative address inside the explorer; empty values are left out.

    Examples
    --------
    >>> address("lineage", model="a/b", view="")
    'lineage?model=a%2Fb'
    """
    words = urlencode({key: str(value) for key, value in query.items() if value not in ("", None)})
    return f"{page or './'}{'?' if words else ''}{words}"
