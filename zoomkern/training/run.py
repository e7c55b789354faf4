"""A training run: task, data and trainer as a recipe describes them, and one folder with all that it writes."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from zoomkern import checks
from zoomkern.images.files import alone, remove_parts, write_whole
from zoomkern.nn import AttentionNetwork
from zoomkern.training.checkpoints import WholeCheckpoints, load_checkpoint
from zoomkern.training.curves import draw_curves
from zoomkern.training.data import ClassificationDataModule
from zoomkern.training.divisions import division_table, require_apart, require_same_data, require_unseen
from zoomkern.training.kept import KeptCheckpoint
from zoomkern.training.pictures import Pictures
from zoomkern.training.predictions import Predictions, confusion_table, predictions_table
from zoomkern.training.provenance import require_same_classes, warn_of_another_network
from zoomkern.training.recipes import nearest, require_recipes
from zoomkern.training.tables import WholeCSVLogger
from zoomkern.training.task import ClassificationTask
from zoomkern.training.weights import CLASSES, SUFFIX, load_weights, require_same, save_weights

#: What may choose the best epoch: figures of the validation images.
MONITORS = ("val_loss", "val_accuracy", "val_balanced_accuracy", "val_auc")
MODES = ("min", "max")
#: Share of a constant guess's loss above which nothing has been learned.
GUESSED = 0.98
#: What Lightning says at every start and nobody needs to know.
_NOISE = (
    "LightningCLI's args parameter",
    ".*LeafSpec.* is deprecated",
    ".*does not have many workers",
    ".*your dataloader is not resumable",  # it is
    "Checkpoint directory .* exists and is not empty",
    ".*custom batch sampler `LookingBatches`",
)


def _quieten() -> None:
    """Leave out Lightning's advertisements, and warnings about what is meant to be as it is."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: not any(said in record.getMessage() for said in ("Tip", "to estimate number of")))


def silence() -> None:
    """Leave out what Lightning says of the machine and of the run's beginning and end."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", module="torchmetrics")


class RunFolder:
    """Where a run keeps what it writes.

    Args:
        path: of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.weights = self.path / f"weights{SUFFIX}"
        self.classes = self.path / CLASSES
        self.division = self.path / "images.csv"
        self.confusion = self.path / "confusion.csv"
        self.figures = {command: self.path / f"{command}.json" for command in ("validate", "test")}
        self.predictions = self.path / "predictions.csv"
        self.pictures = self.path / "pictures"
        self.curves = self.path / "curves"
        self.curves_picture = self.path / "curves.png"


class Run(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` on Lightning, or their parts.

    All that a run writes lies in ``--folder``: its configuration, curves (CSV and TensorBoard), checkpoints of the best
    and of the last epoch, the weights of the best one as safetensors, the confusion matrix of a test and the table of a
    prediction. No file is read in a way that could run code.

    Args:
        words: a command and its options; the options alone where ``command`` is False.
        command: run the command; False only makes ``model``, ``datamodule`` and ``trainer``.

    Attributes:
        written: results of the command that are worth looking at, for there is more in the folder.

    Raises:
        SystemExit: options that do not fit; what is wrong was printed.
        FileNotFoundError: there is no such recipe.
        ValueError: a recipe is no YAML, or what it says does not fit.
        FileExistsError: the folder holds a run already, and ``--resume true`` was not given.
    """

    def __init__(self, words: Sequence[str], command: bool = True) -> None:
        _quieten()
        require_recipes(words)
        self.predictions = Predictions()
        self.written: list[Path] = []
        self._parsers: list[LightningArgumentParser] = []  # the command's, and those of its subcommands
        try:
            super().__init__(
                ClassificationTask,
                ClassificationDataModule,
                args=list(words),
                run=command,
                seed_everything_default=0,
                trainer_defaults={
                    "use_distributed_sampler": False,  # the data module deals images out to processes itself
                    "log_every_n_steps": 1,
                    "enable_model_summary": False,
                },
                save_config_callback=None,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                parser_kwargs={"prog": "zoomkern"},
            )
        except MisconfigurationException as error:  # an Exception and no more
            raise ValueError(f"these options of the trainer do not fit: {error}") from error

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and which of their arguments are not options."""
        given = {"model", "datamodule", "ckpt_path", "weights_only"}
        return {
            "fit": given | {"train_dataloaders", "val_dataloaders"},
            "validate": given | {"dataloaders", "verbose"},
            "test": given | {"dataloaders", "verbose"},
            "predict": given | {"dataloaders", "return_predictions"},
        }

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """As Lightning's, but a wrong word is answered by what is wrong with it, not by all options."""
        parser = super().init_parser(**{"allow_abbrev": False, **kwargs})
        refuse = parser.error

        def error(message: str, *cause: Any) -> None:
            options = (action.dest for each in self._parsers for action in each._actions)
            refuse(message.rstrip() + nearest(message, options), *cause)

        self._parsers.append(parser)
        setattr(parser, "print_usage", lambda file=None: None)  # noqa: B010 - a method of the class, to mypy
        setattr(parser, "error", error)  # noqa: B010
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a run is asked beside task, data and trainer."""
        parser.add_argument("--folder", type=str, default="runs/latest", help="where everything that is written goes")
        parser.add_argument("--resume", type=bool, default=False, help="go on with the run in the folder, bit for bit")
        parser.add_argument("--save_every", type=int, default=0, help="steps between checkpoints; 0: once per epoch")
        parser.add_argument("--monitor", type=str, default="val_loss", help="the figure that chooses the best epoch")
        parser.add_argument("--mode", type=str, default="min", help="whether the 'min' or the 'max' of it is best")
        parser.add_argument("--patience", type=int, default=0, help="stop after so many epochs without gain; 0: never")
        parser.add_argument("--pictures", type=int, default=20, help="images that a prediction draws, at most")
        parser.add_argument("--weights", type=str, default="", help="file to look with; default: the folder's own")

    @property
    def folder(self) -> RunFolder:
        """Where this run keeps what it writes."""
        return RunFolder(self._get(self.config, "folder"))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer, with this run's curves and checkpoints."""
        path = self.folder.path
        if self.subcommand in (None, "fit"):
            given = self._get(self.config_init, "trainer.logger") or []
            others = given if isinstance(given, list) else [] if given is True else [given]
            own = [WholeCSVLogger(path, "curves"), TensorBoardLogger(path, "tensorboard")]
            kwargs.setdefault("logger", [*own, *others])
        else:
            kwargs.setdefault("logger", False)
        return super().instantiate_trainer(default_root_dir=str(path), **kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> L.Trainer:
        given = config.get("plugins") or []
        config["plugins"] = [*(given if isinstance(given, list) else [given]), WholeCheckpoints()]
        return super()._instantiate_trainer(config, [*callbacks, *self._callbacks(), self.predictions])

    def _callbacks(self) -> list[Callback]:
        """What is kept, and when training ends; the last checkpoint remembers which epoch is the best one."""
        option = {name: self._get(self.config, name) for name in ("monitor", "mode", "patience", "save_every")}
        chosen: Any = {
            "monitor": checks.choice("monitor", option["monitor"], MONITORS),
            "mode": checks.choice("mode", option["mode"], MODES),
        }
        steps = checks.integer("save_every", option["save_every"], 0)
        folder = self.folder.checkpoints
        # whole, for callbacks have their say in it: averaged weights come from one of them
        kept = [KeptCheckpoint(folder, "best", **chosen), KeptCheckpoint(folder, "last", save_on_train_epoch_end=True)]
        if steps:
            kept.append(KeptCheckpoint(folder, "last", every_n_train_steps=steps))
        stop = [EarlyStopping(patience=option["patience"], **chosen)] if option["patience"] else []
        return [*stop, *kept]

    def fit(self, model: ClassificationTask, datamodule: ClassificationDataModule, **options: Any) -> None:
        """Train, then keep the weights of the best epoch; ``--trainer.fast_dev_run true`` leaves nothing.

        Raises:
            FileExistsError: the folder holds a run already, and ``--resume true`` was not given.
        """
        folder, resume = self.folder, self._get(self.config, "resume")
        dry: bool | int = self.trainer.fast_dev_run  # type: ignore[attr-defined]  # a step to see whether it works
        first = self.trainer.is_global_zero and not dry  # the others leave the folder to this one
        if first:
            require_apart(folder.path, datamodule)
        with alone(folder.path / ".lock") if first else nullcontext():
            if first and not resume and any(path.exists() for path in (folder.last, folder.best, folder.weights)):
                raise FileExistsError(f"{str(folder.path)!r} holds a run. Give --resume true, or another --folder.")
            last = folder.last if resume and folder.last.exists() else None
            if first and resume and last is None and _is_trained(folder):
                raise FileExistsError(
                    f"{str(folder.path)!r} holds a trained network and no last.ckpt to go on from. Copy best.ckpt to "
                    "last.ckpt to go on from the best epoch, or give another --folder."
                )
            if first and resume and last is None and self.subcommand:
                warnings.warn(f"{str(folder.path)!r} holds no checkpoint: training starts anew.", stacklevel=2)
            state = {} if last is None else load_checkpoint(last)
            if last is not None:
                require_same(last, state["state_dict"], model)
                if first:
                    require_same_data(folder.config, self._settings(), folder.division, datamodule)
            if first:
                remove_parts(folder.path)
                remove_parts(folder.checkpoints)
                write_whole(folder.config, self._settings())
                write_whole(folder.division, division_table(datamodule))
            if not _has_stopped(state, self._get(self.config, "patience")):
                try:
                    self.trainer.fit(model, datamodule=datamodule, ckpt_path=last, weights_only=True, **options)
                except SystemExit as ended:  # what Lightning makes of signals
                    if first:
                        print(_how_to_go_on(folder.last), file=sys.stderr)
                    raise SystemExit(_status(ended)) from ended
            if first:
                best = self.load(folder.best) if folder.best.exists() else None  # there is none without validation
                write_whole(folder.classes, json.dumps(datamodule.classes) + "\n")
                save_weights(folder.weights, model.model)
                draw_curves(folder.curves_picture, folder.curves, best)
                self.written += [path for path in (folder.weights, folder.curves_picture) if path.exists()]
                if self.subcommand:
                    self._say_if_nothing_was_learned(datamodule)

    def _say_if_nothing_was_learned(self, datamodule: ClassificationDataModule) -> None:
        """On validation images; their loss, where it is watched, is compared with that of a constant guess."""
        trainer: Any = self.trainer
        best = trainer.checkpoint_callback.best_model_score
        held = [datamodule.sets["validation"].images.labels[i] for i in datamodule.indices["validation"]]
        shares = [count / len(held) for count in Counter(held).values()]
        guess = -sum(share * math.log(share) for share in shares)
        if self._get(self.config, "monitor") == "val_loss" and best is not None and best >= GUESSED * guess > 0:
            cure = "more may do (--trainer.max_epochs)"
            if best > 2 * guess:
                cure = "a lower learning rate may do (--model.optimizer.lr)"
            model: Any = self.model
            grids = [part for part in model.model.modules() if isinstance(part, AttentionNetwork)]
            if any(grid.contrast is None for grid in grids):
                cure += (
                    ". Where objects stand out from their surroundings, attention may start there "
                    "(contrast: 3 for each AttentionNetwork)"
                )
            if self._get(self.config, "model.score_scale") == 1:
                cure += ". Unit features want score_scale: 10"
            taken = "1 step was" if trainer.global_step == 1 else f"{trainer.global_step} steps were"
            print(
                f"Nothing has been learned that the {len(held)} validation images show: their loss is {best:.3f} at "
                f"best, and {guess:.3f} for who knows only how many each class has. {taken} taken: {cure}.",
                file=sys.stderr,
            )

    def _settings(self) -> str:
        """All options of this run, as YAML."""
        text: str = self._parser(self.subcommand).dump(
            self.config.get(str(self.subcommand), self.config), skip_none=False
        )
        return text

    def load(self, checkpoint: Path) -> int:
        """Put a checkpoint's weights into the model, and say which epoch they are of."""
        state = load_checkpoint(checkpoint)
        self.model.load_state_dict(state["state_dict"])
        return int(state["epoch"])

    def look(self, command: str = "test") -> dict[str, float]:
        """Figures of the network as it is: of "validate" or "test"."""
        (figures,) = getattr(self.trainer, command)(self.model, datamodule=self.datamodule, verbose=False)
        return dict(figures)

    def probabilities(self) -> dict[str, list[float]]:
        """Class probabilities of every test image by its name, to six digits."""
        self.trainer.predict(self.model, datamodule=self.datamodule, return_predictions=False)
        names = self.datamodule.sets["test"].images.names
        rows = sorted(self.predictions.rows.items())
        return {names[place]: [round(value, 6) for value in row.probability] for place, row in rows}

    def _trained(self, command: str, model: ClassificationTask, options: dict[str, Any]) -> Any:
        named = self._get(self.config, "weights")
        weights = Path(named) if named else self.folder.weights
        run = RunFolder(weights.parent)
        split = "validation" if command == "validate" else "test"
        require_unseen(run.config, run.division, self._settings(), self.datamodule, split)
        require_same_classes(weights, self.datamodule.classes)
        load_weights(weights, model.model)
        if self.trainer.is_global_zero:
            warn_of_another_network(weights, yaml.safe_load(self._settings())["model"]["model"])
        return getattr(self.trainer, command)(model, **options)

    def validate(self, model: ClassificationTask, **options: Any) -> Any:
        """Figures of trained weights on the validation images, also as ``validate.json``."""
        figures = self._trained("validate", model, options)
        self._keep(self.folder.figures["validate"], json.dumps(figures[0], indent=1) + "\n")
        return figures

    def test(self, model: ClassificationTask, **options: Any) -> Any:
        """Figures of trained weights on the test images, also as ``test.json``, and ``confusion.csv``."""
        if not self.datamodule.has_test:
            warnings.warn(
                "There are no test images (data.test or data.num_folds): these are figures of the validation images, "
                "which chose the epoch.",
                stacklevel=2,
            )
        figures = self._trained("test", model, options)
        self._keep(self.folder.figures["test"], json.dumps(figures[0], indent=1) + "\n")
        self._keep(self.folder.confusion, confusion_table(self.datamodule.classes, model.confused))
        return figures

    def predict(self, model: ClassificationTask, **options: Any) -> None:
        """Write ``predictions.csv``, class probabilities of the test images, and ``pictures`` of where it looked."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(Pictures(self.folder.pictures, self._get(self.config, "pictures")))
        self._trained("predict", model, {**options, "return_predictions": False})
        table = predictions_table(self.datamodule.sets["test"].images, self.predictions.rows)
        self._keep(self.folder.predictions, table)
        if self.trainer.is_global_zero and self.folder.pictures.exists():
            self.written.append(self.folder.pictures)
        elif self.trainer.is_global_zero and self._get(self.config, "pictures"):
            warnings.warn("There are no pictures: this network looks at everything and draws nothing.", stacklevel=2)

    def _keep(self, path: Path, text: str) -> None:
        """Write a result, in one of the processes."""
        if self.trainer.is_global_zero:
            write_whole(path, text)
            self.written.append(path)


def _is_trained(folder: RunFolder) -> bool:
    """Whether there is more than what a kill in the first epoch leaves."""
    return folder.weights.exists() or (folder.best.exists() and load_checkpoint(folder.best)["epoch"] > 0)


def _how_to_go_on(checkpoint: Path) -> str:
    if checkpoint.exists():
        return f"Interrupted: the same command with --resume true goes on from {str(checkpoint)!r}."
    return "Interrupted before the first epoch's end, so there is no checkpoint; --save_every 100 keeps some earlier."


def _status(ended: SystemExit) -> int:
    """The exit status of a process that a signal ended; Lightning's would be 0 after a SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(ended, SIGTERMException) else signal.SIGINT)


def _has_stopped(checkpoint: dict[str, Any], patience: int) -> bool:
    """Whether training ended because nothing was gained for so many epochs; 0: it never does."""
    stops = [state for name, state in checkpoint.get("callbacks", {}).items() if name.startswith("EarlyStopping")]
    return patience > 0 and any(state["wait_count"] >= patience for state in stops)
