"""Localize a network.

Train a network of your own without backpropagation between its blocks. Needs torch and
scikit-learn (for the data), no MRI: 8 × 8 pictures of digits.
"""

# %% The data: 1,797 digits, a quarter of them kept for testing.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from brainage import lfnn

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
x, x_test, y, y_test = train_test_split(images, labels, test_size=0.25, random_state=0)

# %% The network is yours: any chain of modules.


def build_network() -> nn.Sequential:
    """Build three convolutions and a linear layer."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(512, 10)),
    )


# %% `localize` cuts it into blocks. Each block gets a head and an optimizer of its own; `step`
# leaves the gradients of every block's own loss. The same loop trains with any method.


def train(method: str) -> list[float]:
    """Train for 8 epochs and return the test accuracy after each."""
    torch.manual_seed(0)
    net = lfnn.localize(
        build_network(), blocks=2, target=lfnn.Classes(10), example=x[:32], method=method
    )
    opt = net.optimizers(lambda params: torch.optim.Adam(params, lr=0.002))
    accuracies = []
    for _ in range(8):
        net.train()
        for batch in torch.randperm(len(x)).split(32):
            net.step(x[batch], y[batch])
            opt.step()
            opt.zero_grad()
        net.eval()
        with torch.no_grad():
            accuracies.append(float((net(x_test).argmax(1) == y_test).float().mean()))
    if method == "lfnn_l":
        lfnn.assert_isolated(net, x[:32], y[:32])
        print("no gradient crosses a block")
        print("the plain network again:", list(net.plain().state_dict())[:2], "...")
    return accuracies


curves = {method: train(method) for method in ("lfnn_l", "bp")}
for method, accuracies in curves.items():
    print(f"{method}: {100 * accuracies[-1]:.1f} % of the test digits")

# %% One seed says that it works, not which method is better.

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for method, accuracies in curves.items():
    epochs = range(1, len(accuracies) + 1)
    axes.plot(epochs, [100 * value for value in accuracies], marker="o", label=method)
axes.set(xlabel="epoch", ylabel="test accuracy, %")
axes.legend(frameon=False)
figure.savefig("localize_a_network.png", dpi=120)
