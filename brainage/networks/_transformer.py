"""Vision transformers of any dimension from MONAI's parts; stages are encoder layers."""

import torch
from monai.networks.blocks import TransformerBlock
from monai.networks.blocks.patchembedding import PatchEmbeddingBlock
from torch import Tensor, nn


class ClassToken(nn.Module):
    """Put one learned token before the others: (B, tokens, C) to (B, 1 + tokens, C)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(hidden_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens with the class token first."""
        first = self.token.expand(tokens.shape[0], 1, -1)
        return torch.cat([first, tokens], dim=1)


class Residual(nn.Module):
    """Half an encoder layer: x + part(norm(x)) of tokens (B, tokens, C)."""

    def __init__(self, norm: nn.Module, part: nn.Module) -> None:
        super().__init__()
        self.norm, self.part = norm, part

    def forward(self, tokens: Tensor) -> Tensor:
        """Add what the part makes of the normalised tokens."""
        changed: Tensor = self.part(self.norm(tokens))
        return tokens + changed


def build_transformer_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    patch_size: int,
    hidden_size: int,
    layers: int,
    heads: int,
    mlp_ratio: int,
    dropout: float,
    class_token: bool = False,
    split_layers: bool = False,
) -> dict[str, nn.Module]:
    """Patch embedding, then encoder layers; features are tokens (B, tokens, hidden_size).

    Parameters
    ----------
    split_layers : bool
        Make attention and MLP of a layer stages of their own, between which a cut may lie.

    Raises
    ------
    ValueError
        If the patches do not tile the input, or the heads do not divide the hidden size.
    """
    if any(size % patch_size for size in input_size):
        raise ValueError(f"patches of {patch_size} do not tile an input of {input_size}")
    embedding: nn.Module = PatchEmbeddingBlock(
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
    if class_token:
        embedding = nn.Sequential(embedding, ClassToken(hidden_size))
    stages = {"embedding": embedding}
    for number in range(1, layers + 1):
        layer = TransformerBlock(hidden_size, hidden_size * mlp_ratio, heads, dropout_rate=dropout)
        # MONAI makes the weights of cross-attention also where it is switched off.
        layer.cross_attn, layer.norm_cross_attn = nn.Identity(), nn.Identity()
        if split_layers:
            stages[f"layer{number}_attention"] = Residual(layer.norm1, layer.attn)
            stages[f"layer{number}_mlp"] = Residual(layer.norm2, layer.mlp)
        else:
            stages[f"layer{number}"] = layer
    return stages
