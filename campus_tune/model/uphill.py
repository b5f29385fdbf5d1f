"""Three steps uphill from trained weights, each with a length of its own: what sharpness is measured along.

    plain      ε = ρ g / ‖g‖                            the length is that of the weights as they are stored
    relative   ε = ρ w² g / ‖w g‖                       elementwise; the length is that of ε / w
    merged     dW = ρ P(G) / ‖P(G)‖, W = W₀ + s B A     the length is that of what the adapter adds

An adapter has a gauge: (B M)(M⁻¹ A) is the same model for every invertible M, and the plain step depends on it: two
runs that end in one and the same model, one with a large A and a small B, differ in it. The relative step does not
see scales, (c B)(A / c), nor any other scale of a weight that the next one undoes; it sees rotations. The merged step
sees neither. G is the gradient of the merged weight W, and P its part in the tangent space of the matrices of this
rank at B A, that is, along the changes that the adapter can make to first order:

    P(G) = P_B G + G P_A − P_B G P_A            P_B, P_A: projections on the columns of B and on the rows of A

Nothing of the size of W is made for it: the gradients of A and B are s Bᵀ G and s G Aᵀ. B and A are moved by

    dA = a (1 − ½ P_A),  a = (BᵀB)⁻¹ g_A         dB = (1 − ½ P_B) b,  b = g_B (A Aᵀ)⁻¹        both times ρ / (s² ‖P(G)‖)

so that s (B dA + dB A) = dW, and s dB dA, of second order, is part of the step: it too is the same for every M.
Weights that are no such pair (all of a full fine-tuning; norms, biases, heads beside an adapter) count as they are:
without an adapter, the merged step is the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

LEAST = 1e-12  # of a norm that is divided by
LOST = 0.1  # share of a step that rounding may take
FLAT = 1e-10  # of a Gram matrix's largest eigenvalue: below, its direction is none


class Factors(NamedTuple):
    """Places of an adapter's two factors among the trained weights, and s of s B A."""

    a: int  # of shape (r, n)
    b: int  # of shape (m, r)
    scale: float


def adapter_pairs(model: nn.Module, trained: Sequence[Tensor]) -> list[Factors]:
    """The factors of LoRA of which both are trained. One that several modules share is no pair of one of them.

    Args:
        model: with or without an adapter.
        trained: its trained weights.
    """
    place = {id(weight): i for i, weight in enumerate(trained)}
    found: list[Factors] = []
    for module in model.modules():
        for kinds in (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")):
            first, second = (getattr(module, kind, {}) for kind in kinds)
            for name in first:
                a, b = (getattr(one[name], "weight", one[name]) for one in (first, second))
                if id(a) in place and id(b) in place and a.ndim == b.ndim == 2:
                    found.append(Factors(place[id(a)], place[id(b)], float(module.scaling[name])))  # type: ignore[index]  # peft's
    taken = [part for pair in found for part in (pair.a, pair.b)]
    return [pair for pair in found if taken.count(pair.a) == taken.count(pair.b) == 1]


def plain_step(gradients: Sequence[Tensor], radius: float) -> list[Tensor]:
    """The step of Foret et al. 2021, arXiv 2010.01412.

    Args:
        gradients: of each trained weight.
        radius: ρ, the step's length.
    """
    norm = _norm([_square(gradient) for gradient in gradients])
    return [gradient * (radius / norm) for gradient in gradients]


def relative_step(weights: Sequence[Tensor], gradients: Sequence[Tensor], radius: float) -> list[Tensor]:
    """The step of Kwon et al. 2021, arXiv 2102.11600, elementwise.

    Differs from the paper: nothing is added to |w|, which would undo that scales do not matter. A weight of 0 stays.

    Args:
        weights: the trained ones.
        gradients: of each.
        radius: ρ, the length of the steps divided by their weights.
    """
    norm = _norm([_square(weight * gradient) for weight, gradient in zip(weights, gradients, strict=True)])
    return [weight * weight * gradient * (radius / norm) for weight, gradient in zip(weights, gradients, strict=True)]


def merged_step(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], pairs: Sequence[Factors], radius: float
) -> list[Tensor]:
    """The step whose length is measured in the merged weights; see above.

    Args:
        weights: the trained ones.
        gradients: of each.
        pairs: which of them are factors of a product.
        radius: ρ, the length of all products' changes and of all other weights' together.
    """
    steps = list(gradients)
    squares = {i: _square(gradient) for i, gradient in enumerate(gradients)}
    for pair in pairs:
        a, b, of_a, of_b = (
            one.double() for one in (weights[pair.a], weights[pair.b], gradients[pair.a], gradients[pair.b])
        )
        of_columns, of_rows = b.T @ b, a @ a.T  # Gram matrices, (r, r)
        in_a, in_b = _inverse(of_columns) @ of_a, of_b @ _inverse(of_rows)
        in_a = in_a - 0.5 * (in_a @ a.T) @ _inverse(of_rows) @ a
        in_b = in_b - 0.5 * b @ _inverse(of_columns) @ (b.T @ in_b)
        crossed = (b.T @ in_b) * (in_a @ a.T)
        square = (in_a * (of_columns @ in_a)).sum() + (in_b * (in_b @ of_rows)).sum() + 2 * crossed.sum()
        squares[pair.a], squares[pair.b] = square / pair.scale**2, torch.zeros_like(square)  # ‖P(G)‖²
        steps[pair.a], steps[pair.b] = in_a / pair.scale**2, in_b / pair.scale**2
    norm = _norm(list(squares.values()))
    return [step * (radius / norm) for step in steps]


def move(weights: Sequence[Tensor], steps: Sequence[Tensor]) -> bool:
    """Take a step. False where rounding took more of it than is borne: half precision has gaps as wide as a step.

    Args:
        weights: that are moved, where they are.
        steps: of each.
    """
    lost = whole = 0.0
    for weight, step in zip(weights, steps, strict=True):
        old = weight.double()
        weight.add_(step.to(weight.dtype))
        lost += float((weight.double() - old - step).pow(2).sum())
        whole += float(step.double().pow(2).sum())
    return lost <= LOST**2 * whole


def _square(values: Tensor) -> Tensor:
    return values.double().pow(2).sum()


def _norm(squares: Sequence[Tensor]) -> float:
    """The root of the sum of squares, one per weight, wherever these live."""
    return max(math.sqrt(sum(float(square) for square in squares)), LEAST)


def _inverse(gram: Tensor) -> Tensor:
    """Of a Gram matrix, on the directions that it has: an adapter that was never moved has B = 0."""
    inverse: Tensor = torch.linalg.pinv(gram, rtol=FLAT, hermitian=True)
    return inverse
