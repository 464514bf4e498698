"""Entry of an installed explorer, where no ``app.py`` lies beside the package."""

from __future__ import annotations

from lineage.explorer.main import run

if __name__ == "__main__":
    run()
