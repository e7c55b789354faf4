"""The one-stage network: attention over a low-resolution view, patches from the full-resolution image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from zoomkern import checks
from zoomkern.functional import expectation, sample_patches
from zoomkern.models.arguments import (
    DRAWING,
    PIXELS,
    PLACES,
    checked_gradient,
    checked_reading,
    checked_rule,
    linear_classifier,
)
from zoomkern.models.network import Network
from zoomkern.nn import AttentionNetwork, FeatureNetwork, RunningMeanBaseline
from zoomkern.reference.sampling import SAMPLERS
from zoomkern.typing import SampledPatches

INFERENCE_MODES = ("sample", "topk")


class AttentionSamplingOutput(NamedTuple):
    """What one forward pass saw and concluded.

    Args:
        scores: ``[B, K]`` class scores before the softmax.
        attention: ``[B, Gh, Gw]`` attention logits, for the regulariser and for looking at.
        sampled: the patches that were read, with their probabilities and weights.
        pooled: ``[B, D]`` estimate of the attention-weighted mean feature.
    """

    scores: Tensor
    attention: Tensor
    sampled: SampledPatches
    pooled: Tensor


class AttentionSampling(Network):
    """Attention sampling in one stage, with the unbiased gradient.

    The class scores are a linear function of ``sum_l p_l f(patch_l)``, the mean feature of all patches under the
    attention ``p``. It is estimated from ``num_samples`` patches drawn without replacement, so only those are read.

    Args:
        num_classes: number of classes ``K``.
        num_samples: patches read per image, ``N``.
        patch_size: ``(h, w)`` of a patch, in full-resolution pixels.
        attention: network from the view ``[B, C, Vh, Vw]`` to logits ``[B, Gh, Gw]``; None is
            :class:`~zoomkern.nn.AttentionNetwork` on ``in_channels``.
        features: network from patches ``[M, C, Ph, Pw]`` to features ``[M, D]`` with an attribute ``out_features``;
            None is :class:`~zoomkern.nn.FeatureNetwork` on ``in_channels``.
        pooling: head over the drawn bag, from features ``[B, N, D]`` and the draw to ``[B, D]``, such as
            :class:`~zoomkern.nn.GatedAttentionPooling`; None is the paper's expectation, which alone is unbiased.
        in_channels: image channels, for the networks made here.
        sampler: how places are drawn in training: "gumbel", "threshold" or "replacement".
        estimator: weight rule of the sampler; None is its first.
        gradient: "exact", or the published biased ones, "ats" and "zoomin", for ablation; they hold for the sampler
            "gumbel" with the estimator "desraj".
        baseline: subtract a running mean of the pooled features in the attention's gradient.
        inference: what evaluation mode does. "sample" draws as training does, from the seed it is given; "topk" reads
            the most probable places, deterministic but biased towards them.
        inference_samples: patches read per image in evaluation mode; None is ``num_samples``.
        temperature: positive; the attention network's logits are divided by it.
        **reading: further arguments of :func:`zoomkern.sample_patches`, such as ``mean``, ``std``, ``step``, ``fill``.

    Source:
        Katharopoulos & Fleuret, "Processing Megapixel Images with Deep Attention-Sampling Models", ICML 2019;
        the attention's gradient is the unbiased one instead of theirs.

    Example:
        >>> model = AttentionSampling(10, num_samples=10, patch_size=(64, 64), mean=(0.0,), std=(1.0,))
        >>> out = model(images, view)
        >>> loss = F.cross_entropy(out.scores, labels) + entropy_regulariser(out.attention, 1e-4)
    """

    inputs = ("images", "view")

    def __init__(
        self,
        num_classes: int,
        num_samples: int,
        patch_size: tuple[int, int],
        *,
        attention: nn.Module | None = None,
        features: nn.Module | None = None,
        pooling: nn.Module | None = None,
        in_channels: int = 3,
        sampler: str = "gumbel",
        estimator: str | None = None,
        gradient: str = "exact",
        baseline: bool = True,
        inference: str = "sample",
        inference_samples: int | None = None,
        temperature: float = 1.0,
        **reading: Any,
    ) -> None:
        super().__init__()
        self.attention = AttentionNetwork(in_channels) if attention is None else attention
        self.features = FeatureNetwork(in_channels) if features is None else features
        num_features = int(self.features.out_features)  # type: ignore[arg-type]
        self.classifier = linear_classifier(num_features, num_classes)
        self.pooling = pooling
        self.baseline = RunningMeanBaseline(num_features) if baseline else None
        self.num_samples = checks.integer("num_samples", num_samples, 1)
        self.patch_size = checks.pair("patch_size", patch_size)
        self.sampler = checks.choice("sampler", sampler, SAMPLERS)
        self.estimator = checked_rule("estimator", estimator, sampler)
        self.gradient = checked_gradient(gradient, pooling, [(self.sampler, self.estimator)])
        self.inference = checks.choice("inference", inference, INFERENCE_MODES)
        most = None if inference_samples is None else checks.integer("inference_samples", inference_samples, 1)
        self.inference_samples = most
        self.temperature = checks.temperature(temperature)
        self.reading = checked_reading(reading, PIXELS + PLACES + DRAWING + ("level",))

    def forward(
        self, images: Tensor | Sequence[Tensor] | Any, view: Tensor, *, seed: int | Tensor | None = None
    ) -> AttentionSamplingOutput:
        """Look, read, conclude.

        Args:
            images: full-resolution images, anything :func:`zoomkern.sample_patches` takes: ``[B, C, H, W]``, a list
                of ``[C, H, W]``, an image batch, pyramids.
            view: ``[B, C, Vh, Vw]`` anti-aliased low-resolution view, on the networks' device.
            seed: of the draw, an int or int64 ``[B]``; None draws one from torch's generator.

        Returns:
            Class scores with the attention and the patches behind them.
        """
        logits: Tensor = self.attention(view)  # [B, Gh, Gw]
        if self.temperature != 1:
            logits = logits / self.temperature
        sampled = sample_patches(images, logits, patch_size=self.patch_size, seed=seed, **self._draw(), **self.reading)
        patches = sampled.patches  # [B, N, C, Ph, Pw]
        features: Tensor = self.features(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])  # [B, N, D]
        if self.pooling is None:
            constant = None if self.baseline is None else self.baseline()
            pooled = expectation(features, sampled.sample, baseline=constant, gradient=self.gradient)  # [B, D]
        else:
            pooled = self.pooling(features, sampled)
        if self.baseline is not None:
            self.baseline.update(pooled)
        return AttentionSamplingOutput(self.classifier(pooled), logits, sampled, pooled)

    def _draw(self) -> dict[str, Any]:
        """How many places are drawn, and how, in the present mode."""
        if self.training:
            return {"num_samples": self.num_samples, "sampler": self.sampler, "estimator": self.estimator}
        number = self.num_samples if self.inference_samples is None else self.inference_samples
        if self.inference == "topk":
            return {"num_samples": number, "sampler": "topk", "estimator": None}
        return {"num_samples": number, "sampler": self.sampler, "estimator": self.estimator}
