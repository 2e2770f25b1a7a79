"""Networks of other people learn block by block, each in a few lines of the user's own."""

import pytest
import torch
from torch import nn

from brainage import lfnn
from brainage.errors import ConfigError, IsolationError

CLASSES = lfnn.Classes(3)
LABELS = torch.tensor([0, 1, 2, 0])


def train(net, inputs, monkeypatch):
    """Two steps move every block; the walk is green, and red without the detach."""
    net.train()
    opt = net.optimizers(lambda params: torch.optim.SGD(params, lr=0.1))
    before = [[p.clone() for p in block.body.parameters()] for block in net.stack.blocks]
    for _ in range(2):
        assert torch.isfinite(net.step(inputs, LABELS))
        opt.step()
        opt.zero_grad()
    for block, weights in zip(net.stack.blocks, before, strict=True):
        after = list(block.body.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(after, weights, strict=True))
    assert net(inputs).shape == (4, 3)
    lfnn.assert_isolated(net, inputs, LABELS)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "detach", lambda tensor: tensor)
        with pytest.raises(IsolationError):
            lfnn.assert_isolated(net, inputs, LABELS)


def test_sequential(monkeypatch):
    x = torch.randn(4, 1, 8, 8)
    network = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()),
        nn.Linear(64, 3),
    )
    net = lfnn.localize(network, blocks=3, target=CLASSES, example=x)
    train(net, x, monkeypatch)
    assert net.plain() is network
    torch.testing.assert_close(net.eval()(x), network.eval()(x))


def test_module_list(monkeypatch):
    x = torch.randn(4, 6)
    network = nn.ModuleList([nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()])
    net = lfnn.localize(network, blocks=2, target=CLASSES, example=x)
    train(net, x, monkeypatch)
    assert net.plain() is network


class BasicUnit(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """As torchvision's: the flatten is in the forward, activations work in place."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicUnit(4, 4, 1), BasicUnit(4, 4, 1))
        self.layer2 = nn.Sequential(BasicUnit(4, 8, 2), BasicUnit(8, 8, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


RESNET = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "avgpool", nn.Flatten(), "fc"]


def test_resnet_with_a_flatten_in_its_forward(monkeypatch):
    network, x = ResNet(), torch.randn(4, 3, 32, 32)
    keys = list(network.state_dict())
    net = lfnn.localize(network, blocks=4, target=CLASSES, example=x, stages=RESNET)
    train(net, x, monkeypatch)
    assert net.plain() is network and list(network.state_dict()) == keys
    torch.testing.assert_close(net.eval()(x), network.eval()(x))


def test_densenet_of_monai(monkeypatch):
    from monai.networks.nets import DenseNet

    x = torch.randn(4, 1, 32, 32, 32)
    network = DenseNet(3, 1, 3, init_features=4, growth_rate=2, block_config=(2, 2, 2, 2))
    net = lfnn.localize(
        network, blocks=4, target=CLASSES, example=x, stages=["features", "class_layers"]
    )
    train(net, x, monkeypatch)
    torch.testing.assert_close(net.eval()(x), network.eval()(x))


@pytest.mark.slow
def test_densenet121_of_monai_in_3d(monkeypatch):
    from monai.networks.nets import DenseNet121

    x = torch.randn(4, 1, 32, 32, 32)
    network = DenseNet121(spatial_dims=3, in_channels=1, out_channels=3)
    net = lfnn.localize(
        network, blocks=4, target=CLASSES, example=x, stages=["features", "class_layers"]
    )
    train(net, x, monkeypatch)


def test_vit_of_monai_gives_a_tuple(monkeypatch):
    from monai.networks.nets import ViT

    x = torch.randn(4, 1, 16, 16, 16)
    network = ViT(1, (16,) * 3, (8,) * 3, hidden_size=12, mlp_dim=24, num_layers=3, num_heads=2)
    net = lfnn.localize(
        network, blocks=3, target=CLASSES, example=x, stages=["patch_embedding", "blocks", "norm"]
    )
    train(net, x, monkeypatch)


class WithClassToken(nn.Module):
    def __init__(self, vit):
        super().__init__()
        self.patch_embedding, self.cls_token = vit.patch_embedding, vit.cls_token

    def forward(self, x):
        x = self.patch_embedding(x)
        return torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)


def test_class_token_of_a_vit_needs_a_module_that_holds_it(monkeypatch):
    from monai.networks.nets import ViT

    x = torch.randn(4, 1, 16, 16)
    network = ViT(
        *(1, (16, 16), (8, 8), 12, 24, 2, 2),
        **{"classification": True, "num_classes": 3, "spatial_dims": 2},
    )
    rest = ["blocks", "norm", lambda x: x[:, 0], "classification_head"]
    settings = {"blocks": 2, "target": CLASSES, "example": x}
    net = lfnn.localize(network, **settings, stages=[WithClassToken(network), *rest])
    train(net, x, monkeypatch)
    assert "cls_token" in net.plain().state_dict()

    def add_token(x):
        return torch.cat((network.cls_token.expand(len(x), -1, -1), x), dim=1)

    with pytest.raises(ConfigError, match=r"cls_token .* belongs to none"):
        lfnn.localize(network, **settings, stages=["patch_embedding", add_token, *rest])


def test_swin_encoder_of_monai_gives_all_its_stages(monkeypatch):
    from monai.networks.nets import SwinUNETR

    x = torch.randn(4, 1, 32, 32, 32)
    swin = SwinUNETR(1, 2, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), feature_size=12).swinViT
    names = ["patch_embed", "pos_drop", "layers1", "layers2", "layers3", "layers4"]
    net = lfnn.localize(
        swin, blocks=4, target=CLASSES, example=x, stages=[*names, lambda x: swin.proj_out(x, True)]
    )
    train(net, x, monkeypatch)


def make_unetr():
    from monai.networks.nets import UNETR

    return UNETR(1, 2, (16, 16, 16), feature_size=4, hidden_size=12, mlp_dim=24, num_heads=2)


def test_encoder_of_unetr(monkeypatch):
    x, encoder = torch.randn(4, 1, 16, 16, 16), make_unetr().vit
    net = lfnn.localize(
        encoder, blocks=4, target=CLASSES, example=x, stages=["patch_embedding", "blocks", "norm"]
    )
    train(net, x, monkeypatch)


def test_whole_unetr_is_no_chain():
    x = torch.randn(2, 1, 16, 16, 16)
    with pytest.raises(ConfigError, match=r"stage 'decoder5'.* works on something else"):
        stages = ["vit", "decoder5", "decoder4", "decoder3", "decoder2", "out"]
        lfnn.localize(make_unetr(), blocks=2, target=CLASSES, example=x, stages=stages)


class Layer(nn.Module):
    """A layer of a language model: gives a tuple, its attention weights second."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, hidden_states, attention_mask=None):
        mixed, weights = self.attention(hidden_states, hidden_states, hidden_states)
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(hidden_states), weights


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens, self.norm = nn.Embedding(50, 12), nn.LayerNorm(12)
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, input_ids):
        hidden_states = self.embed_tokens(input_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states=hidden_states)[0]
        return {"last_hidden_state": self.norm(hidden_states)}


def test_layer_list_with_tuple_outputs_and_token_ids(monkeypatch):
    network, ids = LanguageModel(), torch.randint(50, (4, 7))
    net = lfnn.localize(
        network, blocks=3, target=CLASSES, example=ids, stages=["embed_tokens", "layers", "norm"]
    )
    train(net, ids, monkeypatch)


class LastUnit(nn.Module):
    """Channels last, as in torchvision's Swin and ConvNeXt."""

    def __init__(self, width_in, width):
        super().__init__()
        self.mix, self.norm = nn.Linear(4 * width_in, width), nn.LayerNorm(width)

    def forward(self, x):
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.norm(torch.relu(self.mix(torch.cat(parts, dim=-1))))


@pytest.mark.parametrize("method", ["lfnn_l", "predsim", "dfa"])
def test_features_with_their_channels_last(method, monkeypatch):
    x, head = torch.randn(4, 16, 16, 3), lfnn.Head(workers=2, reads="own", channels_last=True)
    network = nn.Sequential(LastUnit(3, 6), LastUnit(6, 8), LastUnit(8, 10))
    net = lfnn.localize(network, blocks=3, target=CLASSES, example=x, head=head, method=method)
    train(net, x, monkeypatch)
    assert net.stack[0].body(x).shape == (4, 6, 8, 8)


def test_dict_of_stages_comes_back_by_its_names():
    x, stages = torch.randn(4, 6), {"first": nn.Linear(6, 8), "second": nn.Linear(8, 8)}
    net = lfnn.localize(stages, blocks=["second"], target=CLASSES, example=x)
    assert len(net.stack) == 2
    names = ["first.weight", "first.bias", "second.weight", "second.bias"]
    assert list(net.plain().state_dict()) == names
    assert net.plain()(x).shape == (4, 8) and net(x).shape == (4, 3)


def test_steps_without_weights_stay_with_the_stage_before_them():
    steps = [torch.relu, nn.Linear(6, 8), torch.relu, nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU()]
    x = torch.randn(4, 6)
    net = lfnn.localize(steps, blocks=2, target=CLASSES, example=x)
    assert [len(block.body[0]) for block in net.stack.blocks] == [4, 2]
    with pytest.raises(ConfigError, match="3 blocks do not fit a network of 2 stages"):
        lfnn.localize(steps, blocks=3, target=CLASSES, example=x)
    with pytest.raises(ConfigError, match="no weights"):
        lfnn.localize([nn.ReLU()], blocks=1, target=CLASSES, example=x)


def test_weights_tied_across_blocks_are_refused_by_name():
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    stages, x = {"embed": first, "middle": nn.Linear(6, 6), "out": second}, torch.randn(4, 6)
    with pytest.raises(ConfigError, match=r"'embed' and 'out' share a weight .*blocks 0 and 2"):
        lfnn.localize(stages, blocks=3, target=CLASSES, example=x)
    second.weight = nn.Parameter(first.weight.detach())  # another parameter, the same memory
    with pytest.raises(ConfigError, match="share a weight"):
        lfnn.localize(stages, blocks=3, target=CLASSES, example=x)
    lfnn.localize(stages, blocks=1, target=CLASSES, example=x)
    memory = torch.randn(9, 6)
    first.weight = nn.Parameter(memory[:6])
    second.weight = nn.Parameter(memory[3:])  # rows 3 to 5 are in both
    with pytest.raises(ConfigError, match=r"'embed' and 'out' share a weight"):
        lfnn.localize(stages, blocks=3, target=CLASSES, example=x)


def test_weights_that_lie_side_by_side_in_one_memory_are_not_tied():
    memory = torch.randn(12, 6)
    stages = {"embed": nn.Linear(6, 6), "out": nn.Linear(6, 6)}
    stages["embed"].weight = nn.Parameter(memory[:6])
    stages["out"].weight = nn.Parameter(memory[6:])
    lfnn.localize(stages, blocks=2, target=CLASSES, example=torch.randn(4, 6))


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.middle, self.up = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.gate = nn.Linear(6, 6)

    def forward(self, x):
        down = self.down(x)
        up = self.up(self.middle(down) + down)
        return up + self.middle(up) if self.gate.bias.sum() > 99 else up


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["down", "middle", "up"], "stage 'up'.* works on something else than what 'middle' gives"),
        (["down", "middle"], "stage 'middle'.* something else than the network's output"),
        (["down", "middle", "gate", "up"], "stage 'gate'.* runs 0 times"),
        (["down", "nothing"], "no part 'nothing'.*It has: down, middle"),
        (["down", lambda x: x[:, :2], "middle"], "stage 'middle'.* works on something else"),
        ([lambda x: x.sum().item(), "down"], "no tensor"),
    ],
)
def test_a_graph_that_is_no_chain_is_refused_by_name(stages, message):
    with pytest.raises(ConfigError, match=message):
        lfnn.localize(
            Skipping(), blocks=2, target=CLASSES, example=torch.randn(4, 6), stages=stages
        )


def test_a_layer_that_runs_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(self.layer(self.layer(x)))

    with pytest.raises(ConfigError, match="runs 2 times"):
        stages = ["layer", "layer", "last"]
        lfnn.localize(Twice(), blocks=2, target=CLASSES, example=torch.randn(4, 6), stages=stages)


def test_a_module_without_its_order_is_refused_with_its_parts():
    with pytest.raises(ConfigError, match=r"stages=\[…\], from conv1, bn1"):
        lfnn.localize(ResNet(), blocks=2, target=CLASSES, example=torch.randn(4, 3, 32, 32))


def test_the_network_stays_in_its_modes_and_keeps_its_statistics():
    network, x = ResNet(), torch.randn(4, 3, 32, 32)
    network.bn1.eval()
    lfnn.localize(network, blocks=4, target=CLASSES, example=x, stages=RESNET)
    assert network.layer1.training and not network.bn1.training
    assert network.layer1[0].bn1.num_batches_tracked == 0
    assert not network.fc._forward_pre_hooks


def test_double_precision_networks_get_heads_like_them():
    x = torch.randn(4, 6).double()
    network = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8)).double()
    net = lfnn.localize(network, blocks=2, target=lfnn.Ages(20, 80), example=x)
    assert net(x).dtype == torch.float64
    net.step(x, torch.tensor([30.0, 40.0, 50.0, 60.0]))


@pytest.mark.parametrize("method", ["lfnn_l", "lfnn", "bp", "dfa"])
def test_frozen_networks_are_told_that_they_cannot_learn(method):
    x = torch.randn(4, 6)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)
    net = lfnn.localize(network, blocks=1, target=lfnn.Classes(3), example=x, method=method)
    with pytest.raises(ConfigError, match="nothing can learn"):
        net.step(x, torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize("blocks", [1, 2])
def test_outputs_without_an_axis_beside_the_batch_are_refused(blocks):
    layers = [nn.Linear(6, 8), nn.Linear(8, 1), nn.Flatten(0)]
    with pytest.raises(ConfigError, match=r"expected \(1, C\)"):
        lfnn.localize(
            layers, blocks=blocks, target=lfnn.ScalarAge(20, 80), example=torch.randn(4, 6)
        )
