"""A market that answers on time, whoever listens: an Arrow stream of quotes on stdout, one batch an answer.

``python quote_feed.py SYMBOLS ROWS RATE SHIFT``: each answer has ROWS rows, the next ROWS of SYMBOLS symbols in turn, RATE rows a
second in all; every row differs from the one before of its symbol. SHIFT seconds lie between the wall clock and the
market's. Ends when nobody reads any more.
"""

from __future__ import annotations

import contextlib
import sys
import time

import numpy as np
import pyarrow as pa

from mystocks_ingest.market.datasets import QUOTE


def names(count: int) -> list[str]:
    """That many stocks of both exchanges, ascending as vendors list them."""
    half = count // 2
    return [f"{n + 1:06d}.SZ" for n in range(count - half)] + [f"{600_000 + n}.SH" for n in range(half)]


class Market:
    """The answers, one after the other."""

    def __init__(self, count: int) -> None:
        self.symbols = pa.array(names(count))
        chance = np.random.default_rng(7)
        self._price = np.round(chance.uniform(3, 90, count), 2)
        self._step = np.zeros(count, np.int64)

    def answer(self, first: int, rows: int, at_ms: int) -> pa.RecordBatch:
        """Symbols ``first`` and the ``rows - 1`` after it, a trade later than before."""
        who = np.arange(first, first + rows) % len(self.symbols)
        self._step[who] += 1
        step, price = self._step[who], self._price[who]
        last = np.round(price * (1 + 0.01 * np.sin(step / 7)), 2)
        volume = 10_000 + step * 100
        columns: dict[str, object] = {
            "symbol": self.symbols.take(pa.array(who)),
            "ts": pa.array(np.full(rows, at_ms)),
            "last": last,
            "open": price,
            "high": np.round(price * 1.03, 2),
            "low": np.round(price * 0.97, 2),
            "pre_close": price,
            "volume": volume,
            "amount": np.round(volume * price, 2),
            "source": pa.array(["feed"] * rows),
            "fetched_at": pa.array(np.full(rows, at_ms)),
        }
        for level in range(1, 6):
            columns[f"bid_price{level}"] = np.round(last - 0.01 * level, 2)
            columns[f"ask_price{level}"] = np.round(last + 0.01 * level, 2)
            columns[f"bid_volume{level}"] = columns[f"ask_volume{level}"] = step * 100 + level
        arrays = [_array(columns[f.name]).cast(f.type) for f in QUOTE.fields]
        return pa.RecordBatch.from_arrays(arrays, names=[f.name for f in QUOTE.fields])


def _array(values: object) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values)


def main(count: int, rows: int, rate: float, shift: float) -> None:
    """Answer until the reader has gone."""
    market = Market(count)
    answer = market.answer(0, rows, 0)
    began = time.monotonic()
    number, last_ms = 0, 0
    with contextlib.suppress(BrokenPipeError), pa.ipc.new_stream(sys.stdout.buffer, answer.schema) as out:
        while True:
            time.sleep(max(began + number * rows / rate - time.monotonic(), 0))
            last_ms = max(last_ms + 1, int((time.time() + shift) * 1000))
            out.write_batch(market.answer(number * rows % count, rows, last_ms))
            sys.stdout.flush()
            number += 1


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
