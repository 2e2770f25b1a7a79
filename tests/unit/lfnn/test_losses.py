import math

import pytest
import torch
from torch.nn import functional

from brainage.errors import ConfigError, ShapeError
from brainage.lfnn.losses import (
    follower_loss,
    global_loss,
    leader_count,
    leader_loss,
    local_loss,
    select_leaders,
)
from brainage.lfnn.targets import Ages, Classes, ScalarAge, class_log_softmax, class_softmax

BINS = Ages(20.0, 80.0, 31)


def random_outputs(samples: int = 5, workers: int = 4, width: int = 31) -> torch.Tensor:
    return torch.randn(samples, workers, width, generator=torch.Generator().manual_seed(3)).double()


def test_class_loss_is_cross_entropy_of_each_worker():
    outputs, labels = random_outputs(width=10), torch.tensor([1, 0, 9, 3, 3])
    losses = Classes(10).loss(outputs, labels)
    for worker in range(4):
        expected = functional.cross_entropy(outputs[:, worker], labels, reduction="none")
        torch.testing.assert_close(losses[:, worker], expected)


def test_age_bin_loss_is_kl_divergence_from_the_soft_label():
    outputs, ages = random_outputs(), torch.tensor([20.0, 33.0, 50.5, 79.0, 80.0]).double()
    losses = BINS.loss(outputs, ages)
    label = BINS.soft_label(ages)
    for worker in range(4):
        log_probability = functional.log_softmax(outputs[:, worker], -1)
        expected = functional.kl_div(log_probability, label, reduction="none").sum(-1)
        torch.testing.assert_close(losses[:, worker], expected)


def test_age_bin_loss_is_zero_for_the_label_itself():
    ages = torch.tensor([31.0, 64.0]).double()
    outputs = BINS.soft_label(ages).log()[:, None, :]
    assert BINS.loss(outputs, ages).abs().max() < 1e-12


def test_soft_label_is_a_distribution_with_the_age_as_its_mean():
    ages = torch.tensor([40.0, 51.3, 60.0]).double()
    label = BINS.soft_label(ages)
    torch.testing.assert_close(label.sum(-1), torch.ones(3).double())
    mean = (label * BINS.centres(label)).sum(-1)
    torch.testing.assert_close(mean, ages, atol=0.05, rtol=0)


def test_age_bins_predict_the_expected_age():
    outputs = torch.full((1, 31), -50.0).double()
    outputs[0, [10, 20]] = 0.0
    assert BINS.predict(outputs).item() == pytest.approx((40 + 60) / 2)


def test_sigma_is_counted_in_bins():
    label = Ages(20.0, 80.0, 31, sigma_bins=2.0).soft_label(torch.tensor([50.0]).double())[0]
    assert (label[17] / label[15]).item() == pytest.approx(math.exp(-0.5))  # 4 years, 2 bins


def test_spread_is_the_deviation_of_the_predicted_distribution():
    outputs = torch.full((1, 31), -50.0).double()
    outputs[0, [10, 20]] = 0.0
    assert BINS.spread(outputs).item() == pytest.approx(10.0)


def test_scores_are_errors_in_years_or_right_classes():
    outputs = torch.full((1, 31), -50.0)
    outputs[0, 10] = 0.0
    assert BINS.score(outputs, torch.tensor([43.0])).item() == pytest.approx(3.0, abs=1e-4)
    scalar = ScalarAge(20.0, 80.0).score(torch.tensor([[0.5]]), torch.tensor([70.0]))
    assert scalar.tolist() == [5.0]
    right = Classes(2).score(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1]))
    assert right.tolist() == [1.0, 0.0] and right.dtype == torch.float32


def test_predictions_keep_every_axis_but_the_last():
    outputs = torch.tensor([[[0.0, 1.0, 0.0], [2.0, 1.0, 0.0]]])
    assert Classes(3).predict(outputs).tolist() == [[1, 0]]
    years = Ages(20.0, 80.0, 3).predict(torch.tensor([[[50.0, 0, 0], [0, 0, 50.0]]]))
    torch.testing.assert_close(years, torch.tensor([[20.0, 80.0]]))


@pytest.mark.parametrize("target", [BINS, ScalarAge(18, 94)], ids=["bins", "scalar"])
@pytest.mark.parametrize("read", ["predict", "median", "spread", "loss", "score"])
def test_outputs_in_half_precision_are_read_in_float32(target, read):
    if not hasattr(target, read):
        return
    halves = torch.randn(5, target.outputs, generator=torch.Generator().manual_seed(0)).bfloat16()
    ages_years = torch.tensor([18.2, 33.3, 51.7, 70.1, 93.9])
    given = {"loss": (ages_years,), "score": (ages_years,)}.get(read, ())
    results = [
        getattr(target, read)(outputs[:, None] if read == "loss" else outputs, *given)
        for outputs in (halves, halves.float())
    ]
    assert torch.equal(*results)


@pytest.mark.parametrize("width", [2, 16, 17, 40])
def test_softmax_of_any_width_is_over_the_classes(width):
    outputs = random_outputs(width=width)
    expected = functional.softmax(outputs, dim=-1)
    torch.testing.assert_close(class_softmax(outputs), expected)
    torch.testing.assert_close(class_log_softmax(outputs).exp(), expected)


def test_outputs_that_would_broadcast_are_told_what_to_do():
    with pytest.raises(ShapeError) as caught:
        BINS.loss(torch.zeros(4, 31), torch.zeros(4))
    assert str(caught.value) == "outputs: expected shape (B, W, C), got (4, 31)."
    with pytest.raises(ShapeError) as caught:
        BINS.loss(torch.zeros(4, 2, 31), torch.zeros(4, 1))
    assert str(caught.value) == (
        "target: expected shape (4,), got (4, 1). "
        "Squeeze the target: (B, 1) against (B,) would broadcast to (B, B)."
    )


def test_scalar_loss_and_prediction_are_in_the_same_unit():
    target, outputs = ScalarAge(20.0, 80.0), torch.tensor([[[0.5]], [[-1.0]]])
    ages = torch.tensor([50.0, 20.0])
    torch.testing.assert_close(target.predict(outputs[:, 0]), torch.tensor([65.0, 20.0]))
    torch.testing.assert_close(target.loss(outputs, ages), torch.tensor([[0.5], [0.0]]))


@pytest.mark.parametrize("target", [BINS, ScalarAge(20.0, 80.0), Classes(31)])
def test_column_of_targets_is_refused(target):
    outputs = torch.zeros(4, 2, target.outputs)
    with pytest.raises(ShapeError, match=r"expected shape \(4,\), got \(4, 1\)"):
        target.loss(outputs, torch.zeros(4, 1))
    with pytest.raises(ShapeError):
        global_loss(outputs[:, 0], torch.zeros(4, 1), target)


@pytest.mark.parametrize("target", [BINS, ScalarAge(20.0, 80.0), Classes(31)])
@pytest.mark.parametrize("shape", [(4,), (4, 30)])
def test_outputs_of_another_width_are_refused(target, shape):
    outputs = torch.zeros(shape)
    for call in (target.predict, lambda outputs: target.score(outputs, torch.zeros(4))):
        with pytest.raises(ShapeError):
            call(outputs)
    with pytest.raises(ShapeError):
        target.loss(torch.zeros(4, 2, 30), torch.zeros(4))


@pytest.mark.parametrize("target", [BINS, ScalarAge(20.0, 80.0), Classes(31)])
def test_score_of_a_column_of_targets_is_refused(target):
    with pytest.raises(ShapeError):
        target.score(torch.zeros(4, target.outputs), torch.zeros(4, 1))


def test_ages_are_no_classes():
    with pytest.raises(ShapeError, match="fraction"):
        Classes(100).loss(torch.zeros(2, 1, 100), torch.tensor([40.0, 45.5]))


@pytest.mark.parametrize("ages_years", [(80.0, 20.0), (50.0, 50.0), (math.nan, 80.0)])
def test_ages_need_a_range(ages_years):
    for make in (Ages, ScalarAge):
        with pytest.raises(ConfigError):
            make(*ages_years)


@pytest.mark.parametrize(("bins", "sigma"), [(1, 1.0), (31, 0.0), (31, math.inf)])
def test_ages_need_two_bins_and_a_width(bins, sigma):
    with pytest.raises(ConfigError):
        Ages(20.0, 80.0, bins, sigma)


@pytest.mark.parametrize(
    ("workers", "fraction", "expected"),
    [
        (8, 1.0, 8),
        (8, 0.5, 4),
        (8, 0.51, 5),
        (8, 0.01, 1),
        (32, 0.1, 4),
        (30, 0.1, 3),
        (7, 1 / 7, 1),
    ],
)
def test_leader_count_is_the_ceiling(workers, fraction, expected):
    assert leader_count(workers, fraction) == expected


def test_leaders_of_a_batch_have_the_smallest_mean_loss():
    losses = torch.tensor([[1.0, 5.0, 2.0, 9.0], [4.0, 1.0, 1.0, 9.0]])
    leadership = select_leaders(losses, 0.5)
    assert leadership.leader_mask.tolist() == [[True, False, True, False]] * 2
    assert leadership.best.tolist() == [2, 2]


def test_leaders_of_a_sample_have_the_smallest_loss_on_it():
    losses = torch.tensor([[1.0, 5.0, 2.0, 9.0], [4.0, 1.0, 1.5, 9.0]])
    leadership = select_leaders(losses, 0.25, "per_sample")
    assert leadership.leader_mask.tolist() == [
        [True, False, False, False],
        [False, True, False, False],
    ]
    assert leadership.best.tolist() == [0, 1]


@pytest.mark.parametrize("selection", ["per_batch", "per_sample"])
def test_ties_go_to_the_lower_index(selection):
    leadership = select_leaders(torch.ones(3, 64), 0.25, selection)
    assert leadership.leader_mask[:, :16].all() and not leadership.leader_mask[:, 16:].any()
    assert leadership.best.tolist() == [0, 0, 0]


def test_leader_loss_is_the_mean_over_leaders():
    losses = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    mask = torch.tensor([[True, False], [True, False]])
    assert leader_loss(losses, mask).item() == 2.0


def test_follower_loss_is_the_squared_distance_to_the_best_leader():
    outputs = random_outputs()
    leadership = select_leaders(BINS.loss(outputs, torch.full((5,), 50.0)), 0.5)
    best = int(leadership.best[0])
    followers = [w for w in range(4) if not leadership.leader_mask[0, w]]
    expected = sum(((outputs[:, w] - outputs[:, best]) ** 2).mean() for w in followers) / 2
    torch.testing.assert_close(follower_loss(outputs, leadership), expected)


def test_follower_loss_of_probabilities_is_bounded():
    outputs = random_outputs() * 100
    leadership = select_leaders(BINS.loss(outputs, torch.full((5,), 50.0)), 0.25)
    assert 0 < follower_loss(outputs, leadership, "probability") <= 2


def test_follower_target_carries_no_gradient():
    outputs = random_outputs().requires_grad_()
    leadership = select_leaders(BINS.loss(outputs, torch.full((5,), 50.0)), 0.5)
    follower_loss(outputs, leadership).backward()
    best = int(leadership.best[0])
    assert outputs.grad[:, best].abs().max() == 0
    followers = ~leadership.leader_mask[0]
    assert outputs.grad[:, followers].abs().min() > 0


def test_without_followers_there_is_no_follower_loss():
    outputs = random_outputs()
    loss = local_loss(outputs, torch.full((5,), 50.0).double(), BINS, leader_fraction=1.0)
    assert loss.follower.item() == 0.0
    torch.testing.assert_close(loss.total, loss.leader)


def test_local_loss_weighs_its_parts():
    outputs, ages = random_outputs(), torch.full((5,), 50.0).double()
    loss = local_loss(
        outputs, ages, BINS, leader_fraction=0.5, leader_weight=2.0, follower_weight=0.5
    )
    assert loss.total.item() == pytest.approx(2 * loss.leader.item() + 0.5 * loss.follower.item())
    assert math.isfinite(loss.total.item())


@pytest.mark.parametrize("width", [2, 31])
def test_followers_are_averaged_over_the_outputs_unless_a_sum_is_asked_for(width):
    outputs = random_outputs(width=width)
    leadership = select_leaders(torch.arange(4.0).expand(5, 4), 0.25)
    for space in ("output", "probability"):
        summed = follower_loss(outputs, leadership, space)
        averaged = follower_loss(outputs, leadership, f"{space}_mean")
        torch.testing.assert_close(width * averaged, summed)
    expected = (outputs[:, 1:] - outputs[:, :1]).square().mean()
    torch.testing.assert_close(follower_loss(outputs, leadership), expected)


def test_a_smoothed_label_gives_every_class_its_share():
    outputs, labels = random_outputs(width=10), torch.tensor([1, 0, 9, 3, 3])
    losses = Classes(10, smoothing=0.2).loss(outputs, labels)
    expected = functional.cross_entropy(
        outputs[:, 2], labels, reduction="none", label_smoothing=0.2
    )
    torch.testing.assert_close(losses[:, 2], expected)
