"""The page of recipes agrees with the results beside it, and what recipes name exists."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from recipes import curves, report

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_page_shows_the_results():
    page = (RECIPES / "README.md").read_text()
    assert report.filled(page) == page, "run python -m recipes.report"


def test_a_study_that_the_page_does_not_name_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    (tmp_path / "results" / "new").mkdir(parents=True)
    with pytest.raises(ValueError, match="has no line '<!-- results: new -->'"):
        report.filled("# Recipes\n")


def test_means_and_deviations_by_hand(tmp_path):
    fold = '{"accuracy": %s, "last_accuracy": 0.5, "optimistic_accuracy": null, "auc": 1.0}'
    for number, accuracy in enumerate((0.8, 0.9, 1.0)):
        path = tmp_path / "one" / "folds" / f"repetition-00-fold-{number:02d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fold % accuracy)
    lines = report.table(tmp_path).splitlines()
    assert "best epoch on the test images" not in lines[0]
    assert lines[2] == "| one | 3 | 90.0 ± 10.0 | 50.0 ± 0.0 | 100.0 ± 0.0 |"


def write_fold(path, number, **figures):
    path.mkdir(parents=True, exist_ok=True)
    fold = {"repetition": number, "fold": 0, "last_accuracy": 0.5, "optimistic_accuracy": None, **figures}
    (path / f"repetition-{number:02d}-fold-00.json").write_text(json.dumps(fold))


def test_differences_are_those_of_equal_folds(tmp_path):
    for number, accuracy in enumerate((0.5, 0.6, 0.9)):
        write_fold(tmp_path / "base" / "folds", number, accuracy=accuracy, auc=0.5, loss=1.0)
    for number, accuracy in ((1, 0.7), (2, 0.9), (5, 0.1)):  # the last has no counterpart
        write_fold(tmp_path / "other" / "folds", number, accuracy=accuracy, auc=0.75, loss=0.5)
    lines = report.differences(tmp_path, "base").splitlines()
    assert lines[0] == "| run minus base | pairs | accuracy | last epoch | AUC | test loss |"
    assert lines[2:] == ["| other | 2 | +5.0 ± 5.0 | +0.0 ± 0.0 | +25.0 ± 0.0 * | -0.500 ± 0.000 * |"]


@pytest.mark.parametrize(("third", "star"), [(0.11, True), (0.50, False)])
def test_a_star_marks_what_a_paired_t_test_calls_significant(tmp_path, third, star):
    for number, more in enumerate((0.10, 0.12, third)):
        write_fold(tmp_path / "base" / "folds", number, accuracy=0.4, auc=0.5, loss=1.0)
        write_fold(tmp_path / "other" / "folds", number, accuracy=0.4 + more, auc=0.5, loss=1.0)
    first = report.differences(tmp_path, "base").splitlines()[2].split(" | ")[2]
    assert first.endswith("*") == star


@pytest.mark.parametrize(("spread", "cell"), [(0.1, "+20.0 ± 4.5 *"), (0.15, "+20.0 ± 6.7")])
def test_folds_that_share_training_images_need_a_larger_difference(tmp_path, spread, cell):
    for fold in range(6):  # of 2.57 standard errors at least if they were independent; here of 3.81
        for run, accuracy in (("base", 0.4), ("other", 0.6 + spread * (-1) ** fold)):
            folder = tmp_path / run / "folds"
            folder.mkdir(parents=True, exist_ok=True)
            figures = {
                "accuracy": accuracy,
                "last_accuracy": None,
                "optimistic_accuracy": None,
                "auc": 0.5,
                "loss": 1.0,
            }
            text = json.dumps({"repetition": 0, "fold": fold, **figures})
            (folder / f"repetition-00-fold-{fold:02d}.json").write_text(text)
    assert f"| {cell} |" in report.differences(tmp_path, "base")


def test_a_column_that_a_run_lacks_stays_empty(tmp_path):
    for number in range(2):
        write_fold(tmp_path / "base" / "folds", number, accuracy=0.5, auc=0.5, loss=1.0)
        write_fold(tmp_path / "other" / "folds", number, accuracy=0.5, auc=None, loss=1.0)
    assert "| +0.0 ± 0.0 |  | +0.000 ± 0.000 |" in report.differences(tmp_path, "base")


def test_differences_are_written_between_their_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    for run, accuracy in (("base", 0.5), ("other", 0.6)):
        write_fold(tmp_path / "results" / "study" / run / "folds", 0, accuracy=accuracy, auc=0.5, loss=1.0)
    marks = "<!-- results: study -->\n<!-- /results -->\n<!-- differences: study from base -->\noutdated\n"
    page = report.filled(f"{marks}<!-- /differences -->\nrest\n")
    assert "| other | 1 | +10.0 | +0.0 | +0.0 | +0.000 |\n<!-- /differences -->\nrest\n" in page
    assert "outdated" not in page
    assert report.filled(page) == page
    with pytest.raises(ValueError, match="names a run 'none'"):
        report.filled(page.replace("from base", "from none"))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_makes_its_network_and_data(path, real_data, large_sets, monkeypatch, tmp_path):
    from zoomkern.training.run import Run

    real = real_data("colon").parent
    (tmp_path / "data").mkdir()
    for folder in (*real.iterdir(), *large_sets.iterdir()):
        (tmp_path / "data" / folder.name).symlink_to(folder)
    monkeypatch.setenv("ZOOMKERN_DATA", str(tmp_path / "data"))
    for place in range(20):
        file = tmp_path / "photos" / ("cat" if place % 2 else "dog") / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["zoomkern"])
    run = Run([f"--config={path}", f"--folder={tmp_path}"], command=False)
    assert run.model.metrics["val"]["accuracy"].num_classes == len(run.datamodule.classes)
    assert min(map(len, run.datamodule.indices.values())) > 0


def recipes_of(*sets):
    """Names of the recipes of some sets, but for dense networks, whose step takes minutes here."""
    return sorted(path.stem for name in sets for path in RECIPES.glob(f"*/{name}-*.yaml") if "bagnet" not in path.stem)


@pytest.fixture
def train_a_step(large_sets, monkeypatch, tmp_path):
    """Take a step of a recipe's training on miniatures, by its name and further words."""
    from zoomkern.cli.main import main

    monkeypatch.setenv("ZOOMKERN_DATA", str(large_sets))
    monkeypatch.setattr(sys, "argv", ["zoomkern"])

    def train(name, *words):
        recipe = RECIPES / "classification" / f"{name}.yaml"
        given = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--data.num_workers=0"]
        assert main(["fit", f"--config={recipe}", f"--folder={tmp_path / 'run'}", *given, *words]) == 0
        assert not (tmp_path / "run").exists()

    return train


@pytest.mark.parametrize("name", recipes_of("camelyon16", "needle-camelyon", "fmow", "traffic-signs"))
def test_recipes_of_sets_that_are_not_here_train_a_step_on_miniatures(name, train_a_step):
    train_a_step(name)


@pytest.mark.parametrize("name", ["camelyon16-zoom-in", "needle-camelyon-zoom-in"])
def test_outlines_of_lesions_teach_attention(name, train_a_step, monkeypatch):
    from zoomkern.training import task

    losses = []

    def noted(batch, out, model):
        loss = annotation_loss(batch, out, model)
        losses.append(loss.item())
        assert [len(areas) for areas in batch.areas] == [64 * label for label in batch.labels.tolist()]  # strips
        assert batch.labels.any()
        return loss

    annotation_loss = task.annotation_loss
    monkeypatch.setattr(task, "annotation_loss", noted)
    train_a_step(name, "--model.supervision=0.1", "--data.batch_size=4")
    (loss,) = losses
    assert loss > 0


def test_mean_curves_of_folds(tmp_path):
    for fold, accuracies in enumerate(([0.5, 0.75], [0.25])):  # the second fold was stopped after an epoch
        folder = tmp_path / "training" / f"repetition-00-fold-0{fold}" / "curves" / "version_0"
        folder.mkdir(parents=True)
        lines = [f"{epoch},{8 * epoch},{value}" for epoch, value in enumerate(accuracies)]
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,val_accuracy", *lines, ""]))
    assert curves.mean_curves(tmp_path) == ({"val_accuracy": [(0, 0.375), (1, 0.75)]}, 2)
    curves.main([str(tmp_path / "curves.png"), f"a run={tmp_path}"])
    assert (tmp_path / "curves.png").read_bytes()[1:4] == b"PNG"
    table = (tmp_path / "curves.csv").read_text().splitlines()
    assert table == ["run,folds,figure,epoch,mean", "a run,2,val_accuracy,0,0.375", "a run,2,val_accuracy,1,0.75"]
    with pytest.raises(FileNotFoundError, match="holds no training"):
        curves.mean_curves(tmp_path / "training")
