from zoomkern.training.curves import draw_curves, read_curves


def write(folder, version, text):
    path = folder / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_resumed_run_has_one_curve(tmp_path):
    write(tmp_path, 0, "epoch,step,train_loss,val_loss\n0,2,,0.7\n0,2,0.8,\n1,5,,0.6\n1,5,0.75,\n")
    write(tmp_path, 1, "epoch,step,train_loss,val_loss\n1,5,0.5,0.55\n2,8,0.4,\n")
    write(tmp_path, 2, "epoch,lr,step\n,0.1,2\n,0.2,5\n")  # as LearningRateMonitor has it
    write(tmp_path, 10, "epoch,step,val_accuracy\n3,11,0.9\n")
    curves = read_curves(tmp_path)
    assert curves["train_loss"] == {0: 0.8, 1: 0.5, 2: 0.4}
    assert curves["val_loss"] == {0: 0.7, 1: 0.55}
    assert curves["val_accuracy"] == {3: 0.9}
    assert "lr" not in curves
    draw_curves(tmp_path / "curves.png", tmp_path, 1)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert read_curves(tmp_path / "nowhere") == {}
