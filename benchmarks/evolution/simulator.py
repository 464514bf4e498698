"""How fast Hubs grow: models a minute and memory, with and without selection, and the null's cost.

Run with ``python -m benchmarks.evolution.simulator`` (a minute; ``--sizes`` chooses). Times are CPU
seconds of one process on one core. Every row runs in a process of its own, so that peak memory
(``VmHWM``, imports included) is its own. The last column is the time of one replicate of the
copying null on the same births: the parents alone, without traits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np

from benchmarks.candidates import peak_bytes
from lineage.evolution.chance.attachment import Attachment, copy_parents
from lineage.evolution.chance.rules import CategoryRules, HubRules, TraitRules
from lineage.evolution.chance.simulate import simulate_hub

_SIZES = (100_000, 1_000_000, 3_000_000)
_RULES = HubRules(
    1,
    1500.0,
    growth_per_day=0.004,
    founder_share=0.15,
    quantised_share=0.2,
    merge_share=0.08,
    attachment=Attachment(1.0, 120.0, 0.02),
    categories=(CategoryRules(0.05, 5), CategoryRules(0.01)),
    author_loyalty=0.3,
)


def measure(n_models: int, linear: float) -> dict[str, float]:
    """Grow one Hub in this process."""
    trait = TraitRules(0.5, author_share=0.1, linear=linear)
    rules = replace(_RULES, n_models=n_models, traits=(trait,))
    start = time.process_time()
    hub = simulate_hub(rules, np.random.default_rng(1))
    seconds = time.process_time() - start
    peak = peak_bytes()
    n_parents = np.diff(hub.parent_start)
    start = time.process_time()
    copy_parents(hub.born_day, n_parents, rules.attachment, np.random.default_rng(2))
    return {
        "seconds": seconds,
        "peak_gb": peak / 1e9,
        "edges": float(hub.parent_index.size),
        "most_children": float(np.bincount(hub.parent_index).max()),
        "null_seconds": time.process_time() - start,
    }


def main() -> None:
    """Print a row for every size, neutral and selected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(_SIZES))
    parser.add_argument("--one", nargs=2, metavar=("N", "BETA"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(int(given.one[0]), float(given.one[1]))))
        return
    print("   models  β     CPU s  models/min  peak GB     edges  most children  null s")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for n_models in given.sizes:
        for linear in (0.0, 0.5):
            command = [sys.executable, "-m", __spec__.name, "--one", str(n_models), str(linear)]
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
            found = json.loads(done.stdout)
            print(
                f"{n_models:9,d}  {linear:3.1f} {found['seconds']:7.2f} "
                f"{60 * n_models / found['seconds']:11,.0f} {found['peak_gb']:8.2f} "
                f"{found['edges']:9,.0f} {found['most_children']:14,.0f} "
                f"{found['null_seconds']:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
