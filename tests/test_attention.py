"""Attention in the steps of learning, beside torch's kernel and the blocks of answers."""

import pytest
import torch
from torch import nn

from conjoin.nets.attention import Attention, Heads, _parts, attended, learns_on_cpu
from conjoin.nets.decoder import Decoder, Turned, _angles, even
from conjoin.nets.precision import computing_in


def drawn(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(len(shape) + shape[1])
    out = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return out.to(dtype).requires_grad_()


def both(found, known, parts):
    slope = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view(found.shape)
    ours = torch.autograd.grad(found, parts, slope, retain_graph=True)
    theirs = torch.autograd.grad(known, parts, slope.to(known.dtype), retain_graph=True)
    return zip((found, *ours), (known, *theirs), strict=True)


@pytest.mark.parametrize("places", [1, 2, 63, 64, 65, 130, 257])
def test_outputs_and_gradients_are_those_of_torchs_kernel(places):
    parts = [drawn(2, 3, places, 4) for _ in range(3)]
    known = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
    for ours, theirs in both(Attention.apply(*parts, None), known, parts):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 1, 1, 7), (5, 7), (2, 1, 5, 7)])
def test_masks_hide_what_they_hide_from_torchs_kernel(shape):
    query, key, value = drawn(2, 3, 5, 4), drawn(2, 3, 7, 4), drawn(2, 3, 7, 4)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.6
    mask[..., 0] = True
    known = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    parts = (query, key, value)
    for ours, theirs in both(Attention.apply(*parts, mask), known, parts):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_bfloat16_rounds_as_that_format_does():
    parts = [drawn(2, 3, 130, 4, dtype=torch.bfloat16) for _ in range(3)]
    whole = [part.detach().float().requires_grad_() for part in parts]
    known = nn.functional.scaled_dot_product_attention(*whole, is_causal=True)
    found = attended(*parts)
    slope = torch.linspace(-1, 1, found.numel()).view(found.shape)
    ours = torch.autograd.grad(found, parts, slope.bfloat16())
    theirs = torch.autograd.grad(known, whole, slope)
    for one, other in zip((found, *ours), (known, *theirs), strict=True):
        assert (one.float() - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("turned", [True, False])
def test_heads_are_those_of_the_blocks_of_answers(turned):
    each = drawn(2, 9, 3 * 12)
    angle = _angles(9, 4) if turned else torch.zeros((), dtype=torch.float64)
    cosine, sine = angle.cos(), angle.sin()
    query, key, value = each.unflatten(-1, (3, 3, -1)).permute(2, 0, 3, 1, 4)
    known = (*Turned.apply(even(torch.stack([query, key])), cosine, sine), value)
    for ours, theirs in zip(Heads.apply(each, cosine, sine, 3), known, strict=True):
        for one, other in both(ours, theirs, (each,)):
            assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("places", [1, 33, 64, 96, 97, 257, 1000])
def test_each_query_is_in_one_part(places):
    parts = _parts(places, places, True)
    assert [part[0] for part in parts[1:]] == [part[1] for part in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, places)


def test_answers_keep_torchs_kernel():
    query = torch.zeros(1, 1, 1, 2)
    assert learns_on_cpu(True, query)
    assert not learns_on_cpu(False, query)
    assert not learns_on_cpu(True, query.double())
    with torch.no_grad():
        assert not learns_on_cpu(True, query)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_learns_from_the_gradient_of_its_answers(precision):
    torch.manual_seed(0)
    net = Decoder(20, 5, 0, 32, 2, 0.0).float()
    for parameter in net.parameters():  # the last layers begin at zero
        parameter.data.add_(0.05 * torch.randn(parameter.shape))
    token, told = torch.randint(5, (3, 20)), torch.zeros(3, 0)
    slopes = []
    for learns in (True, False):
        net.train(learns)
        with computing_in(precision if learns else "float32"):
            loss = net(token, told).logsumexp(2).sum()
        slopes.append(torch.autograd.grad(loss, list(net.parameters())))
    most = 1e-5 if precision == "float32" else 0.05
    for ours, theirs in zip(*slopes, strict=True):
        assert (ours - theirs).norm() <= most * theirs.norm()


def test_a_second_derivative_is_refused_and_not_left_out():
    query, key, value = (torch.randn(1, 1, 4, 2, requires_grad=True) for _ in range(3))
    out = attended(query, key, value)
    slope = torch.autograd.grad(out.square().sum(), query, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_long_strings_are_left_to_a_kernel_that_keeps_no_weights(monkeypatch):
    monkeypatch.setattr("conjoin.nets.attention.MAX_WEIGHTS", 15)
    query, key, value = (torch.randn(1, 1, 4, 2, requires_grad=True) for _ in range(3))
    whole = attended(query, key, value)
    assert type(whole.grad_fn).__name__.startswith("ScaledDotProduct")
    monkeypatch.undo()
    assert torch.allclose(whole, attended(query, key, value), atol=1e-6)
