"""Which images train, which choose the epoch, and which are looked at once at the end."""

from __future__ import annotations

import itertools
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoomkern import checks
from zoomkern.data.dataset import ImageSet
from zoomkern.data.folds import fixed_folds, grouped_folds, holdout, stratified_folds
from zoomkern.training.augmentation import Augmentation
from zoomkern.training.batches import Item, collate
from zoomkern.training.order import EpochBatches, LookingBatches
from zoomkern.training.views import AugmentedImages, Resident, ViewedImages, Views


class ClassificationDataModule(L.LightningDataModule):
    """Images for training, validation and test, with their views.

    Three ways to divide: a set with an official split gives ``images`` and ``test``; cross-validation gives
    ``num_folds`` and ``fold``, stratified by class, and by group where images share one, or ``folds_file``; otherwise
    every image trains, and the validation images are the test images, too. The share ``validation`` is held out of the
    training images unless it is a set of its own. Epochs are chosen on it; test images are not looked at before the
    end.

    Args:
        images: the training set, or the set that is divided into folds.
        test: the official test set.
        validation: share of the training images to hold out, or an official validation set.
        num_folds: folds to divide ``images`` into.
        folds_file: of folds that are fixed, as :func:`~zoomkern.data.fixed_folds` reads it, instead of made ones.
        fold: which of them is the test set.
        division: seed of the folds and of the held-out share; another one makes another repetition.
        view_scale: scale of the first stage's view; or
        view_size: ``(h, w)`` of it, which images of different sizes need to share a batch.
        tile_scale: scale of the second stage's tiles, for models that have one.
        batch_size: images of a step, over all processes together.
        seed: of the order and of all draws.
        augmentation: changes training images.
        watch_test: look at the test images after every epoch, too, so that a curve shows what choosing the epoch by
            them would have given, as others report it. Nothing is chosen by it.
        resident: true keeps images and views in memory from the first time on; "views" the views alone, for sets larger
            than memory; false nothing, so that views are made whenever an image is looked at.
        num_workers: processes that load images; 0, which is best for resident images, loads them in the training one.
            What is to be resident is loaded before the processes start, which share it. With 0, a GPU reads patches
            of resident images of a MiB or more from where they lie; all other images are copied to it whole.

    Attributes:
        has_test: whether test images are others than those that choose the epoch.

    Raises:
        ValueError: arguments that contradict each other, or sets that share a file or a named group (patients, drives).

    Example:
        >>> data = ClassificationDataModule(ColonCancer(root), num_folds=10, fold=3, view_scale=0.1, tile_scale=0.2)
    """

    def __init__(
        self,
        images: ImageSet,
        test: ImageSet | None = None,
        validation: float | ImageSet = 0.1,
        num_folds: int | None = None,
        folds_file: str | None = None,
        fold: int = 0,
        division: int = 0,
        view_scale: float | None = None,
        view_size: tuple[int, int] | None = None,
        tile_scale: float | None = None,
        batch_size: int = 8,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        watch_test: bool = False,
        resident: Resident = True,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        divided = num_folds is not None or folds_file is not None
        if test is not None and divided:
            raise ValueError("give test or num_folds, not both: a set with an official test split needs no folds.")
        if (view_scale is None) == (view_size is None):
            raise ValueError(f"give one of view_scale and view_size; got {view_scale} and {view_size}.")
        if view_scale is not None and not 0 < view_scale <= 1:
            raise ValueError(f"view_scale must be above 0 and at most 1; got {view_scale}. Try 0.1.")
        self.classes = images.classes
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.num_workers = checks.integer("num_workers", num_workers, 0)
        self.seed = seed
        self.tile_scale = tile_scale
        views = Views(view_scale, None if view_size is None else checks.pair("view_size", view_size), tile_scale)
        keeping = (views, seed, resident, num_workers == 0 and torch.cuda.is_available())
        self.sets = {"train": ViewedImages(images, *keeping)}
        self.indices = {"train": list(range(len(images)))}
        self._augmentation = augmentation
        self.watch_test = watch_test
        if divided:
            folds = _folds(images, num_folds, folds_file, division)
            if not 0 <= fold < len(folds):
                raise ValueError(f"fold must lie below num_folds = {len(folds)}; got {fold}.")
            self._hold_out("test", folds[fold].tolist())
        if isinstance(validation, ImageSet):
            self._add("validation", ViewedImages(validation, *keeping))
            _check_apart(images, validation, "validation")
        else:
            _, held = holdout(images.labels, images.groups, validation, division, self.indices["train"])
            self._hold_out("validation", held.tolist())
        self.has_test = test is not None or divided
        if test is not None:
            self._add("test", ViewedImages(test, *keeping))
            for other in (images, validation) if isinstance(validation, ImageSet) else (images,):
                _check_apart(other, test, "test")
        elif not self.has_test:
            self.sets["test"], self.indices["test"] = self.sets["validation"], self.indices["validation"]
        self._check_files()

    def _check_files(self) -> None:
        """No file may be in two splits, by whatever names."""
        splits = ("train", "validation", "test") if self.has_test else ("train", "validation")
        files = {s: {self.sets[s].images.source(i) for i in self.indices[s]} - {""} for s in splits}
        for one, other in itertools.combinations(splits, 2):
            both = sorted(files[one] & files[other])
            if both:
                raise ValueError(
                    f"{other} must hold other images than {one}; {len(both)} are in both, such as {both[0]!r}. Give "
                    "another set, or name each file once."
                )

    def _hold_out(self, split: str, indices: list[int]) -> None:
        held = set(indices)
        self.sets[split] = self.sets["train"]
        self.indices[split] = sorted(held)
        self.indices["train"] = [i for i in self.indices["train"] if i not in held]

    def _add(self, split: str, images: ViewedImages) -> None:
        self.sets[split] = images
        self.indices[split] = list(range(len(images)))

    def train_dataloader(self) -> DataLoader[Item]:
        """From where training stands to the end of its epoch."""
        trainer: Any = self.trainer

        def standing() -> tuple[int, int]:
            """The epoch, and the batches of it that were taken: its last optimiser's step may have had fewer."""
            each, most = trainer.accumulate_grad_batches, trainer.limit_train_batches
            batches_taken = min(len(batches), most) if isinstance(most, int) else int(len(batches) * most)
            epoch, done = divmod(trainer.global_step, -(-batches_taken // each))
            return epoch, done * each

        ranks = (trainer.global_rank, trainer.world_size)
        batches = EpochBatches(self.indices["train"], self.batch_size, self.seed, standing, *ranks)
        return self._loader("train", batches, self._augmentation)

    def val_dataloader(self) -> list[DataLoader[Item]]:
        """The images that epochs are chosen by, and test images that are watched."""
        return [self._looking(split) for split in ("validation", "test")[: 1 + self.watch_test]]

    def test_dataloader(self) -> DataLoader[Item]:
        """The images of the final figure."""
        return self._looking("test")

    def predict_dataloader(self) -> DataLoader[Item]:
        """As for the test."""
        return self._looking("test")

    def _looking(self, split: str) -> DataLoader[Item]:
        trainer: Any = self.trainer
        batches = LookingBatches(self.indices[split], self.batch_size, trainer.global_rank, trainer.world_size)
        return self._loader(split, batches)

    def _loader(
        self, split: str, batches: EpochBatches | LookingBatches, augmentation: Augmentation | None = None
    ) -> DataLoader[Item]:
        images: Dataset[Item] = self.sets[split]
        if self.num_workers:  # they share what is there when they start
            trainer: Any = self.trainer
            self.sets[split].load(self.indices[split], progress=trainer.progress_bar_callback is not None)
        if augmentation is not None:
            images = AugmentedImages(self.sets[split], augmentation)
        return DataLoader(images, batch_sampler=batches, collate_fn=collate, num_workers=self.num_workers)


def _folds(images: ImageSet, number: int | None, file: str | None, division: int) -> list[Tensor]:
    """Places of each fold's images: those that a file fixes, or stratified ones that keep groups whole."""
    if file is None:
        assert number is not None
        if len(set(images.groups)) == len(images.groups):
            return stratified_folds(images.labels, number, division)
        return grouped_folds(images.labels, images.groups, number, division)
    folds = fixed_folds(images.names, file)
    if number not in (None, len(folds)):
        raise ValueError(
            f"num_folds must be that of {file!r}, {len(folds)}; got {number}. Give the same, or leave it out."
        )
    seen: set[str] = set()
    for place, fold in enumerate(folds):
        groups = {images.groups[i] for i in fold.tolist()}
        if groups & seen:
            raise ValueError(
                f"{file!r} divides the group {min(groups & seen)!r}, also into fold {place}. Move its images."
            )
        seen |= groups
    return folds


def _check_apart(images: ImageSet, others: ImageSet, name: str) -> None:
    """No group may be on both sides of a split; images that are groups of their own have names only their set knows."""
    if images.groups == images.names or others.groups == others.names:
        return
    shared = sorted(set(images.groups) & set(others.groups))
    if shared:
        raise ValueError(
            f"{name} must hold other groups than the images it is kept apart from; they share {len(shared)}, such as "
            f"{shared[0]!r}. Move each group's images to one side, or give one set and num_folds."
        )
