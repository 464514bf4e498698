"""The same targets under atheris, guided by coverage: ``python -m tests.fuzz.guided NAME SECONDS``.

Optional: atheris is not among the project's dependencies. It starts from the seeds written here and
ends at the first fault, with the case in the present folder; ``tests.fuzz.run --replay`` runs it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main(name: str, seconds: str) -> None:
    """Run one target for so many seconds; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=["crawler"]):
        from .seeds import seeds
        from .targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(target.kind, real=False)):
            (Path(folder) / str(number)).write_bytes(data)
        atheris.Setup(
            [sys.argv[0], folder, f"-max_total_time={seconds}", "-timeout=10", "-max_len=65536",
             "-rss_limit_mb=3072"],
            target.check,
        )  # fmt: skip
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:3])
