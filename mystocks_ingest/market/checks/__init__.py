"""The check: rows of a frame that can be true, and rows that cannot, each with its rule and reason.

Pure and vectorised. Rules lean to the side of accepting: a refused row of a real archive is a defect here, and a
doubtful row that is stored can be compared and repaired later. ``Rule`` lists every rule.
"""

from __future__ import annotations

from mystocks_ingest.market.checks import bars, quality, records, rows, trading
from mystocks_ingest.market.checks.verdict import Checked, Context, Quality, Refused, Rule, Verdict
from mystocks_ingest.market.frames import Frame

STATED_MOVE = bars.STATED_MOVE

__all__ = ["STATED_MOVE", "Checked", "Context", "Quality", "Refused", "Rule", "check"]


def check(frame: Frame, context: Context) -> Checked:
    """Judge every row of ``frame``. Both parts come in key order; raw rows stay aligned."""
    if not len(frame):
        return Verdict(0).split(frame)
    keyed = rows.Keyed(frame)
    verdict = Verdict(len(frame))
    rows.required_cells(keyed, verdict)
    rows.unique_keys(keyed, verdict)
    if context.quality is not None:
        quality.check_quality(keyed, context.quality, context, verdict)
    days = keyed.days()
    name = frame.dataset.name
    if frame.dataset.interval is not None and days is not None:
        bars.check(keyed, days, context, verdict)
        return verdict.split(keyed.frame)
    if days is not None:
        rows.in_time(keyed, days, context, verdict)
    if name == "quote":
        records.check_quote(keyed, context, verdict)
    elif name == "depth":
        records.check_depth(keyed, verdict)
    elif name == "tick":
        records.check_tick(keyed, context, verdict)
    elif name == "daily_basic":
        records.check_daily_basic(keyed, verdict)
    elif name == "adj_factor":
        records.check_factor(keyed, context, verdict)
    elif name == "limit_price":
        records.check_limit_price(keyed, verdict)
    elif name == "order":
        trading.check_order(keyed, verdict)
    elif name == "fill":
        trading.check_fill(keyed, context, verdict)
    elif name == "instrument":
        records.check_instrument(keyed, verdict)
    elif name == "calendar" and days is not None:
        records.check_calendar(keyed, days, verdict)
    return verdict.split(keyed.frame)
