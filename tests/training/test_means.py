import torch

from zoomkern.training.means import Mean


def test_a_mean_is_weighted():
    mean = Mean()
    mean.update(torch.tensor(2.0), 3)
    mean.update(torch.tensor(7.0), torch.tensor(2.0))
    mean.update(torch.tensor(100.0), 0)
    assert float(mean.compute()) == (2 * 3 + 7 * 2) / 5


def test_what_is_no_number_is_not_hidden():
    mean = Mean()
    mean.update(torch.tensor(2.0), 3)
    mean.update(torch.tensor(torch.nan), 1)
    assert mean.compute().isnan()


def test_it_is_no_part_of_a_checkpoint():
    assert not Mean().state_dict()
