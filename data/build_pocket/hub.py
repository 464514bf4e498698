"""Dates, downloads, likes and flags: invented, but dates follow ancestry."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from .members import Member
from .recipes import ancestry_of

__all__ = ["hub_entries"]

_LAST_DAY = datetime(2026, 6, 24, tzinfo=UTC)
_OPENED = datetime(2024, 1, 1, tzinfo=UTC)


def hub_entries(members: Sequence[Member], root: Path) -> dict[str, dict[str, object]]:
    """What hub.json says of every repository; parents must come before their children."""
    born: dict[str, datetime] = {}
    entries: dict[str, dict[str, object]] = {}
    children = _children(members)
    for member in members:
        random = np.random.default_rng(zlib.crc32(member.id.encode()))
        created = _created(member, born, random)
        born[member.id] = created
        modified = min(created + timedelta(hours=float(random.uniform(1, 700))), _LAST_DAY)
        age = (created - _OPENED).days / (_LAST_DAY - _OPENED).days
        popularity = (
            math.exp(random.normal(3.6 - 2.5 * age, 0.8)) * (1 + children[member.id]) ** 1.3
        )
        entries[member.id] = {
            "created_at": _text(created),
            "last_modified": _text(modified),
            "downloads": int(popularity),
            "likes": int(popularity * random.uniform(0.01, 0.06)),
            "gated": "auto" if member.gated else False,
            "disabled": member.disabled,
            "vanishes": member.vanishes,
            "revision": _revision(root / member.id),
        }
    return entries


def _children(members: Sequence[Member]) -> Mapping[str, int]:
    counts = {member.id: 0 for member in members}
    for member in members:
        for parent, _ in ancestry_of(member.recipe).parents:
            counts[parent] += 1
    return counts


def _created(member: Member, born: Mapping[str, datetime], random: np.random.Generator) -> datetime:
    seconds = int(random.integers(0, 86_400))
    if member.born is not None:
        return datetime.fromisoformat(member.born).replace(tzinfo=UTC) + timedelta(seconds=seconds)
    newest = max(born[name] for name in ancestry_of(member.recipe).inputs)
    days = float(random.gamma(1.5, 30)) + 2
    room = (_LAST_DAY - newest).total_seconds() / 86_400
    return newest + timedelta(days=min(days, room / 2), seconds=seconds % 3600)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _revision(folder: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
