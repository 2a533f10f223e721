"""The operations that have rules, by the names under which torch offers them; :mod:`.rules` says which rule each gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LINEAR = """
    embedding pad
    add __add__ __radd__ __iadd__ add_ sub __sub__ __rsub__ __isub__ sub_ subtract neg __neg__ sum mean cumsum
    expand expand_as transpose_ t T mT movedim swapaxes alias requires_grad_ unsqueeze_ squeeze_
    unbind chunk split tensor_split split_with_sizes narrow select index_select
    select_scatter
    __getitem__ __setitem__ gather broadcast_to unfold scatter scatter_ scatter_add scatter_add_ index_add index_add_ index_put
    index_put_ index_copy_
    cat concat concatenate stack hstack vstack repeat repeat_interleave tile roll flip tril triu diagonal
    where masked_fill masked_fill_ masked_scatter masked_scatter_ copy_ fill_ zero_
    topk sort max amax min amin take_along_dim
    view_as_real view_as_complex
    view reshape view_as reshape_as flatten unflatten transpose permute unsqueeze squeeze
    contiguous clone to type type_as float double half bfloat16 cuda cpu
"""
LINEAR_MAP = "linear conv1d lerp grouped_mm _grouped_mm scaled_grouped_mm"
PRODUCT = "mul __mul__ __rmul__ multiply matmul __matmul__ __rmatmul__ bmm mm mv dot inner outer"
ADDED_PRODUCT = "baddbmm addmm addbmm addmv addcmul"
QUOTIENT = "div __truediv__ __itruediv__ div_ divide true_divide"
CONSTANT_DEVIATION = "var_mean std_mean"
CONSTANT = "rsqrt sqrt std var norm vector_norm linalg_vector_norm"
GATE = "sigmoid logsigmoid softplus exp logsumexp"
GENERIC_POINTWISE = """
    tanh leaky_relu elu celu selu hardswish hardtanh relu6 mish softsign tanhshrink hardshrink softshrink asinh atan sin expm1
    log1p
"""
PIECEWISE_LINEAR = "abs relu"
POWER = "pow __pow__ square"
CLAMP = "clamp clip clamp_min clamp_max"
CLAMP_IN_PLACE = "clamp_ clip_"
PRODUCT_IN_PLACE = "mul_ __imul__"
DROPOUT = "dropout dropout1d alpha_dropout feature_dropout"
SOFTMAX = "softmax _softmax"

_NAMESPACES = (torch, Tensor, F, torch._C._nn, torch.special, torch.linalg)


def resolve(names: str) -> list[Callable[..., Any]]:
    """Every function, method or property getter that torch knows under the given names."""
    found: list[Callable[..., Any]] = []
    for name in names.split():
        for namespace in _NAMESPACES:
            attribute = getattr(namespace, name, None)
            if callable(attribute):
                found.append(attribute)
            elif attribute is not None and hasattr(attribute, "__get__"):
                found.append(attribute.__get__)
    return found
