"""Cross-attention pooling."""

import pytest
import torch
from torch.nn import functional as F

from zoomkern.nn.cross_attention import CrossAttentionPooling


def test_heads_attend_as_scaled_dot_products():
    pooling = CrossAttentionPooling(12, heads=3).double()
    features = torch.randn(2, 7, 12, dtype=torch.float64)
    heads = [part(features).unflatten(-1, (3, 4)).transpose(1, 2) for part in (pooling.key, pooling.value)]
    query = pooling.query[None, :, None].expand(2, -1, -1, -1)
    mixed = F.scaled_dot_product_attention(query, *heads)[:, :, 0].flatten(1)
    y = pooling.norm(pooling.out(mixed))
    torch.testing.assert_close(pooling(features), pooling.final_norm(y + pooling.mlp(y)))


def test_the_order_of_the_items_does_not_matter():
    pooling, features = CrossAttentionPooling(8, heads=2).double(), torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(pooling(features.flip(1)), pooling(features))


def test_masked_items_take_no_part():
    pooling, features = CrossAttentionPooling(8, heads=2).double(), torch.randn(2, 6, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    torch.testing.assert_close(pooling(features, mask), pooling(features[:, :4]))
    attention = pooling.attention(features, mask)
    assert (attention[:, 4:] == 0).all()
    torch.testing.assert_close(attention.sum(1), torch.ones(2, 2, dtype=torch.float64))


def test_logits_of_an_item_do_not_depend_on_the_others():
    pooling, features = CrossAttentionPooling(8).double(), torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(pooling.logits(features)[:, 2], pooling.logits(features[:, 2]))


def test_a_gradient_reaches_every_parameter():
    pooling = CrossAttentionPooling(8, heads=4)
    pooling(torch.randn(3, 5, 8)).square().mul(torch.rand(8)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in pooling.parameters())


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_must_divide_the_features(heads):
    with pytest.raises(ValueError, match="heads"):
        CrossAttentionPooling(8, heads)
