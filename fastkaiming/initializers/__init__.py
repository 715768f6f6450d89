"""Initializers, their fans and gains, and ``init_`` for whole models.

A function whose name ends in an underscore fills an array in place; without the underscore, it returns a new array.
"""

from fastkaiming.initializers._basic import constant_, normal_, ones_, trunc_normal_, uniform_, zeros_
from fastkaiming.initializers._fans import Fans, fans
from fastkaiming.initializers._functional import (
    he_normal,
    he_uniform,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    trunc_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)
from fastkaiming.initializers._gains import calculate_gain
from fastkaiming.initializers._kaiming import kaiming, kaiming_normal_, kaiming_uniform_
from fastkaiming.initializers._model import DEFAULT_RULES, InitReport, init_
from fastkaiming.initializers._variance_scaling import (
    he_normal_,
    he_uniform_,
    lecun_normal_,
    lecun_uniform_,
    variance_scaling_,
    xavier_normal_,
    xavier_uniform_,
)

__all__ = [
    "DEFAULT_RULES",
    "Fans",
    "InitReport",
    "calculate_gain",
    "constant_",
    "fans",
    "he_normal",
    "he_normal_",
    "he_uniform",
    "he_uniform_",
    "init_",
    "kaiming",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal",
    "lecun_normal_",
    "lecun_uniform",
    "lecun_uniform_",
    "normal",
    "normal_",
    "ones_",
    "trunc_normal",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "variance_scaling",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
