"""What Ray must find in the environment when it is first imported, which is once a process.

A token that only this process and the nodes it starts know: clusters of tests do what nobody else
asks of them, and no token is left in the home folder.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

NODE = {"object_store_memory": 80 << 20}


def prepare(patch: pytest.MonkeyPatch, folder: str) -> None:
    """Before nodes are started: a place of their own, and the way to this folder's modules."""
    pytest.importorskip("ray", reason="Ray (herdbook[cluster]) is not installed")
    patch.setenv("RAY_TMPDIR", folder)
    patch.setenv("PYTHONPATH", str(Path(__file__).parent))
