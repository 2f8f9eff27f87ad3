"""Corrects a forecast by a probe: a few measured steps on the flavor in question, or the news that not one ended in time.

The two are averaged by how sure each is. Where they disagree by more than both allow, the answer is less sure than either. Step times
that no clock can mean, and ones far from the rest (a clock that jumped, a warm-up), are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, median, stdev
from typing import NamedTuple

from fabric.types import Forecast

STEP_LOG_SD = 0.1
"""Of one step, while too few have been seen to say."""
LEAST_LOG_SD = 0.01
"""A probe is never surer than this of the run that follows."""
OUTLIER_DEVIATIONS = 5.0
OUTLIER_LOG = 0.25
CONFLICT = 2.0
"""Further apart than so many of their common deviations, the two do not agree (the Birge ratio, Phys. Rev. 40, 207, 1932)."""
UNFINISHED_LOG_SD = 0.7
"""Of a step that has outlived all that was thought possible: how much longer it takes nobody knows."""
_NORMAL = NormalDist()


class Probe(NamedTuple):
    """Mean log seconds of `num_steps` steps and its deviation; with no step, `log_s` is the log of the time that was not enough for one."""

    log_s: float
    log_sd: float
    num_steps: int


def probe_of(step_s: Sequence[float], *, unfinished_s: float = 0.0) -> Probe | None:
    """What these step times say. `unfinished_s`: how long a step had run when the probe was stopped. None: nothing was learnt."""
    logs = [math.log(second) for second in step_s if second > 0 and math.isfinite(second)]
    if not logs:
        return Probe(math.log(unfinished_s), 0.0, 0) if unfinished_s > 0 and math.isfinite(unfinished_s) else None
    middle = median(logs)
    spread = 1.4826 * median(abs(log - middle) for log in logs)
    kept = [log for log in logs if abs(log - middle) <= max(OUTLIER_DEVIATIONS * spread, OUTLIER_LOG)]
    # Of n steps n - 1 speak for their spread; the usual one counts as three more.
    step_var = (3 * STEP_LOG_SD**2 + (len(kept) - 1) * (stdev(kept) ** 2 if len(kept) > 1 else 0.0)) / (len(kept) + 2)
    return Probe(fmean(kept), math.sqrt(step_var / len(kept) + LEAST_LOG_SD**2), len(kept))


def corrected(prior: Forecast, probe: Probe | None) -> Forecast:
    """The forecast after the probe."""
    if probe is None:
        return prior
    if probe.num_steps == 0:
        if probe.log_s > prior.mean_log + CONFLICT * prior.log_sd:
            return Forecast(probe.log_s + UNFINISHED_LOG_SD, max(prior.log_sd, UNFINISHED_LOG_SD))
        return Forecast(*outlived(prior.mean_log, prior.log_sd, probe.log_s))
    prior_var, probe_var = prior.log_sd**2, probe.log_sd**2
    gain = prior_var / (prior_var + probe_var)
    apart = abs(probe.log_s - prior.mean_log) / math.sqrt(prior_var + probe_var)
    log_sd = math.sqrt(gain * probe_var) * max(1.0, apart / CONFLICT)
    return Forecast(prior.mean_log + gain * (probe.log_s - prior.mean_log), log_sd)


def outlived(mean: float, log_sd: float, done: float) -> tuple[float, float]:
    """Median and spread of a normal variable that is known to be above `done`."""
    below = _NORMAL.cdf((done - mean) / log_sd)
    if below > 1.0 - 1e-9:
        return done + 0.1 * log_sd, 0.1 * log_sd
    median, high = (mean + log_sd * _NORMAL.inv_cdf(below + (1.0 - below) * share) for share in (0.5, 0.84134))
    return median, high - median
