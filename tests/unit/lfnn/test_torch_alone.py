"""`brainage.lfnn` needs no package but torch and what torch needs."""

import subprocess
import sys

PROGRAM = """
import sys
from importlib.machinery import PathFinder

# torch, what it requires, and the guard of these tests
ALLOWED = "torch torchgen functorch filelock fsspec jinja2 markupsafe mpmath networkx sympy"
ALLOWED = {*ALLOWED.split(), "setuptools", "typing_extensions", "brainage", "sitecustomize"}

class OnlyTorch(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in ALLOWED or top in sys.stdlib_module_names or top.startswith("_sysconfig")
        return super().find_spec(name, path, target) if known else None

sys.meta_path[:] = [f for f in sys.meta_path if f.__module__.startswith("_frozen")]
sys.meta_path[sys.meta_path.index(PathFinder)] = OnlyTorch

import torch
from brainage import lfnn

network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
x, y = torch.randn(12, 8), torch.arange(12) % 3
net = lfnn.localize(network, blocks=2, target=lfnn.Classes(3), example=x)
opt = net.optimizers(lambda params: torch.optim.SGD(params, lr=0.1))
for _ in range(40):
    loss = net.step(x, y)
    opt.step()
    opt.zero_grad()
lfnn.assert_isolated(net, x, y)
print("numpy" in sys.modules, float(loss) < 2.0)
"""


def test_a_loop_runs_where_torch_is_all_there_is():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True
    )
    assert result.stdout.split() == ["False", "True"], result.stdout + result.stderr
