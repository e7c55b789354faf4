"""The two-stage network: attention over the image draws tiles, attention over each tile draws its sub-tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoomkern import checks
from zoomkern.functional import compose, expectation, gather_patches, merge_repeats, sample
from zoomkern.functional.draws import require_drawable
from zoomkern.functional.seeds import derived_seed, image_seeds
from zoomkern.models.arguments import PIXELS, PLACES, checked_gradient, checked_reading, checked_rule, linear_classifier
from zoomkern.models.network import Network, untracked
from zoomkern.models.plan import Plan, warn_of_padding, warn_of_rounding
from zoomkern.models.scales import TwoScales, offsets_of, two_scales
from zoomkern.nn import AttentionNetwork, FeatureNetwork, RunningMeanBaseline, complement_logits
from zoomkern.reference.offsets import ALIGNMENTS, shift_inside
from zoomkern.typing import PADDED_OFFSET, ImageBatch, Sample, SampledPatches

TILES = ("replacement", "gumbel", "threshold")
SAMPLERS = ("gumbel", "threshold")
INFERENCE_MODES = ("sample", "topk", "exact")


class ZoomInOutput(NamedTuple):
    """What one forward pass saw and concluded.

    ``T`` tiles and ``N`` sub-tiles per image are those of all repetitions together. Padding has index -1 and weight 0.

    Args:
        scores: ``[B, K]`` class scores before the softmax.
        attention: ``[B, Gh, Gw]`` logits of the first stage; of :meth:`ZoomIn.contrast` those of the complement.
        tile_attention: ``[B, T, gh, gw]`` logits of the second stage inside each drawn tile, also of padded ones.
        tiles: the drawn tiles: patches are the views ``[B, T, C, h, w]`` and offsets ``[B, T, 2]`` their places in the
            images at the tiles' scale; index is the cell of the grid.
        sampled: the sub-tiles that were read: patches ``[B, N, C, Ph, Pw]``, offsets ``[B, N, 2]`` at full resolution,
            and the draw of both stages together. Sub-tile ``k`` of tile ``c`` has index ``c gh gw + k``.
        pooled: ``[B, D]`` estimate of the mean feature.
    """

    scores: Tensor
    attention: Tensor
    tile_attention: Tensor
    tiles: SampledPatches
    sampled: SampledPatches
    pooled: Tensor


class ExactOutput(NamedTuple):
    """What :meth:`ZoomIn.exact` concludes from all ``L = Gh Gw`` tiles and all their sub-tiles.

    Args:
        scores: ``[B, K]`` class scores before the softmax.
        attention: ``[B, Gh, Gw]`` logits of the first stage.
        tile_attention: ``[B, L, gh, gw]`` logits of the second stage inside each tile.
        pooled: ``[B, D]`` mean feature.
    """

    scores: Tensor
    attention: Tensor
    tile_attention: Tensor
    pooled: Tensor


class ZoomIn(Network):
    """The Zoom-In network: two stages of attention sampling, with the unbiased gradient.

    The class scores are a linear function of ``sum_c alpha_c sum_k beta_ck f(subtile_ck)``: ``alpha`` is the attention
    over the grid of the whole image, ``beta_c`` the attention inside tile ``c``. It is estimated from ``num_samples``
    sub-tiles, so only these are read at full resolution, and only the drawn tiles at their scale.

    **Where things lie.** Cell (r, c) of the first grid stands for the share of the image that it covers; its tile is
    centred there by the rule of :func:`zoomkern.cell_offsets`, in whole pixels ``o`` of the images at the tiles' scale.
    At full resolution the tile starts at ``floor(o H / H2)`` for heights ``H`` and ``H2`` of the two scales (x alike)
    and spans ``tile_size``: what the second attention sees is what is read. Cell (r', c') of the second grid stands for
    its share of the tile in the same way, and the sub-tile is centred on it. In a network with "same" borders each
    cell's receptive field has its centre there; a map that shrinks at the borders is spread over the whole view again,
    which moves its outer cells by up to half of what was cut off. Tiles larger than a cell overlap; no pixel of the
    image lies outside all tiles as long as ``tile_size`` is at least ``(H / Gh, W / Gw)``.

    **Borders.** Tiles and sub-tiles may hang over the image's edge; outside is ``fill``. A sub-tile that hangs over its
    tile's edge shows the image, not ``fill``.

    **Padding.** Shapes are static: where a tile is drawn twice, or has fewer sub-tiles than draws, places remain. They
    hold a view or a patch of ``fill`` and weight 0. They pass through the networks, so batch statistics see them.

    **Seeds.** An image's seed draws its tiles, and :func:`derived_seed` of it with ``number = cell + 1`` draws inside
    the tile of that cell, so that an image draws the same in any batch. Repetition ``r > 0`` starts from ``number =
    -r``; a scalar seed gives image ``b`` the seed of ``number = b + 1``.

    Args:
        num_classes: number of classes ``K``.
        num_samples: sub-tiles read per image, ``N``.
        patch_size: ``(h, w)`` of a sub-tile, in full-resolution pixels.
        tile_size: ``(h, w)`` of a tile, in full-resolution pixels.
        tile_scale: scale ``s2`` at which tiles are looked at, 1 being full resolution; their views have ``round(s2 *
            tile_size)`` pixels.
        tiles: "replacement" draws ``N`` tiles with replacement, and in each as many sub-tiles as it was drawn, at most
            all it has (its outer weight stays ``n_c / N``, so that the cap costs no bias). "gumbel" and "threshold"
            draw ``num_tiles`` different tiles and ``N / num_tiles`` sub-tiles in each.
        num_tiles: ``T`` of "gumbel", "threshold" and of top-k inference, a divisor of ``N``; None is ``N``.
        attention: network from the view ``[B, C, Vh, Vw]`` to logits ``[B, Gh, Gw]``; None is
            :class:`~zoomkern.nn.AttentionNetwork` on ``in_channels``.
        tile_attention: network from tile views ``[M, C, h, w]`` to logits ``[M, gh, gw]``; None alike.
        features: network from sub-tiles ``[M, C, Ph, Pw]`` to features ``[M, D]`` with an attribute ``out_features``;
            None is :class:`~zoomkern.nn.FeatureNetwork` on ``in_channels``.
        pooling: head over the drawn bag, from features ``[B, N, D]`` and the draw to ``[B, D]``, such as
            :class:`~zoomkern.nn.GatedAttentionPooling`; None is the paper's expectation, which alone is unbiased.
        in_channels: image channels, for the networks made here.
        sampler: draws inside a tile, without replacement: "gumbel" or "threshold".
        estimator: its weight rule; None is its first.
        tile_estimator: weight rule of ``tiles``; None is its first.
        gradient: "exact", or the published biased ones, "ats" and "zoomin", for ablation: inside tiles, and between
            tiles drawn without replacement (with replacement the published gradient is exact, without a baseline). They
            hold for draws by "gumbel" with the estimator "desraj".
        baseline: subtract a running mean of the pooled features in the attentions' gradient.
        inference: what evaluation mode does. "sample" draws as training does, from the seed it is given; "topk" reads
            the most probable sub-tiles of the ``num_tiles`` most probable tiles, deterministic but biased towards them;
            "exact" reads everything, as :meth:`exact` does, and returns what that returns.
        repetitions: independent draws whose estimates "sample" averages in evaluation mode.
        align: "center", or "corners" for the paper's map, in both stages.
        **reading: further arguments of :func:`zoomkern.gather_patches`: ``fill``, ``scale``, ``shift``, ``mean``,
            ``std``, ``dtype``, ``memory_format`` and ``backend`` for tile views and sub-tiles, ``step`` and
            ``padding_mode`` for sub-tiles alone.

    Memory:
        ``B T`` tile views and ``B N`` sub-tiles with their features; nothing grows with the images.

    Source:
        Kong & Henao, "Efficient Classification of Very Large Images with Tiny Objects", CVPR 2022; the attentions'
        gradient is the unbiased one instead of theirs.

    Example:
        >>> model = ZoomIn(2, 10, (27, 27), tile_size=(250, 250), tile_scale=0.2, mean=0.5, std=0.5)
        >>> images = torch.randint(256, (4, 3, 500, 500), dtype=torch.uint8)
        >>> tile_view = [zoomkern.images.scaled(image, (100, 100)) for image in images]
        >>> view = torch.stack([zoomkern.images.scaled(image, (50, 50)) for image in images]) / 255
        >>> out = model(images, view, tile_view)
        >>> loss = F.cross_entropy(out.scores, labels) + entropy_regulariser(out.attention, 1e-5)
        >>> loss = loss + in_sample_contrastive(model.contrast(images, view, tile_view).scores, labels)
    """

    inputs = ("images", "view", "tile_view")

    def __init__(
        self,
        num_classes: int,
        num_samples: int,
        patch_size: tuple[int, int],
        tile_size: tuple[int, int],
        *,
        tile_scale: float,
        tiles: str = "replacement",
        num_tiles: int | None = None,
        attention: nn.Module | None = None,
        tile_attention: nn.Module | None = None,
        features: nn.Module | None = None,
        pooling: nn.Module | None = None,
        in_channels: int = 3,
        sampler: str = "gumbel",
        estimator: str | None = None,
        tile_estimator: str | None = None,
        gradient: str = "exact",
        baseline: bool = True,
        inference: str = "sample",
        repetitions: int = 1,
        align: str = "center",
        **reading: Any,
    ) -> None:
        super().__init__()
        self.num_samples = checks.integer("num_samples", num_samples, 1)
        self.patch_size = checks.pair("patch_size", patch_size)
        self.tile_size = checks.pair("tile_size", tile_size)
        step = checks.integer("step", reading.get("step", 1), 1)
        if any(step * part > whole for part, whole in zip(self.patch_size, self.tile_size, strict=True)):
            raise ValueError(
                f"patch_size must fit in tile_size = {self.tile_size}, whose parts are read; got {self.patch_size} at "
                f"step {step}. Take smaller patches or larger tiles."
            )
        self.tile_scale = tile_scale = checks.share("tile_scale", tile_scale)
        self.view_size = (max(round(tile_scale * self.tile_size[0]), 1), max(round(tile_scale * self.tile_size[1]), 1))
        warn_of_rounding(self.tile_size, self.view_size, tile_scale)
        self.tiles = checks.choice("tiles", tiles, TILES)
        self.num_tiles = checks.integer("num_tiles", num_samples if num_tiles is None else num_tiles, 1)
        if num_samples % self.num_tiles:
            raise ValueError(f"num_tiles must divide num_samples = {num_samples}; got {num_tiles}.")
        self.sampler = checks.choice("sampler", sampler, SAMPLERS)
        self.estimator = checked_rule("estimator", estimator, sampler)
        self.tile_estimator = checked_rule("tile_estimator", tile_estimator, tiles)
        inside, between = (self.sampler, self.estimator), (self.tiles, self.tile_estimator)
        self.gradient = checked_gradient(gradient, pooling, [inside] if tiles == "replacement" else [inside, between])
        self.inference = checks.choice("inference", inference, INFERENCE_MODES)
        self.repetitions = checks.integer("repetitions", repetitions, 1)
        self.align = checks.choice("align", align, ALIGNMENTS)
        self.reading = checked_reading(reading, PIXELS + PLACES)
        self.backend = reading.get("backend")
        self.attention = AttentionNetwork(in_channels) if attention is None else attention
        self.tile_attention = AttentionNetwork(in_channels) if tile_attention is None else tile_attention
        self.features = FeatureNetwork(in_channels) if features is None else features
        num_features = int(self.features.out_features)  # type: ignore[arg-type]
        self.classifier = linear_classifier(num_features, num_classes)
        self.pooling = pooling
        self.baseline = RunningMeanBaseline(num_features) if baseline else None
        self.contrast_baseline = RunningMeanBaseline(num_features) if baseline else None

    def forward(
        self,
        images: Tensor | Sequence[Any] | ImageBatch,
        view: Tensor,
        tile_view: Tensor | Sequence[Any] | ImageBatch,
        *,
        seed: int | Tensor | None = None,
    ) -> ZoomInOutput | ExactOutput:
        """Look, look closer, read, conclude.

        Args:
            images: full-resolution images, anything :func:`zoomkern.gather_patches` takes: ``[B, C, H, W]``, a list of
                ``[C, H, W]``, an image batch, pyramids.
            view: ``[B, C, Vh, Vw]`` anti-aliased low-resolution view for the first stage, on the networks' device.
            tile_view: the images at ``tile_scale``, anti-aliased, anything :func:`zoomkern.gather_patches` takes.
                Compute it once per image, not per step: ``[pyramid[2] for pyramid in pyramids]`` for a scale of 1/4.
            seed: of the draws, an int or int64 ``[B]``; None draws one from torch's generator.

        Returns:
            Class scores with the attentions, tiles and sub-tiles behind them.
        """
        if self.inference == "exact" and not self.training:
            return self.exact(images, view, tile_view)
        return self._zoom(images, view, tile_view, seed, self._plan(), complement=False)

    def contrast(
        self,
        images: Tensor | Sequence[Any] | ImageBatch,
        view: Tensor,
        tile_view: Tensor | Sequence[Any] | ImageBatch,
        *,
        seed: int | Tensor | None = None,
    ) -> ZoomInOutput:
        """Class scores from where attention does not look, for :func:`~zoomkern.losses.in_sample_contrastive`.

        Tiles are drawn from ``1 - alpha`` and sub-tiles from ``1 - beta_c``, each normalised, as training draws them.
        The loss is for images that are not negative; give only those where the labels are known on the host. Running
        statistics of norms stay those of :meth:`forward`, for no evaluation looks at what is read here; only what
        activation checkpointing computes again in backward moves them.

        Args:
            images: as for :meth:`forward`, and so all arguments.
            view: see :meth:`forward`.
            tile_view: see :meth:`forward`.
            seed: see :meth:`forward`.

        Returns:
            As :meth:`forward`; both attentions are the logits of the complements.

        Gradient:
            Unbiased for the mean feature under the complements, towards all networks.

        Source:
            Kong & Henao, CVPR 2022.
        """
        with untracked(self):
            return self._zoom(images, view, tile_view, seed, self._sampling_plan(1), complement=True)

    def exact(
        self,
        images: Tensor | Sequence[Any] | ImageBatch,
        view: Tensor,
        tile_view: Tensor | Sequence[Any] | ImageBatch,
        *,
        chunk: int = 1,
        complement: bool = False,
    ) -> ExactOutput:
        """Class scores from every tile and every sub-tile: what sampling estimates.

        Args:
            images: as for :meth:`forward`.
            view: see :meth:`forward`.
            tile_view: see :meth:`forward`.
            chunk: tiles per image that are read at a time.
            complement: the mean under ``1 - alpha`` and ``1 - beta_c``, what :meth:`contrast` estimates.

        Returns:
            Class scores and both attentions, of all tiles.

        Memory:
            ``B * chunk`` tile views and ``B * chunk * gh * gw`` sub-tiles, and the features of all; under
            ``torch.no_grad()``, for autograd keeps the sub-tiles of every chunk.
        """
        checks.integer("chunk", chunk, 1)
        logits = self._first_logits(view, complement)
        where = two_scales(images, tile_view, logits, self.tile_scale, self.tile_size)
        alpha = _softmax(logits.flatten(1))  # [B, L]
        cells = torch.arange(alpha.shape[1], device=alpha.device).expand_as(alpha)
        shares, bags, inner = [], [], []
        for index, share in zip(cells.split(chunk, 1), alpha.split(chunk, 1), strict=True):
            views, _, start = self._read_tiles(where, index)
            inside = self._second_logits(views, complement)  # [B, t, gh, gw]
            require_drawable("tile_attention's complement", inside.flatten(0, 1))
            inner.append(inside)
            beta = _softmax(inside.flatten(2))  # [B, t, l]
            items = torch.arange(beta.shape[2], device=beta.device).repeat(index.shape[1]).expand(index.shape[0], -1)
            corner = start.repeat_interleave(beta.shape[2], 1)
            patches, _ = self._read_subtiles(where, items, corner, (inside.shape[2], inside.shape[3]))
            shares.append((share[..., None] * beta).flatten(1))
            bags.append(self._describe(patches))  # [B, t l, D]
        if not bags:
            raise ValueError(f"attention must have cells; got a grid of {list(logits.shape[1:])}.")
        probability, features = torch.cat(shares, 1), torch.cat(bags, 1)
        if self.pooling is None:
            pooled = (probability[..., None] * features).sum(1).to(features.dtype)
        else:
            everything = torch.arange(probability.shape[1], device=probability.device).expand_as(probability)
            # an item that cannot be drawn has weight 0, which its logarithm need not know
            log_prob = torch.where(probability > 0, probability, 1.0).log()
            pooled = self.pooling(features, Sample(everything, log_prob, probability.detach()))
        return ExactOutput(self.classifier(pooled), logits, torch.cat(inner, 1), pooled)

    def _plan(self) -> Plan:
        """How this mode draws."""
        if self.training or self.inference == "sample":
            return self._sampling_plan(1 if self.training else self.repetitions)
        each = self.num_samples // self.num_tiles
        return Plan("topk", None, self.num_tiles, each, self.num_samples, "topk", None, 1)

    def _sampling_plan(self, repetitions: int) -> Plan:
        number = self.num_samples if self.tiles == "replacement" else self.num_tiles
        most = self.num_samples if self.tiles == "replacement" else self.num_samples // number
        inside = (self.sampler, self.estimator, repetitions)
        return Plan(self.tiles, self.tile_estimator, number, most, self.num_samples, *inside)

    def _zoom(
        self, images: Any, view: Tensor, tile_view: Any, seed: int | Tensor | None, plan: Plan, complement: bool
    ) -> ZoomInOutput:
        logits = self._first_logits(view, complement)  # [B, Gh, Gw]
        where = two_scales(images, tile_view, logits, self.tile_scale, self.tile_size)
        seeds = _repeated(image_seeds(seed, logits.shape[0], logits.device), plan.repetitions)  # [B, R]
        outer, counts = self._draw_tiles(logits, seeds, plan)  # [B, T]
        views, places, start = self._read_tiles(where, outer.index)
        inside = self._second_logits(views, complement)  # [B, T, gh, gw]
        grid = (inside.shape[2], inside.shape[3])
        cells = grid[0] * grid[1]
        if not torch.compiler.is_compiling():
            warn_of_padding(plan, logits.shape[1] * logits.shape[2], cells)
        most = min(plan.most, cells)
        inner = sample(
            inside.flatten(0, 1),
            counts.clamp(max=most).flatten(),
            max_samples=most,
            sampler=plan.sampler,
            estimator=plan.estimator,
            on_short="pad",
            seed=derived_seed(seeds.repeat_interleave(plan.num_tiles, 1), outer.index + 1).flatten(),
            backend=self.backend,
        )  # [B T, n]
        slots = Sample(*(part.reshape(counts.shape[0], counts.shape[1] * most) for part in inner))  # [B, T n]
        order = _drawn_first(slots.index, plan.repetitions * plan.total)  # [B, N]
        tile = order // most  # composed after gathering: inductor (2.13) loses a gathered gradient that has two readers
        parents = Sample(*(part.gather(1, tile) for part in outer))
        drawn = compose(parents, Sample(*(part.gather(1, order)[..., None] for part in slots)))  # [B, N]
        corner = start.gather(1, tile[..., None].expand(-1, -1, 2))
        patches, offsets = self._read_subtiles(where, drawn.index, corner, grid)
        index = torch.where(drawn.index < 0, -1, parents.index * cells + drawn.index)
        sampled = SampledPatches(patches, index, offsets, drawn.log_prob, drawn.weight)
        features = self._describe(patches)  # [B, N, D]
        baseline = self.contrast_baseline if complement else self.baseline
        if self.pooling is not None:
            pooled = self.pooling(features, sampled)
        elif self.gradient == "exact":
            constant = None if baseline is None else baseline()
            pooled = expectation(features, sampled.sample, baseline=constant, backend=self.backend)
        else:
            pooled = self._published(features, outer, inner)
        if baseline is not None:
            baseline.update(pooled)
        tiles = SampledPatches(views, outer.index, places, outer.log_prob, outer.weight)
        return ZoomInOutput(self.classifier(pooled), logits, inside, tiles, sampled, pooled)

    def _first_logits(self, view: Tensor, complement: bool) -> Tensor:
        logits: Tensor = self.attention(view)
        if logits.ndim != 3 or logits.shape[0] != view.shape[0]:
            raise ValueError(f"attention must return [B, Gh, Gw], B = {view.shape[0]}; got {list(logits.shape)}.")
        require_drawable("attention", logits)
        if complement:
            logits = complement_logits(logits.flatten(1)).view_as(logits)
            require_drawable("the complement of an attention on one place", logits)
        return logits

    def _second_logits(self, views: Tensor, complement: bool) -> Tensor:
        """``[B, T, gh, gw]`` from tile views ``[B, T, C, h, w]``."""
        logits: Tensor = self.tile_attention(views.flatten(0, 1))
        count = views.shape[0] * views.shape[1]
        if logits.ndim != 3 or logits.shape[0] != count:
            raise ValueError(f"tile_attention must return [{count}, gh, gw]; got {list(logits.shape)}.")
        require_drawable("tile_attention", logits)
        if complement:
            logits = complement_logits(logits.flatten(1)).view_as(logits)
        return logits.unflatten(0, views.shape[:2])

    def _draw_tiles(self, logits: Tensor, seeds: Tensor, plan: Plan) -> tuple[Sample, Tensor]:
        """Tiles ``[B, R T]`` of all repetitions, each with 1 / R of its weight, and the draws wanted inside each."""
        drawn = sample(
            logits.repeat_interleave(plan.repetitions, 0),
            plan.num_tiles,
            sampler=plan.tiles,
            estimator=plan.tile_estimator,
            on_short="pad",
            seed=seeds.flatten(),
            backend=self.backend,
        )
        if plan.tiles == "replacement":
            merged, counts = merge_repeats(drawn)
            drawn = merged._replace(weight=counts.to(drawn.weight.dtype) / plan.num_tiles)  # also under autocast
        else:
            counts = (drawn.index >= 0) * plan.most
        shape = (logits.shape[0], plan.repetitions * plan.num_tiles)
        index, log_prob, weight = (part.reshape(shape) for part in drawn)
        return Sample(index, log_prob, weight / plan.repetitions), counts.reshape(shape)

    def _read_tiles(self, where: TwoScales, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views ``[B, T, C, h, w]``, their offsets at the tiles' scale and at full resolution, ``[B, T, 2]`` each."""
        cell = index.clamp(min=0)
        places = offsets_of(cell, where.grid, where.tile_sizes[:, None].unbind(-1), self.view_size, self.align)
        start = torch.div(places * where.sizes[:, None], where.tile_sizes[:, None], rounding_mode="floor")
        places = torch.where((index < 0)[..., None], PADDED_OFFSET, places)
        reading = {name: value for name, value in self.reading.items() if name in PIXELS}
        return gather_patches(where.tile_images, places, self.view_size, **reading), places, start

    def _read_subtiles(
        self, where: TwoScales, item: Tensor, corner: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Sub-tiles ``item [B, N]`` of tiles that start at ``corner [B, N, 2]``: patches and their offsets."""
        step = self.reading.get("step", 1)
        extent = (step * self.patch_size[0], step * self.patch_size[1])
        inside = offsets_of(item, grid, self.tile_size, extent, self.align)
        offsets = torch.where((item < 0)[..., None], PADDED_OFFSET, corner + inside)
        if self.reading.get("padding_mode") == "shift":
            offsets = shift_inside(offsets, where.sizes, self.patch_size, step, PADDED_OFFSET)
        return gather_patches(where.images, offsets, self.patch_size, **self.reading), offsets

    def _describe(self, patches: Tensor) -> Tensor:
        features: Tensor = self.features(patches.flatten(0, 1))
        return features.unflatten(0, patches.shape[:2])

    def _published(self, features: Tensor, outer: Sample, inner: Sample) -> Tensor:
        """The published gradients know one stage only, so each stage is pooled by itself."""
        shape = outer.index.shape
        drawn = inner.index.reshape(shape[0], shape[1] * inner.index.shape[1]) >= 0  # [B, T n]
        place = (drawn.cumsum(1) - 1).clamp(0, features.shape[1] - 1)
        if features.shape[1] == drawn.shape[1]:
            place = torch.arange(place.shape[1], device=place.device).expand_as(place)
        spread = features.gather(1, place[..., None].expand(-1, -1, features.shape[2]))  # [B, T n, D]
        rows = torch.where(drawn[..., None], spread, 0.0).reshape(*inner.index.shape, features.shape[2])
        inside = expectation(rows, inner, gradient=self.gradient, backend=self.backend)  # [B T, D]
        between = "exact" if self.tiles == "replacement" else self.gradient
        return expectation(inside.unflatten(0, shape), outer, gradient=between, backend=self.backend)


def _softmax(logits: Tensor) -> Tensor:
    """Along the last dimension, float32 or better."""
    half = logits.dtype in (torch.float16, torch.bfloat16)
    return logits.softmax(-1, dtype=torch.float32 if half else None)


def _repeated(seeds: Tensor, repetitions: int) -> Tensor:
    """A seed for each repetition, ``[B, R]``; the first is the image's own."""
    if repetitions == 1:
        return seeds[:, None]
    numbers = -torch.arange(1, repetitions, device=seeds.device)
    return torch.cat([seeds[:, None], derived_seed(seeds[:, None], numbers)], 1)


def _drawn_first(index: Tensor, width: int) -> Tensor:
    """Places ``[B, width]`` of the drawn items, in their order, and of padding where they do not suffice."""
    if index.shape[1] <= width:
        return torch.arange(index.shape[1], device=index.device).expand_as(index)
    return (index < 0).to(torch.int8).argsort(dim=1, stable=True)[:, :width]
