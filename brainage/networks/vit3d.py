"""A 3-D vision transformer; stages are encoder layers, never cut inside."""

from torch import nn

from brainage.networks._transformer import build_transformer_stages


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
    return build_transformer_stages(
        in_channels,
        input_size,
        patch_size=patch_size,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        mlp_ratio=mlp_ratio,
        dropout=dropout,
    )
