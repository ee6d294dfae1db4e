"""Symbols: every vendor's spelling to the canonical ``600000.SH`` and back.

A canonical symbol is the exchange's own code, a dot, and the exchange: SH, SZ, BJ for the stock exchanges; CSI, SI
(Shenwan), CI (CITIC), CNI for index publishers; CFFEX, SHFE, INE, DCE, CZCE, GFEX for futures. A spelling that names
its exchange is taken at its word. A bare code is not enough (``000001`` is a bank and the Shanghai index), so it is
read by ``asset_type`` and, before any prefix rule, by the ``known`` map of the reference tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError, Unsupported
from mystocks_ingest.market.frames import Symbol

STOCK_EXCHANGES = ("SH", "SZ", "BJ")
FUTURES_EXCHANGES = ("CFFEX", "SHFE", "INE", "DCE", "CZCE", "GFEX")

# Other people's names of an exchange; tushare's futures suffixes (CFX, SHF, ZCE, GFE) are among them.
_EXCHANGES: dict[str, str] = {
    **{x: x for x in (*STOCK_EXCHANGES, *FUTURES_EXCHANGES, "CSI", "SI", "CI", "CNI")},
    "SS": "SH",
    "SSE": "SH",
    "XSHG": "SH",
    "SZSE": "SZ",
    "XSHE": "SZ",
    "BSE": "BJ",
    "XBSE": "BJ",
    "CFX": "CFFEX",
    "SHF": "SHFE",
    "ZCE": "CZCE",
    "GFE": "GFEX",
}
_TUSHARE = {"CFFEX": "CFX", "SHFE": "SHF", "CZCE": "ZCE", "GFEX": "GFE"}
_SECID = {"SH": "1", "SZ": "0", "BJ": "0", "CSI": "2"}

# Prefix rules for bare codes, first match wins; longer prefixes stand before the shorter ones they refine.
_STOCKS = (
    *((p, "BJ") for p in ("43", "83", "87", "88", "92")),
    *((p, "SH") for p in ("6", "900")),
    *((p, "SZ") for p in ("00", "20", "30")),
)
_FUNDS = (("5", "SH"), ("15", "SZ"), ("16", "SZ"), ("18", "SZ"))
_BONDS = (
    *((p, "SH") for p in ("110", "111", "113", "118", "01", "02")),
    *((p, "SZ") for p in ("112", "114", "115", "117", "119", "12", "10", "13")),
)
_INDICES = (
    *(("899", "BJ"), ("80", "SI"), ("399", "SZ"), ("395", "SZ"), ("000", "SH")),
    *(("93", "CSI"), ("H", "CSI"), ("98", "CNI"), ("97", "CNI")),
)
# 899 is the Beijing index series, 399 the Shenzhen one: neither can be a stock.
_CERTAIN = (("899", "BJ"), ("399", "SZ"))
_BARE: dict[str, tuple[tuple[str, str], ...]] = {
    "stock": (*_CERTAIN, *_STOCKS, *_FUNDS, *(b for b in _BONDS if not b[0].startswith("0"))),
    "etf": (*_FUNDS, *_CERTAIN, *_STOCKS),
    "bond": (*_BONDS, *_STOCKS, *_FUNDS),
    "index": _INDICES,
}
_PRODUCTS: dict[str, str] = {
    product: exchange
    for exchange, products in {
        "CFFEX": "IF IH IC IM TS TF T TL",
        "SHFE": "CU AL ZN PB NI SN AU AG RB WR HC SS FU BU RU SP AO BR AD OP",
        "INE": "SC LU NR BC EC",
        "DCE": "A B M Y P C CS L V PP J JM I JD RR EB EG PG LH FB BB LG BZ",
        "CZCE": "SR CF TA MA OI RM FG ZC WH PM RI LR JR RS SF SM AP CJ CY UR SA PF PK PX SH PR PL",
        "GFEX": "SI LC PS PT PD",
    }.items()
    for product in products.split()
}

# What a code of an exchange stands for, first match wins.
_KINDS: dict[str, tuple[tuple[str, str], ...]] = {
    "SH": (("6", "stock"), ("900", "stock"), ("5", "etf"), ("000", "index"), ("93", "index"), ("95", "index")),
    "SZ": (
        *(("00", "stock"), ("20", "stock"), ("30", "stock")),
        *(("39", "index"), ("97", "index"), ("98", "index")),
        *(("15", "etf"), ("16", "etf"), ("18", "etf")),
    ),
    "BJ": (("899", "index"), ("4", "stock"), ("83", "stock"), ("87", "stock"), ("88", "stock"), ("92", "stock")),
}

_SUFFIXED = re.compile(r"^([A-Z0-9]{1,8})\.([A-Z]{2,5})$")
_PREFIXED = re.compile(r"^(SH|SZ|BJ|CSI)[._]?(\d{6}|H\d{5})$")
_SECURITY_ID = re.compile(r"^([012])\.(\d{6}|H\d{5})$")
_DIGITS = re.compile(r"^(\d{1,6})(\.0+)?$")
_CODE = re.compile(r"^(\d{6}|H\d{5})$")
_CONTRACT = re.compile(r"^([A-Z]{1,2})(\d{3,4}|0|L|L\d|888|999)?$")
_BLANK = re.compile(r"[\s\ufeff\u200b'\"=]+")


_B_SHARES = ("900", "200", "201")


class Board(StrEnum):
    """A market segment with its own price limits and tick."""

    MAIN = "main"
    STAR = "star"
    CHINEXT = "chinext"
    BEIJING = "beijing"
    B_SHARE = "b_share"
    NONE = "none"  # not a stock


def parse(text: str | int, *, asset_type: str = "stock", known: Mapping[str, Symbol] | None = None) -> Symbol:
    """The symbol that ``text`` spells. Raises ConfigError when it spells none."""
    found = _read(str(text), asset_type, known or {})
    if found is None:
        raise ConfigError(f"cannot read {str(text)!r} as a symbol; write it like 600000.SH, sh.600000 or 600000")
    return found


def parse_column(
    array: pa.Array | pa.ChunkedArray, *, asset_type: str = "stock", known: Mapping[str, Symbol] | None = None
) -> pa.Array:
    """Canonical symbols of a vendor's column (text, integers or floats); unreadable cells become null.

    Each distinct cell is read once, so a million rows cost one dictionary encoding.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    cells = encoded.dictionary.to_pylist()
    if known:
        read = [None if cell is None else _read(_cell(cell), asset_type, known) for cell in cells]
    else:
        read = _remembered(cells, asset_type)
    return pa.array(read, pa.string()).take(encoded.indices)


_SPELLINGS = 1 << 16
_memory: dict[str, dict[object, Symbol]] = {}  # by asset type: a vendor's cell and the symbol it spells


def _remembered(cells: list[object], asset_type: str) -> list[Symbol | None]:
    """Every whole-market answer spells the same few thousand symbols: those are read once."""
    memory = _memory.setdefault(asset_type, {})
    found = list(map(memory.get, cells))
    if None in found:
        for place, cell in enumerate(cells):
            if found[place] is None and cell is not None:
                read = found[place] = _read(_cell(cell), asset_type, {})
                if read is not None and len(memory) < _SPELLINGS:
                    memory[cell] = read
    return found


def _cell(cell: object) -> str:
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else ""
    return str(cell)


def _read(text: str, asset_type: str, known: Mapping[str, Symbol]) -> Symbol | None:
    spelled, found = _spelled(text)
    if found is not None:
        return known.get(found, found)
    if asset_type == "future":
        return _future(spelled)
    number = _DIGITS.match(spelled)
    code = number.group(1).zfill(6) if number else spelled
    if not _CODE.match(code) or code == "000000":
        return None
    if code in known:
        return known[code]
    for prefix, exchange in _BARE.get(asset_type, _BARE["stock"]):
        if code.startswith(prefix):
            found = Symbol(f"{code}.{exchange}")
            return known.get(found, found)
    return None


@lru_cache(maxsize=1 << 16)  # every whole-market answer spells the same few thousand symbols
def _spelled(text: str) -> tuple[str, Symbol | None]:
    spelled = _BLANK.sub("", unicodedata.normalize("NFKC", text)).upper()
    return spelled, _explicit(spelled)


def _explicit(spelled: str) -> Symbol | None:
    """A spelling that names its exchange: 600000.SH, sh.600000, SH600000, 1.600000, IF2412.CFX."""
    if match := _SUFFIXED.match(spelled):
        code, exchange = match.group(1), _EXCHANGES.get(match.group(2))
        if exchange is None:
            return None
        if exchange in FUTURES_EXCHANGES:
            return Symbol(f"{code}.{exchange}") if _CONTRACT.match(code) else None
        code = code.zfill(6) if code.isdigit() else code
        return Symbol(f"{code}.{exchange}") if _CODE.match(code) else None
    if match := _PREFIXED.match(spelled):
        return Symbol(f"{match.group(2)}.{match.group(1)}")
    if (match := _SECURITY_ID.match(spelled)) and match.group(2) != "000000":
        number, code = match.groups()
        if number == "0":
            return Symbol(f"{code}.{'BJ' if code.startswith(('4', '8', '92')) else 'SZ'}")
        return Symbol(f"{code}.{'SH' if number == '1' else 'CSI'}")
    return None


def _future(spelled: str) -> Symbol | None:
    contract = _CONTRACT.match(spelled)
    exchange = _PRODUCTS.get(contract.group(1)) if contract else None
    return Symbol(f"{spelled}.{exchange}") if exchange else None


def _split(symbol: str) -> tuple[str, str]:
    code, _, exchange = symbol.rpartition(".")
    return code, exchange


def to_bare(symbol: Symbol) -> str:
    """``600000``: the code alone (akshare's Eastmoney functions)."""
    return _split(symbol)[0]


def to_tushare(symbol: Symbol) -> str:
    """``600000.SH``, ``IF2412.CFX``."""
    code, exchange = _split(symbol)
    return f"{code}.{_TUSHARE.get(exchange, exchange)}"


def to_baostock(symbol: Symbol) -> str:
    """``sh.600000``. Raises Unsupported: Baostock knows Shanghai and Shenzhen only."""
    code, exchange = _split(symbol)
    if exchange not in ("SH", "SZ"):
        raise Unsupported(f"baostock has no {exchange} symbols ({symbol})")
    return f"{exchange.lower()}.{code}"


def to_sina(symbol: Symbol) -> str:
    """``sh600000``, ``bj920819``, ``csi931151``; a futures contract is its bare code. Raises Unsupported."""
    code, exchange = _split(symbol)
    if exchange in FUTURES_EXCHANGES:
        return code
    if exchange not in (*STOCK_EXCHANGES, "CSI"):
        raise Unsupported(f"sina and tencent have no {exchange} symbols ({symbol})")
    return f"{exchange.lower()}{code}"


def to_eastmoney(symbol: Symbol) -> str:
    """``SH600519``, as Eastmoney's financial reports want it."""
    return to_sina(symbol).upper()


def to_secid(symbol: Symbol) -> str:
    """``1.600000``: Eastmoney's security id, 1 Shanghai, 0 Shenzhen and Beijing, 2 CSI. Raises Unsupported."""
    code, exchange = _split(symbol)
    if exchange not in _SECID:
        raise Unsupported(f"eastmoney's security ids have no {exchange} ({symbol})")
    return f"{_SECID[exchange]}.{code}"


def exchange_of(symbol: Symbol) -> str:
    """``SH`` of ``600000.SH``."""
    return _split(symbol)[1]


@lru_cache(maxsize=65536)
def asset_type_of(symbol: Symbol) -> str:
    """stock, index, etf (any listed fund), bond or future, by the exchanges' code tables.

    A guess for symbols that the instrument table does not know; where it knows, it is right and this is not asked.
    """
    code, exchange = _split(symbol)
    if exchange in FUTURES_EXCHANGES:
        return "future"
    if exchange not in STOCK_EXCHANGES:
        return "index"
    return next((kind for prefix, kind in _KINDS[exchange] if code.startswith(prefix)), "bond")


@lru_cache(maxsize=65536)
def board_of(symbol: Symbol) -> Board:
    """The market segment of a stock; Board.NONE for anything else."""
    if asset_type_of(symbol) != "stock":
        return Board.NONE
    code, exchange = _split(symbol)
    if exchange == "BJ":
        return Board.BEIJING
    if code.startswith(_B_SHARES):
        return Board.B_SHARE
    if code.startswith(("688", "689")):
        return Board.STAR
    return Board.CHINEXT if code.startswith("30") else Board.MAIN


def b_shares(symbols: pa.Array) -> npt.NDArray[np.bool_]:
    """Which of these stocks are B shares: ``board_of`` for a whole column."""
    prefix = pc.is_in(pc.utf8_slice_codeunits(symbols, 0, 3), value_set=pa.array(_B_SHARES))
    mask: npt.NDArray[np.bool_] = pc.fill_null(prefix, False).to_numpy(zero_copy_only=False)
    if mask.any():  # a Beijing code may begin so, too
        mask &= ~pc.fill_null(pc.ends_with(symbols, ".BJ"), False).to_numpy(zero_copy_only=False)
    return mask


@dataclass(frozen=True, slots=True)
class Rename:
    """An instrument's code was ``old`` until ``since``, its first session as ``new``."""

    old: Symbol
    new: Symbol
    since: date


@dataclass(frozen=True)
class Renames:
    """Codes that changed, as data (tushare ``bse_mapping``): Beijing's move to 920xxx in October 2025.

    Rows are always kept under the newest code, so that a series stays whole; the old one is only for asking a
    vendor, or reading an archive, of an earlier day. Nothing is derived from the digits: 430047 and 830047 both
    end in 047, and only the exchange says which became which.
    """

    renames: tuple[Rename, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, date]]) -> Renames:
        """From (old, new, since) in any spelling. Raises ConfigError."""
        return cls(tuple(Rename(parse(old), parse(new), since) for old, new, since in rows))

    @cached_property
    def known(self) -> dict[str, Symbol]:
        """Every old spelling, bare and full, to the current symbol: the ``known`` of ``parse_column``."""
        latest = {r.old: r.new for r in self.renames}
        current = {old: self._end(new, latest) for old, new in latest.items()}
        return {spelling: new for old, new in current.items() for spelling in (str(old), to_bare(old))}

    @staticmethod
    def _end(symbol: Symbol, latest: Mapping[Symbol, Symbol]) -> Symbol:
        seen = {symbol}
        while (step := latest.get(symbol)) is not None and step not in seen:
            symbol = step
            seen.add(step)
        return symbol

    def current(self, symbol: Symbol) -> Symbol:
        """The code the instrument has now."""
        return self.known.get(symbol, symbol)

    def on(self, symbol: Symbol, day: date) -> Symbol:
        """The code the instrument had on ``day``."""
        symbol = self.current(symbol)
        for rename in sorted(self.renames, key=lambda r: r.since, reverse=True):
            if rename.new == symbol and day < rename.since:
                symbol = rename.old
        return symbol
