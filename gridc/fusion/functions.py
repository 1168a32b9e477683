"""Functions of numbers that vectorise inside a kernel's loops, as ``native.tanh_*`` do: calls into a library would not.

Errors are a few units of the last digit where results are neither denormal nor infinite; results below are 0.
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import numba
import numpy as np

from gridc.fusion.native import OPTIONS, as_bits, as_number, intrinsic

INLINE = {**OPTIONS, "forceinline": True}
"""A call within a loop, of one function in another, would keep it from vectorising."""


@intrinsic
def added(typing, total, term):  # type: ignore[no-untyped-def]
    """Add a term to a sum whose terms may come in any order, so that a loop that makes it vectorises."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fadd(*arguments, flags=("reassoc", "contract", "nsz"))

    return total(total, total), code


@numba.njit(**INLINE)
def exp_float64(x):  # type: ignore[no-untyped-def]
    """Give ``2^k exp(r)``, where ``|r| <= log(2) / 2``."""
    shift = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the nearest integer in the lowest bits
    y = 709.782712893384 if x > 709.782712893384 else x
    y = -707.5 if y < -707.5 else y
    k = y * 1.4426950408889634 + shift
    r = y - (k - shift) * 6.93147180369123816490e-01 - (k - shift) * 1.90821492927058770002e-10
    p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r * r + r + 1.0
    half = as_number(((as_bits(k) - 1) << 52) + 0x3FF0000000000000)  # 2^(k - 1): 2^k may be out of reach
    e = p * half * 2.0
    e = np.inf if x > 709.782712893384 else e
    return 0.0 if x < -707.5 else e


@numba.njit(**INLINE)
def exp_float32(x):  # type: ignore[no-untyped-def]
    """Give ``2^k exp(r)``, where ``|r| <= log(2) / 2``."""
    F, I = np.float32, np.int32
    shift = F(12582912.0)  # 1.5 * 2^23
    y = F(88.722839) if x > F(88.722839) else x
    y = F(-86.6) if y < F(-86.6) else y
    k = y * F(1.44269504088896341) + shift
    r = y - (k - shift) * F(0.693359375) + (k - shift) * F(2.12194440e-4)
    p = F(1.9875691500e-4) * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1.0)
    half = as_number(I(I(I(as_bits(k) - I(1)) << I(23)) + I(0x3F800000)))
    e = p * half * F(2.0)
    e = F(np.inf) if x > F(88.722839) else e
    return F(0.0) if x < F(-86.6) else e


@numba.njit(**INLINE)
def log_float64(x):  # type: ignore[no-untyped-def]
    """Give ``k log(2) + log(m)``, where ``sqrt(1/2) <= m < sqrt(2)``; after fdlibm's."""
    small = x < 2.2250738585072014e-308
    y = x * 18014398509481984.0 if small else x  # 2^54
    bits = as_bits(y)
    k = (bits - 0x3FE6A09E667F3BCD) >> 52
    f = as_number(bits - (k << 52)) - 1.0
    n = float(k) - 54.0 if small else float(k)
    s = f / (2.0 + f)
    z = s * s
    p = z * 1.479819860511658591e-01 + 1.531383769920937332e-01
    p = p * z + 1.818357216161805012e-01
    p = p * z + 2.222219843214978396e-01
    p = p * z + 2.857142874366239149e-01
    p = p * z + 3.999999999940941908e-01
    p = p * z + 6.666666666666735130e-01
    half = 0.5 * f * f
    found = n * 6.93147180369123816490e-01 - ((half - (s * (half + p * z) + n * 1.90821492927058770002e-10)) - f)
    found = x if x > 1.7976931348623157e308 else found
    found = -np.inf if x == 0.0 else found
    return np.nan if x < 0.0 or x != x else found


@numba.njit(**INLINE)
def log_float32(x):  # type: ignore[no-untyped-def]
    """Give ``k log(2) + log(m)``, where ``sqrt(1/2) <= m < sqrt(2)``; after fdlibm's."""
    F, I = np.float32, np.int32
    small = x < F(1.17549435e-38)
    y = x * F(33554432.0) if small else x  # 2^25
    bits = as_bits(y)
    k = I(I(bits - I(0x3F3504F3)) >> I(23))
    f = as_number(I(bits - I(k << I(23)))) - F(1.0)
    n = F(k) - F(25.0) if small else F(k)
    s = f / (F(2.0) + f)
    z = s * s
    p = z * F(0.24279078841) + F(0.28498786688)
    p = p * z + F(0.40000972152)
    p = p * z + F(0.66666662693)
    half = F(0.5) * f * f
    found = n * F(6.9313812256e-01) - ((half - (s * (half + p * z) + n * F(9.0580006145e-06))) - f)
    found = x if x > F(3.4028234e38) else found
    found = F(-np.inf) if x == F(0.0) else found
    return F(np.nan) if x < F(0.0) or x != x else found


@numba.njit(**INLINE)
def softplus_float64(x):  # type: ignore[no-untyped-def]
    """Give ``max(x, 0) + log(1 + e)`` with ``e = exp(-|x|)``, exact also where ``e`` is small beside 1."""
    e = exp_float64(x if x < 0.0 else -x)
    u = 1.0 + e
    d = u - 1.0
    by = 1.0 if d == 0.0 else d  # values are chosen, not ways: a loop with a branch does not vectorise
    rest = log_float64(u) * (e / by)
    rest = e if d == 0.0 else rest
    return rest + (0.0 if x < 0.0 else x)


@numba.njit(**INLINE)
def softplus_float32(x):  # type: ignore[no-untyped-def]
    """Give ``max(x, 0) + log(1 + e)`` with ``e = exp(-|x|)``, exact also where ``e`` is small beside 1."""
    F = np.float32
    e = exp_float32(x if x < F(0.0) else -x)
    u = F(1.0) + e
    d = u - F(1.0)
    by = F(1.0) if d == F(0.0) else d
    rest = log_float32(u) * (e / by)
    rest = e if d == F(0.0) else rest
    return rest + (F(0.0) if x < F(0.0) else x)
