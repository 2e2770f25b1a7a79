"""Vision transformers for images (Dosovitskiy et al. 2021); stages are encoder layers or halves."""

from torch import nn

from brainage.networks._transformer import build_transformer_stages

# Width, encoder layers and attention heads: Touvron et al. 2021 (Ti), Dosovitskiy et al. 2021 (B)
SIZES = {"tiny": (192, 12, 3), "base": (768, 12, 12)}


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    size: str = "tiny",
    patch_size: int = 16,
    layers: int | None = None,
    mlp_ratio: int = 4,
    dropout: float = 0.0,
    class_token: bool = True,
    split_layers: bool = False,
) -> dict[str, nn.Module]:
    """Patch embedding with a class token, then encoder layers: tokens (B, 1 + patches, width).

    Parameters
    ----------
    size : {"tiny", "base"}
        ViT-Ti or ViT-B.
    patch_size : int
        Pixels along a patch's edge: 16 for images of 224, 4 for images of 32.
    layers : int, optional
        Encoder layers instead of the size's 12.
    class_token : bool
        Without it, heads read the mean of the tokens; with it, `learning.head_token` decides.

    split_layers : bool
        Attention and MLP are stages of their own: 25 stages, so that ViT-B/16 can be cut into 16.

    Raises
    ------
    ValueError
        If the size is unknown or the patches do not tile the input.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    hidden_size, usual_layers, heads = SIZES[size]
    return build_transformer_stages(
        in_channels,
        input_size,
        patch_size=patch_size,
        hidden_size=hidden_size,
        layers=usual_layers if layers is None else layers,
        heads=heads,
        mlp_ratio=mlp_ratio,
        dropout=dropout,
        class_token=class_token,
        split_layers=split_layers,
    )
