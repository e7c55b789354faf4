"""``zoomkern predict --images``: class probabilities of every image of a folder, and where the network looked."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from zoomkern import checks
from zoomkern.cli.train import require_training


def main(words: Sequence[str]) -> int:
    """Predicts what is missing of a folder's images, or of this process's share of them.

    Args:
        words: "predict" and its options; those that are not here are the network's, as
            ``--model.model.num_samples=50``.

    Returns:
        0, or 1 where an image failed; of torchrun's processes the last to end says so for all. 130 after Ctrl-C, 143
        after a SIGTERM.

    Raises:
        ValueError: options that do not fit.
        FileNotFoundError: a recipe, weights or images are not there.
    """
    require_training()
    parser = _parser()
    args, others = parser.parse_known_args(words[1:])
    strange = [word for word in others if word.startswith("-") and not word.startswith("--model.")]
    if strange:
        known = [f"--{name.replace('_', '-')}" for name in vars(args)]
        near = get_close_matches(strange[0].partition("=")[0], known, 1)
        meant = f". Is {near[0]} meant?" if near else ""
        parser.error(f"unrecognized arguments: {' '.join(strange)}{meant}")
    try:
        with _terminable():
            return _run(args, others)
    except KeyboardInterrupt as reason:
        ended = isinstance(reason, _Terminated)
        print(
            f"zoomkern predict: {'terminated' if ended else 'interrupted'}; the same command goes on.", file=sys.stderr
        )
        return 128 + (signal.SIGTERM if ended else signal.SIGINT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "zoomkern predict",
        description="Class probabilities of every image of a folder, and where the network looked.",
        epilog="Options of the network go by the names that zoomkern fit has, as --model.model.num_samples=50.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--images", nargs="+", required=True, metavar="PATH", help="folder, files, or .txt files that list some")
    add("--output", type=Path, required=True, metavar="DIR", help="what is done there already is not done again")
    add("--run", type=Path, metavar="DIR", help="folder of a training run: its config.yaml and weights.safetensors")
    add("--config", type=Path, metavar="YAML", help="recipe of the network (default: that of --run)")
    add("--weights", type=Path, metavar="FILE", help="safetensors file (default: those of --run, or beside --config)")
    add("--classes", nargs="+", metavar="NAME", help="names of the classes (default: as the run was trained)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default auto)")
    add("--shard", metavar="3/16", help="do the third of sixteen parts (default: as torchrun or Slurm say; 1/1: all)")
    add("--overwrite", action="store_true", help="predict what is done, too")
    yes_or_no = argparse.BooleanOptionalAction
    add("--skip-errors", action=yes_or_no, default=True, help="go on behind an image that fails (default)")
    add("--view-size", type=int, nargs=2, metavar=("H", "W"), help="pixels of every view, instead of the recipe's")
    add("--view-scale", type=float, help="scale of every view, instead of the recipe's")
    add("--max-view-pixels", type=int, default=1 << 24, metavar="N", help="a larger view is an error (default 2^24)")
    add("--max-picture-pixels", type=int, default=1 << 28, metavar="N", help="of a PNG, JPEG, WebP, BMP (default 2^28)")
    add("--max-starts", type=int, default=2, metavar="N", help="give up an image that ended so many processes (2)")
    add("--mpp", type=float, help="microns per pixel of all images, whatever their files say")
    add("--mpp-table", type=Path, metavar="CSV", help="microns per pixel of each, columns image and mpp")
    add(
        "--mask", default="none", metavar="WHERE", help="none, tissue, or a folder of GeoJSON files named as the images"
    )
    add("--top", type=int, default=20, metavar="K", help="patches that pictures show (default 20; 0: no pictures)")
    add("--seed", type=int, default=0, help="of the draws (default 0)")
    add("--quiet", action="store_true", help="no progress bar; the last line, and which shard this is")
    return parser


def _run(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from tqdm import tqdm

    from zoomkern.training.folder.images import find_images
    from zoomkern.training.folder.network import load_looker
    from zoomkern.training.folder.options import Options
    from zoomkern.training.folder.predict import predict_images, reasons, tasks_of
    from zoomkern.training.folder.prepared import mpp_of
    from zoomkern.training.folder.shards import deal, parse_shard, shard_of
    from zoomkern.training.folder.states import States
    from zoomkern.training.folder.summary import write_summary
    from zoomkern.training.names import legible
    from zoomkern.training.views import Views

    config, weights = _network(args)
    shard = parse_shard(args.shard) if args.shard else shard_of(os.environ)
    if args.view_scale is not None and args.view_size is not None:
        raise ValueError("give one of --view-scale and --view-size; got both.")
    if args.view_scale is not None and not 0 < args.view_scale <= 1:
        raise ValueError(f"--view-scale must be above 0 and at most 1; got {args.view_scale}.")
    views = Views(args.view_scale, None if args.view_size is None else tuple(args.view_size))
    options = Options(
        seed=args.seed,
        mpp=None if args.mpp is None else checks.number("--mpp", args.mpp),
        mpp_table=args.mpp_table,
        mask=_mask(args.mask),
        top=checks.integer("--top", args.top, 0),
        most_view_pixels=checks.integer("--max-view-pixels", args.max_view_pixels, 1),
        skip_errors=args.skip_errors,
        overwrite=args.overwrite,
        most_picture_pixels=checks.integer("--max-picture-pixels", args.max_picture_pixels, 1),
        most_starts=checks.integer("--max-starts", args.max_starts, 1),
    )
    if args.output.is_file():
        raise NotADirectoryError(f"--output must be a folder; {str(args.output)!r} is a file. Choose another one.")
    images = find_images(args.images, args.output)
    mine = deal(images, shard.parts)[shard.number - 1]
    looker = load_looker(
        config, weights, overrides, views=views, classes=args.classes, device=_device(args.device, os.environ)
    )
    states = States(args.output)
    tasks = tasks_of(mine, looker, states, options)
    size = sum(image.nbytes for image in mine) / 1e9
    part = f"{shard}: {len(mine)} of {len(images)} images, {size:.3g} GB"
    if shard.parts > 1 and shard.source != "--shard":  # a job array may mean something else
        part += "; --shard 1/1 does all"
    if not args.quiet or shard.parts > 1:
        print(part, file=sys.stderr if args.quiet else sys.stdout, flush=True)
    if options.mpp_table is not None and not args.quiet:
        listed = sum(bool(line) for line in mpp_of(options.mpp_table, mine).values())
        print(f"{options.mpp_table} has the mpp of {listed} of them", flush=True)
    if not args.quiet:
        print(f"to do: {reasons(tasks) or 'nothing'}", flush=True)
    with tqdm(total=len(tasks), desc="images", unit="image", disable=True if args.quiet else None) as bar:

        def report(name: str, error: str) -> None:
            bar.update()
            if error:
                bar.write(f"failed: {legible(name)}: {legible(error)}", file=sys.stderr)

        failed = predict_images(tasks, looker, states, options, report)
    summary = write_summary(states, images, looker.classes)
    print(
        f"{summary['done']} of {summary['images']} images are done, {len(summary['failed'])} failed, "
        f"{len(summary['missing'])} are missing: {args.output / 'summary.md'}"
    )
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun ends all processes when one fails: the last one says it
        return 1 if summary["failed"] and not summary["missing"] else 0
    return 1 if failed else 0


class _Terminated(KeyboardInterrupt):
    """A SIGTERM, by which batch systems end a job."""


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


@contextmanager
def _terminable() -> Iterator[None]:
    """A SIGTERM leaves as Ctrl-C does: the image at work is not to blame for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _network(args: argparse.Namespace) -> tuple[Path, Path]:
    """The recipe and the weights that are meant."""
    if args.run is None and args.config is None:
        raise ValueError("--run or --config must name the network; got neither. A run's folder is what fit wrote.")
    config = args.config or args.run / "config.yaml"
    weights = args.weights or (args.run or config.parent) / "weights.safetensors"
    return config, weights


def _mask(words: str) -> str:
    if words not in ("none", "tissue") and not Path(words).is_dir():
        raise ValueError(f"--mask must be none, tissue or a folder; got {words!r}, which is none.")
    return words


def _device(name: str, environment: os._Environ[str]) -> str:
    """Of torchrun's processes on one machine each has a GPU of its own."""
    import torch

    local = environment.get("LOCAL_RANK")
    if name == "auto" and local is not None and torch.cuda.is_available():
        return f"cuda:{int(local) % torch.cuda.device_count()}"
    return name
