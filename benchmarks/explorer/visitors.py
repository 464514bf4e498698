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

__all__ = ["click_together"]

_MARK = re.compile(r'<g [^>]*data-go="(lineage\?model=[^"&]+)"')
_FOCUS = "is-focus"
_LIMIT_S = 120


class Visitor:
    """One connection; `marks` are the models that its drawing leads to."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._page = ""
        self.marks: list[str] = []

    async def open(self, model: str) -> float:
        """Seconds from asking for a lineage until the whole page has come."""
        ask = BackMsg()
        ask.rerun_script.query_string = urlencode({"model": model})
        ask.rerun_script.is_history_navigation = True
        if self._page:
            ask.rerun_script.page_script_hash = self._page
        else:
            ask.rerun_script.page_name = "lineage"
        start = time.perf_counter()
        await self._connection.send(ask.SerializeToString())
        found: set[str] = set()
        is_drawn = False
        while True:
            told = ForwardMsg.FromString(await self._connection.recv(decode=False))
            kind = told.WhichOneof("type")
            if kind == "navigation":
                self._page = told.navigation.page_script_hash
            elif kind == "delta" and told.delta.new_element.HasField("bidi_component"):
                markup = json.loads(told.delta.new_element.bidi_component.json).get("markup", "")
                is_drawn |= _FOCUS in markup
                for target in _MARK.findall(markup):
                    found.update(parse_qs(urlsplit(unescape(target)).query)["model"])
            elif kind == "script_finished" and told.script_finished == told.FINISHED_SUCCESSFULLY:
                break
        if not is_drawn:
            raise SystemExit(f"no lineage of {model} was drawn")
        self.marks = sorted(found - {model})
        return time.perf_counter() - start


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
    address = base.replace("http", "ws", 1) + "/_stcore/stream"
    async with asyncio.timeout(_LIMIT_S):
        connections = [
            await connect(address, subprotocols=["streamlit"], origin=base, max_size=None)  # type: ignore[list-item,arg-type]
            for _ in range(n_visitors)
        ]
        visitors = [Visitor(connection) for connection in connections]
        for i, visitor in enumerate(visitors):
            await visitor.open(names[i % len(names)])
        seconds: list[float] = []
        for _ in range(n_rounds):
            seconds += await asyncio.gather(
                *(visitor.open(rng.choice(visitor.marks or list(names))) for visitor in visitors)
            )
        for connection in connections:
            await connection.close()
    return seconds
