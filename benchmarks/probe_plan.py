"""What the probe plan reads of models of real size: bytes, share and blocks, from shapes alone."""

from __future__ import annotations

import argparse
import json
import time

from lineage.weights.plan import plan_probe
from lineage.weights.reference import SHAPES, tensors_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget-bytes", type=int, default=8_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for shape in SHAPES:
        tensors = tensors_of(shape)
        started = time.perf_counter()
        try:
            plan = plan_probe(tensors, options.budget_bytes)
        except ValueError as error:
            rows.append({"model": shape.name, "refused": str(error)})
            continue
        rows.append(
            {
                "model": shape.name,
                "checkpoint_bytes": sum(t.stop - t.start for t in tensors),
                "planned_bytes": plan.bytes_planned,
                "blocks": len(plan.blocks),
                "plan_ms": round(1000 * (time.perf_counter() - started), 1),
            }
        )
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        if "refused" in row:
            print(f"{row['model']:<14} {row['refused']}")
        else:
            share = 100 * row["planned_bytes"] / row["checkpoint_bytes"]
            print(
                f"{row['model']:<14} {row['planned_bytes'] / 1e6:6.2f} MB of "
                f"{row['checkpoint_bytes'] / 1e9:7.2f} GB ({share:.3f} %), "
                f"{row['blocks']} blocks, planned in {row['plan_ms']} ms"
            )


if __name__ == "__main__":
    main()
