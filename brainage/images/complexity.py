"""How irregular an image is: Hilbert curve, then the multifractal spectrum of the signal.

A Hilbert curve (Hilbert 1891) visits every pixel of a square image and keeps neighbours together,
so the one-dimensional spectrum of the signal speaks for the image. The spectrum is estimated by
multifractal detrended fluctuation analysis, MFDFA (Kantelhardt et al. 2002,
doi:10.1016/S0378-4371(02)01383-3): pure functions of arrays, vectorised over images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from brainage.errors import ShapeError
from brainage.types import DoubleArray

MOMENTS: tuple[float, ...] = tuple(np.linspace(-5.0, 5.0, 21))
"""Orders q of the fluctuation function."""
SCALES: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
"""Lengths of the segments, in samples; they suit the 1024 samples of a 32 x 32 image."""
SPLINE_POINTS = 401


def hilbert_order(order: int) -> NDArray[np.int64]:
    """Pixels along the Hilbert curve of a square of side 2^order.

    Built by doubling: a curve of the next order is four copies of the present one, the first and
    the last transposed, so that the ends meet.

    Parameters
    ----------
    order : int
        p; the side is 2^p pixels, and 5 gives 32.

    Returns
    -------
    numpy.ndarray of int64 (4^order, 2)
        Row and column of each step; two steps in a row are one pixel apart.

    Raises
    ------
    ShapeError
        If the order is not 1 to 12.
    """
    if not 1 <= order <= 12:
        raise ShapeError("order", f"expected 1 to 12, got {order}.", "Order 5 is 32 x 32 pixels.")
    curve = np.zeros((1, 2), dtype=np.int64)
    for level in range(order):
        side = 2**level
        turned = curve[:, ::-1]
        curve = np.concatenate(
            [
                turned,
                np.add(curve, [side, 0]),
                np.add(curve, [side, side]),
                np.subtract([side - 1, 2 * side - 1], turned),
            ]
        )
    return curve


def hilbert_signals(images: ArrayLike) -> DoubleArray:
    """Read images along the Hilbert curve, padded with zeros to the next power of two.

    MNIST's 28 x 28 becomes 32 x 32, order 5, as in the paper's figure S9.

    Parameters
    ----------
    images : array (N, I, J) or (N, C, I, J)
        Grey, or with colour channels, which are averaged.

    Returns
    -------
    numpy.ndarray of float64 (N, 4^order)
        One signal an image.

    Raises
    ------
    ShapeError
        If the images are not square or have another number of axes.
    """
    grey = np.asarray(images, dtype=np.float64)
    if grey.ndim == 4:
        grey = grey.mean(axis=1)
    if grey.ndim != 3 or grey.shape[1] != grey.shape[2] or grey.shape[1] < 2:
        raise ShapeError(
            "images", f"expected square images (N, I, I) or (N, C, I, I), got {grey.shape}."
        )
    order = int(np.ceil(np.log2(grey.shape[1])))
    missing = 2**order - grey.shape[1]
    before, after = missing // 2, missing - missing // 2
    grey = np.pad(grey, ((0, 0), (before, after), (before, after)))
    rows, columns = hilbert_order(order).T
    return grey[:, rows, columns]


@dataclass(frozen=True)
class Spectrum:
    """Multifractal spectra of N signals at P orders q.

    Attributes
    ----------
    alpha : numpy.ndarray of float64 (N, P)
        Lipschitz–Hölder exponents α(q) = dτ/dq.
    f : numpy.ndarray of float64 (N, P)
        Dimension f(α) = qα − τ(q) of the places with that exponent.
    """

    alpha: DoubleArray
    f: DoubleArray

    @property
    def width(self) -> DoubleArray:
        """Width w = max α − min α (N,); 0 for a monofractal."""
        return np.ptp(self.alpha, axis=1)

    @property
    def irregularity(self) -> DoubleArray:
        """α0 (N,): the exponent at the maximum of f, that of the typical place."""
        return self.alpha[np.arange(len(self.f)), self.f.argmax(axis=1)]


def multifractal_spectrum(
    signals: ArrayLike,
    *,
    scales: Sequence[int] = SCALES,
    moments: Sequence[float] = MOMENTS,
    detrending: int = 1,
) -> Spectrum:
    """Estimate spectra by MFDFA, smoothed by a cubic spline through τ(q).

    The q-th order fluctuation F_q(s) of the integrated signal grows as s^h(q); τ(q) = q·h(q) − 1
    (Kantelhardt et al. 2002, equations 4 to 15). Segments in which the signal does not vary (the
    black border of a digit) have no exponent and are left out.

    Parameters
    ----------
    signals : array (N, T)
        One signal a row.
    scales : sequence of int
        Segment lengths s in samples, three or more, from `detrending` + 2 to T / 2.
    moments : sequence of float
        Ascending orders q, four or more; small ranges look at the typical places only.
    detrending : int
        Degree of the polynomial that is removed from each segment.

    Raises
    ------
    ShapeError
        If the signals are not (N, T), one is constant or not finite, or scales or moments do
        not suit them.
    """
    values = _check_signals(signals, scales, moments, detrending)
    profile = np.cumsum(values - values.mean(axis=1, keepdims=True), axis=1)
    orders = np.asarray(moments, dtype=np.float64)
    floor = 1e-12 * values.var(axis=1)
    log_fluctuation = np.stack(
        [_log_fluctuation(_variances(profile, s, detrending), orders, floor) for s in scales],
        axis=-1,
    )
    log_scale = np.log(np.asarray(scales, dtype=np.float64))
    centred = log_scale - log_scale.mean()
    hurst = log_fluctuation @ centred / (centred @ centred)
    tau = CubicSpline(orders, orders * hurst - 1.0, axis=1)
    fine = np.linspace(orders[0], orders[-1], SPLINE_POINTS)
    alpha = tau(fine, 1)
    return Spectrum(alpha, fine * alpha - tau(fine))


def _variances(profile: DoubleArray, scale: int, degree: int) -> DoubleArray:
    """Mean squared residual of each segment: (N, T) to (N, segments).

    Where the scale does not divide the length, segments are laid from both ends (Kantelhardt et
    al. 2002, step 2), so that no sample is lost.
    """
    samples, length = profile.shape
    count = length // scale
    starts = sorted({0, length - count * scale})
    segments = np.concatenate(
        [profile[:, s : s + count * scale].reshape(samples, count, scale) for s in starts], axis=1
    )
    basis = np.linalg.qr(np.vander(np.linspace(-1.0, 1.0, scale), degree + 1))[0]
    residual = segments - segments @ basis @ basis.T
    return np.square(residual).mean(axis=2)


def _log_fluctuation(
    variances: DoubleArray, orders: DoubleArray, floor: DoubleArray
) -> DoubleArray:
    """Logarithm of F_q for one scale: (N, segments), (Q,), (N,) to (N, Q)."""
    varies = variances > floor[:, None]
    count = varies.sum(axis=1)
    log_root = 0.5 * np.log(np.where(varies, variances, 1.0))
    columns = []
    for q in orders:
        if abs(q) < 1e-9:  # the limit q → 0 is the geometric mean (equation 6)
            columns.append((log_root * varies).sum(axis=1) / count)
        else:
            powers = np.where(varies, q * log_root, -np.inf)
            columns.append((np.logaddexp.reduce(powers, axis=1) - np.log(count)) / q)
    return np.stack(columns, axis=1)


def _check_signals(
    signals: ArrayLike, scales: Sequence[int], moments: Sequence[float], detrending: int
) -> DoubleArray:
    values = np.asarray(signals, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise ShapeError("signals", f"expected shape (N, T), got {values.shape}.")
    length = values.shape[1]
    if len(scales) < 3 or min(scales) < detrending + 2 or 2 * max(scales) > length:
        raise ShapeError(
            "scales",
            f"expected three or more from {detrending + 2} to {length // 2}, got {list(scales)}.",
        )
    if len(moments) < 4 or bool((np.diff(moments) <= 0).any()):
        raise ShapeError("moments", f"expected four or more, ascending, got {list(moments)}.")
    spread = np.ptp(values, axis=1)
    bad = np.flatnonzero(~(spread > 0) | ~np.isfinite(spread))
    if bad.size:
        raise ShapeError(
            f"signal {bad[0]}", "is constant or not finite.", "Leave it out: it has no spectrum."
        )
    return values
