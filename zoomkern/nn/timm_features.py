"""Networks of timm as feature networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class TimmFeatures(nn.Module):
    """Any network of timm, without its classifier.

    Args:
        name: what timm calls it, such as ``"resnet18"`` or ``"resnet18.a1_in1k"``.
        pretrained: load timm's weights, from its cache or the network. They expect pixels with ``mean`` and ``std`` of
            ``timm.data.resolve_model_data_config(features.model)``: pass those on as reading arguments.
        in_channels: channels of a patch; weights for three are adapted by timm.
        **kw: further arguments of ``timm.create_model``, such as ``drop_path_rate``, or ``img_size`` where the network
            takes patches of one size only.

    Attributes:
        model: timm's network.
        out_features: feature size ``D``.

    Raises:
        ImportError: timm is missing.
        ValueError: timm knows no such network.

    Source:
        Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.

    Example:
        >>> TimmFeatures("resnet18")(torch.rand(6, 3, 64, 64)).shape
        torch.Size([6, 512])
    """

    def __init__(self, name: str, pretrained: bool = False, in_channels: int = 3, **kw: Any) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ImportError("TimmFeatures needs timm: pip install 'zoomkern[timm]'") from error
        try:
            self.model = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **kw)
        except RuntimeError as error:
            if not str(error).startswith("Unknown model"):
                raise
            raise ValueError(f"name must be a network of timm; got {name!r}. timm.list_models() lists them.") from error
        # some networks keep a wider layer before the classifier that was left out
        self.out_features = int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)

    def forward(self, patches: Tensor) -> Tensor:
        """Describe the patches ``[M, C, Ph, Pw]``: ``[M, D]``."""
        features: Tensor = self.model(patches)
        return features
