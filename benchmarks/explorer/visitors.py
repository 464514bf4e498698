"""Visitors without a browser: they speak the explorer's own protocol and draw nothing.

Their machines are their own in life. In a benchmark on one machine sixteen browsers would take
most of the processor from the server that is to be measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Sequence
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

__all__ = ["click_together", "first_answer"]

_MARK = re.compile(r'<g [^>]*data-go="(lineage\?model=[^"&]+)"')
_FOCUS = "is-focus"
_LIMIT_S = 300


class Visitor:
    """One connection to a served explorer; `marks` are the models that its last page leads to."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._pages: dict[str, str] = {}
        self.marks: list[str] = []

    async def open(self, page: str, **query: str) -> float:
        """Seconds from asking for a page until all of it has come."""
        ask = BackMsg()
        ask.rerun_script.query_string = urlencode(query)
        ask.rerun_script.is_history_navigation = True
        if page in self._pages:
            ask.rerun_script.page_script_hash = self._pages[page]
        else:
            ask.rerun_script.page_name = page
        start = time.perf_counter()
        await self._connection.send(ask.SerializeToString())
        markup = ""
        while True:
            told = ForwardMsg.FromString(await self._connection.recv(decode=False))
            kind = told.WhichOneof("type")
            if kind == "navigation":
                self._pages[page] = told.navigation.page_script_hash
            elif kind == "delta" and told.delta.new_element.HasField("bidi_component"):
                sent = json.loads(told.delta.new_element.bidi_component.json or "{}")
                markup += sent.get("markup", "")
            elif kind == "script_finished" and told.script_finished == told.FINISHED_SUCCESSFULLY:
                break
        seconds = time.perf_counter() - start
        if (_FOCUS in markup) != (page == "lineage"):
            raise SystemExit(f"the page {page or 'Find'} with {query} is not what was asked for")
        targets = [urlsplit(unescape(target)).query for target in _MARK.findall(markup)]
        named = {parse_qs(target)["model"][0] for target in targets}
        self.marks = sorted(named - set(query.values()))
        return seconds


async def _connected(base: str) -> Visitor:
    address = base.replace("http", "ws", 1) + "/_stcore/stream"
    return Visitor(
        await connect(
            address, subprotocols=[Subprotocol("streamlit")], origin=Origin(base), max_size=None
        )
    )


async def first_answer(base: str, page: str) -> float:
    """Seconds until a page has come whole."""
    async with asyncio.timeout(_LIMIT_S):
        return await (await _connected(base)).open(page)


async def click_together(
    base: str, names: Sequence[str], n_visitors: int, n_rounds: int, seed: int = 1
) -> list[float]:
    """Seconds of every answer when all visitors ask for another lineage at the same moment.

    Parameters
    ----------
    base
        Address of a served explorer.
    names
        Models where the visitors begin, one after the other.
    n_visitors, n_rounds
        How many click at once, and how often.
    seed
        Of the choice of marks.
    """
    rng = random.Random(seed)
    seconds: list[float] = []
    async with asyncio.timeout(_LIMIT_S):
        visitors = [await _connected(base) for _ in range(n_visitors)]
        for i, visitor in enumerate(visitors):
            await visitor.open("lineage", model=names[i % len(names)])
        for _ in range(n_rounds):
            seconds += await asyncio.gather(
                *(
                    visitor.open("lineage", model=rng.choice(visitor.marks or list(names)))
                    for visitor in visitors
                )
            )
    return seconds
