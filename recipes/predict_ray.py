"""``zoomkern predict --images`` on Ray: a task for each shard, which needs nothing of the others.

    pip install ray
    python recipes/predict_ray.py --shards 16 --gpus 1 --run runs/colon --images slides --output out

Options that are not here are those of ``zoomkern predict``. Paths must be the same on every node. A task whose node is
lost is started anew by Ray, and does what is missing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import ray


@ray.remote(max_retries=3)
def predict(words: Sequence[str], folder: str) -> int:
    """The exit status of one shard, which is computed in this folder."""
    from zoomkern.cli.main import main

    os.chdir(folder)
    return main(["predict", *words])


def main() -> int:
    """0, or 1 where an image failed."""
    parser = argparse.ArgumentParser("predict_ray.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--shards", type=int, default=2, help="parts of about as many bytes (default 2)")
    parser.add_argument("--cpus", type=float, default=1, help="cores of each task (default 1)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each task (default 0; shares such as 0.5 too)")
    parser.add_argument("--address", help="of a cluster, such as auto (default: this machine)")
    args, words = parser.parse_known_args()
    local = {"num_cpus": max(1, round(args.shards * args.cpus)), "include_dashboard": False}
    ray.init(address=args.address, log_to_driver=True, **({} if args.address else local))
    task = predict.options(num_cpus=args.cpus, num_gpus=args.gpus)
    shards = [[*words, "--quiet", "--shard", f"{number}/{args.shards}"] for number in range(1, args.shards + 1)]
    statuses = ray.get([task.remote(shard, os.getcwd()) for shard in shards])
    return max(statuses)


if __name__ == "__main__":
    raise SystemExit(main())
