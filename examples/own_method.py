"""A method of your own.

A method is a loss for the hidden blocks. This one lets a block's workers learn from the label and
keeps them from agreeing too much.
"""

# %% Worker outputs have the shape (B, W, C): scans, workers, classes. The loss must carry a
# gradient into its own block; brainage sees to it that it goes no further.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from brainage import lfnn


def diverse_loss(
    stack: nn.Module,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: lfnn.StepSettings,
    features: Tensor,
) -> Tensor:
    """Return the mean prediction loss less a tenth of the workers' variance."""
    prediction = settings.target.loss(outputs, target_values).mean()
    variance = outputs.softmax(2).var(1).mean()
    return prediction - 0.1 * variance


RULE = lfnn.local_rule(diverse_loss)

# %% Train a small perceptron with it, beside LFNN-l and backpropagation.

digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
train, test = slice(0, 1300), slice(1300, None)


def accuracy_percent(method: str | lfnn.Rule) -> float:
    """Train for 15 epochs and return the test accuracy in percent."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU()),
        nn.Sequential(nn.Linear(64, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )
    net = lfnn.localize(
        network,
        blocks=3,
        target=lfnn.Classes(10),
        example=x[:16],
        method=method,
        head=lfnn.Head("linear", workers=8),
    )
    if method is RULE:
        lfnn.assert_isolated(net, x[:16], y[:16])
    opt = net.optimizers(lambda params: torch.optim.Adam(params, lr=0.002))
    for _ in range(15):
        for batch in torch.randperm(1300).split(32):
            net.step(x[train][batch], y[train][batch])
            opt.step()
            opt.zero_grad()
    with torch.no_grad():
        return 100 * float((net.eval()(x[test]).argmax(1) == y[test]).float().mean())


results = {
    "a method of your own": accuracy_percent(RULE),
    "lfnn_l": accuracy_percent("lfnn_l"),
    "bp": accuracy_percent("bp"),
}
for name, value in results.items():
    print(f"{name}: {value:.1f} % of the test digits")

# %% On the command line the same rule is `--method own_method:RULE`, where the module can be
# imported. One seed: the bars show that it learns, not which method is better.

figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
axes.barh(list(results), list(results.values()))
axes.set(xlabel="test accuracy, %", xlim=(0, 100))
axes.invert_yaxis()
figure.savefig("own_method.png", dpi=120)
