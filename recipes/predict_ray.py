"""``zoomkern predict --images`` on Ray Data: a row, so a task, for each shard, which needs nothing of the others.

    pip install "ray[data]"
    python recipes/predict_ray.py --shards 16 --gpus 1 --run runs/colon --images slides --output out

Options that are not here are those of ``zoomkern predict``. Paths must be the same on every node. A task whose process
or node is lost is started anew by Ray, and does what is missing; an image that ended two processes is given up.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import ray


def predict(row: dict[str, str], words: Sequence[str], folder: str) -> dict[str, int]:
    """The exit status of one shard, which is computed in this folder."""
    from zoomkern.cli.main import main

    os.chdir(folder)
    try:
        return {"status": main(["predict", *words, "--quiet", "--shard", row["shard"]])}
    except SystemExit as ended:  # bad options, say: Ray would take it for a lost process
        return {"status": int(ended.code or 0)}


def main() -> int:
    """The largest status of a shard, at least 1 where an image or a shard failed."""
    parser = argparse.ArgumentParser("predict_ray.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--shards", type=int, default=2, help="parts of about as many bytes (default 2)")
    parser.add_argument("--concurrency", type=int, help="parts at a time, at most (default: all that have room)")
    parser.add_argument("--cpus", type=float, default=1, help="cores of each task (default 1)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each task (default 0; shares such as 0.5 too)")
    parser.add_argument("--address", help="of a cluster, such as auto (default: this machine)")
    args, words = parser.parse_known_args()
    cores = max(1, round((args.concurrency or args.shards) * args.cpus))
    ray.init(address=args.address, **({} if args.address else {"num_cpus": cores, "include_dashboard": False}))
    ray.data.DataContext.get_current().max_errored_blocks = -1  # a shard that fails stops no other
    shards = [{"shard": f"{number}/{args.shards}"} for number in range(1, args.shards + 1)]
    done = ray.data.from_items(shards, override_num_blocks=args.shards).map(
        predict,
        fn_kwargs={"words": words, "folder": os.getcwd()},
        compute=ray.data.TaskPoolStrategy(size=args.concurrency),
        num_cpus=args.cpus,
        num_gpus=args.gpus or None,
    )
    statuses = [row["status"] for row in done.take_all()]
    return max([*statuses, int(len(statuses) < args.shards)])


if __name__ == "__main__":
    raise SystemExit(main())
