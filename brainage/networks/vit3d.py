"""A 3-D vision transformer from MONAI's parts; stages are encoder layers, never cut inside."""

from monai.networks.blocks import TransformerBlock
from monai.networks.blocks.patchembedding import PatchEmbeddingBlock
from torch import nn


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    patch_size: int = 8,
    hidden_size: int = 96,
    layers: int = 6,
    heads: int = 4,
    mlp_ratio: int = 3,
    dropout: float = 0.0,
) -> dict[str, nn.Module]:
    """Patch embedding, then encoder layers; features are tokens (B, tokens, hidden_size).

    Raises
    ------
    ValueError
        If the patches do not tile the input, or the heads do not divide the hidden size.
    """
    if any(size % patch_size for size in input_size):
        raise ValueError(f"patches of {patch_size} do not tile an input of {input_size}")
    stages: dict[str, nn.Module] = {
        "embedding": PatchEmbeddingBlock(
            in_channels=in_channels,
            img_size=input_size,
            patch_size=patch_size,
            hidden_size=hidden_size,
            num_heads=heads,
            proj_type="conv",
            pos_embed_type="learnable",
            dropout_rate=dropout,
            spatial_dims=len(input_size),
        )
    }
    for number in range(1, layers + 1):
        layer = TransformerBlock(hidden_size, hidden_size * mlp_ratio, heads, dropout_rate=dropout)
        # MONAI makes the weights of cross-attention also where it is switched off.
        layer.cross_attn, layer.norm_cross_attn = nn.Identity(), nn.Identity()
        stages[f"layer{number}"] = layer
    return stages
