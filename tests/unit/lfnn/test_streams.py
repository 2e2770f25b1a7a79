import pytest
import torch

from brainage.lfnn.parallel.streams import StreamedBlocks
from brainage.lfnn.rules import METHOD_RULES
from brainage.lfnn.step import StepSettings
from brainage.model.build import build_model, build_target
from tests.small import make_config, random_batch


@pytest.mark.gpu
def test_streams_learn_what_one_stream_learns():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    config = make_config("cnn3d_light")
    settings = StepSettings(build_target(config.target), leader_fraction=0.5)
    rule = METHOD_RULES["lfnn_l"]
    batches = [tuple(t.cuda() for t in random_batch(config)) for _ in range(6)]
    models = []
    for streamed in (False, True):
        model = build_model(config).cuda().train()
        optimizers = [torch.optim.SGD(block.parameters(), lr=1e-2) for block in model.blocks]
        blocks = StreamedBlocks(model, optimizers, settings, rule.hidden_loss)
        for inputs, ages in batches:
            if streamed:
                blocks.step(inputs, ages)
                continue
            model.zero_grad()
            rule.step(model, inputs, ages, settings)
            for optimizer in optimizers:
                optimizer.step()
        blocks.wait()
        models.append(model)
    for a, b in zip(*(model.state_dict().values() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
