import lightning as L
import pytest

from zoomkern.data import ImageFolder, ImageTable
from zoomkern.training.augmentation import Augmentation
from zoomkern.training.data import ClassificationDataModule


def indices(data):
    return {split: sorted(part) for split, part in data.indices.items()}


def module(small, images=None, **options):
    return ClassificationDataModule(images or small.Squares(24), **{"view_scale": 0.25, **options})


def test_folds_share_no_image_and_leave_none_out(small):
    tests = []
    for fold in range(4):
        parts = indices(module(small, num_folds=4, fold=fold, validation=0.25))
        assert sorted(sum(parts.values(), [])) == list(range(24))
        tests += parts["test"]
    assert sorted(tests) == list(range(24))


def test_every_part_has_its_share_of_every_class(small):
    data = module(small, num_folds=4, validation=0.34)
    labels = small.Squares(24).labels
    for part, size in (("test", 3), ("validation", 3), ("train", 6)):
        assert [[labels[i] for i in data.indices[part]].count(k) for k in (0, 1)] == [size, size]


def test_groups_stay_together(small):
    images = small.Squares(24, group_size=2)
    for fold in range(3):
        data = module(small, images, num_folds=3, fold=fold, validation=0.25)
        groups = [{images.groups[i] for i in part} for part in data.indices.values()]
        assert sum(map(len, groups)) == len(set().union(*groups)) == 12


def test_fixed_folds_are_those_of_the_file(small, tmp_path):
    images = small.Squares(24, group_size=2)
    lines = [f"{name},{i // 8}" for i, name in enumerate(images.names)]
    (tmp_path / "folds.csv").write_text("\n".join(["name,fold", *lines]))
    for options in ({}, {"num_folds": 3}):
        data = module(small, images, folds_file=str(tmp_path / "folds.csv"), fold=1, validation=0.25, **options)
        assert data.indices["test"] == list(range(8, 16))
        assert data.has_test
    with pytest.raises(ValueError, match="num_folds must be that of .*folds.csv', 3; got 4"):
        module(small, images, folds_file=str(tmp_path / "folds.csv"), num_folds=4)
    lines[15] = f"{images.names[15]},2"
    (tmp_path / "folds.csv").write_text("\n".join(["name,fold", *lines]))
    with pytest.raises(ValueError, match="folds.csv' divides the group '7', also into fold 2"):
        module(small, images, folds_file=str(tmp_path / "folds.csv"))


def test_a_division_is_a_function_of_its_seed(small):
    one, two, other = (indices(module(small, num_folds=4, division=seed)) for seed in (0, 0, 1))
    assert one == two != other


def test_official_splits_stay_as_they_are(small):
    test, validation = small.Squares(6), small.Squares(4)
    data = module(small, test=test, validation=validation)
    assert indices(data) == {"train": list(range(24)), "validation": list(range(4)), "test": list(range(6))}
    assert data.sets["test"].images is test
    assert data.sets["validation"].images is validation


@pytest.mark.parametrize("name", ["test", "validation"])
def test_sets_share_no_group(small, name):
    """But images that are groups of their own may have equal names in two folders."""
    images, others = small.Squares(24, group_size=2), small.Squares(6, group_size=2)
    with pytest.raises(ValueError, match=f"{name} must hold other groups .* they share 3, such as '"):
        module(small, images, **{name: others})
    others.groups = [f"other {group}" for group in others.groups]
    module(small, images, **{name: others})
    module(small, images, **{name: small.Squares(6)})


def test_the_test_set_shares_no_group_with_the_validation_set(small):
    parts = [small.Squares(6, group_size=2) for _ in range(2)]
    with pytest.raises(ValueError, match="test must hold other groups"):
        module(small, validation=parts[0], test=parts[1])


def test_without_a_test_set_the_validation_images_are_looked_at(small):
    data = module(small, validation=0.25)
    assert data.indices["test"] == data.indices["validation"]
    assert len(data.indices["train"]) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_folds": 4, "fold": 4}, "fold must lie below num_folds = 4; got 4"),
        ({"view_size": (4, 4)}, "give one of view_scale and view_size"),
        ({"view_scale": None}, "give one of view_scale and view_size; got None and None"),
        ({"batch_size": 0}, "batch_size must be between 1"),
        ({"num_folds": 13}, "13"),
        ({"validation": 1.5}, "share"),
        ({"num_workers": -1}, "num_workers must be between 0"),
    ],
)
def test_bad_arguments(small, options, message):
    with pytest.raises(ValueError, match=message):
        module(small, **options)


def test_a_test_set_needs_no_folds(small):
    with pytest.raises(ValueError, match="give test or num_folds, not both"):
        module(small, test=small.Squares(), num_folds=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_bring_the_same_batches(small, tmp_path, workers):
    seen = []
    for number in (0, workers):
        task, data = small.parts(num_workers=number, augmentation=Augmentation(colour=0.1))
        trainer = small.trainer(tmp_path, 2)
        trainer.fit(task, datamodule=data)
        seen.append({name: value.clone() for name, value in task.state_dict().items()})
    assert all(value.equal(seen[1][name]) for name, value in seen[0].items())


@pytest.mark.parametrize(("limit", "taken"), [(2, 2), (0.7, 2), (1, 1), (9, 3)])
def test_an_epoch_that_is_cut_short_is_an_epoch(small, tmp_path, limit, taken):
    seen, validated = [], []

    class Seen(L.Callback):
        def on_train_batch_start(self, trainer, task, batch, step):
            seen.append((trainer.current_epoch, step, batch.index.tolist()))

        def on_validation_end(self, trainer, task):
            validated.append(trainer.current_epoch)

    task, data = small.parts()  # three batches an epoch
    fit = small.trainer(tmp_path, 3, callbacks=[Seen()], limit_train_batches=limit, num_sanity_val_steps=0)
    fit.fit(task, datamodule=data)
    assert [place[:2] for place in seen] == [(epoch, step) for epoch in range(3) for step in range(taken)]
    assert validated == [0, 1, 2]
    orders = [[index for at, _, index in seen if at == epoch] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    for order in orders:
        places = sum(order, [])
        assert len(set(places)) == len(places)


def test_a_file_is_on_one_side_of_a_split(small, tmp_path):
    root, link = small.save_pictures(tmp_path / "pictures"), tmp_path / "link"
    link.symlink_to(root)
    images, same = ImageFolder(root), ImageFolder(link)
    other = ImageFolder(small.save_pictures(tmp_path / "other"))
    wrong = [
        ("test must hold other images than train; 22 are", {"test": same}),
        ("validation must hold other images than train; 24 are", {"validation": same}),
        ("test must hold other images than validation; 24 are", {"validation": other, "test": other}),
    ]
    for said, sets in wrong:
        with pytest.raises(ValueError, match=f"{said} in both, such as '.*png'. Give another set"):
            ClassificationDataModule(images, view_scale=0.25, **sets)
    ClassificationDataModule(images, test=other, view_scale=0.25)


def test_a_file_that_is_named_twice_is_in_one_split(small, tmp_path):
    root = small.save_pictures(tmp_path / "pictures", 12)
    lines = [
        f"{dot}{path.relative_to(root)},{path.parent.name}"
        for path in sorted(root.rglob("*.png"))
        for dot in ("", "./")
    ]
    (tmp_path / "table.csv").write_text("\n".join(["image,label", *lines]) + "\n")
    with pytest.raises(ValueError, match="must hold other images than .* Give another set, or name each file once"):
        ClassificationDataModule(ImageTable(tmp_path / "table.csv", root=root), num_folds=2, view_scale=0.25)


@pytest.mark.parametrize("each", [1, 2, 3, 4])
def test_batches_go_on_where_training_stands_when_several_make_a_step(small, tmp_path, each):
    seen = []

    class Seen(L.Callback):
        def on_train_batch_start(self, trainer, task, batch, step):
            seen.append((trainer.current_epoch, step, batch.index.tolist(), batch.seed.tolist()))

    task, data = small.parts()  # three batches an epoch
    small.trainer(tmp_path, 3, callbacks=[Seen()], accumulate_grad_batches=each).fit(task, datamodule=data)
    assert [(epoch, step) for epoch, step, _, _ in seen] == [(epoch, step) for epoch in range(3) for step in range(3)]
    for epoch in range(3):
        places = sorted(sum((index for at, _, index, _ in seen if at == epoch), []))
        assert places == sorted(data.indices["train"])
    seeds = sum((seed for _, _, _, seed in seen), [])
    assert len(set(seeds)) == 3 * len(data.indices["train"])
