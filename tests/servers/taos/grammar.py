"""The part of TDengine's SQL that the stand-in knows: text to statements and expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .kinds import (
    COMPRESSIONS,
    DECIMAL,
    DECIMAL64,
    DOUBLE,
    FLOAT,
    KEYS,
    LEVELS,
    NUMBERS,
    SIZED,
    Column,
    TaosError,
    syntax,
)

_TOKEN = re.compile(
    r"""\s+ | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?[a-zA-Z]?) | (?P<name>[A-Za-z_]\w*) | `(?P<quoted>[^`]*)`
    | (?P<text>'(?:\\.|''|[^'\\])*'|"(?:\\.|""|[^"\\])*") | (?P<op><>|!=|<=|>=|[-+*/%()=<>,.;?])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

Expr = tuple[Any, ...]
"""("lit", value) ("col", name) ("call", name, args) ("cast", expr, kind, length) ("op", sign, left, right)
("not", e) ("neg", e) ("in", e, [e]) ("null", e) ("like", e, text) ("star",) ("mark",)"""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    value: str
    at: int


def tokens(sql: str) -> list[Token]:
    found = []
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            raise syntax(sql[at:])
        kind = match.lastgroup
        if kind == "text":
            body = match["text"][1:-1]
            quote = match["text"][0]
            body = body.replace(quote * 2, quote)
            found.append(Token("text", re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), body, flags=re.DOTALL), at))
        elif kind is not None:
            found.append(Token(kind, match[kind], at))
        at = match.end()
    return found


@dataclass(slots=True)
class Name:
    """A table's or database's name, with the database where one was written."""

    table: str
    database: str | None = None


@dataclass(slots=True)
class Create:
    what: str  # database, stable, table
    name: Name
    lenient: bool
    columns: list[Column] = field(default_factory=list)
    tags: list[Column] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    using: Name | None = None
    values: list[Expr] = field(default_factory=list)


@dataclass(slots=True)
class Drop:
    what: str
    name: Name
    lenient: bool


@dataclass(slots=True)
class Alter:
    name: Name
    action: str  # "add column", "set tag", "comment", "option" ...
    column: Column | None = None
    value: Any = None
    stable: bool = False  # ALTER STABLE


@dataclass(slots=True)
class Block:
    """The rows of one table in an INSERT. ``tbname`` columns mark the super-table form."""

    name: Name | None  # None: a question mark
    using: Name | None = None
    tag_names: list[str] | None = None
    tags: list[Expr] = field(default_factory=list)
    columns: list[str] | None = None
    rows: list[list[Expr]] = field(default_factory=list)


@dataclass(slots=True)
class Insert:
    blocks: list[Block]


@dataclass(slots=True)
class Delete:
    name: Name
    where: Expr | None


@dataclass(slots=True)
class Select:
    columns: list[tuple[Expr, str]]
    table: Name | None = None
    where: Expr | None = None
    group: list[Expr] = field(default_factory=list)
    order: list[tuple[Expr, bool]] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0
    distinct: bool = False
    tags: bool = False


@dataclass(slots=True)
class Use:
    database: str


@dataclass(slots=True)
class Describe:
    name: Name


@dataclass(slots=True)
class Show:
    what: str


class Parser:
    """One statement; what stands behind its end or a semicolon is silently left, as the server does."""

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._tokens = tokens(sql)
        self._at = 0

    def statement(self) -> Any:
        if not self._tokens:
            raise syntax("")
        match self._tokens[0].value.lower():
            case "create":
                return self._create()
            case "drop":
                return self._drop()
            case "alter":
                return self._alter()
            case "insert":
                return self._insert()
            case "delete":
                self._words("delete", "from")
                name = self._name()
                return Delete(name, self._expr() if self._word("where") else None)
            case "select":
                return self._select()
            case "use":
                self._words("use")
                return Use(self._identifier())
            case "describe" | "desc":
                self._at = 1
                return Describe(self._name())
            case "show":
                self._at = 1
                return Show(" ".join(t.value.lower() for t in self._tokens[1:] if t.value != ";"))
            case _:
                raise syntax(self._sql)

    # tokens

    def _peek(self, ahead: int = 0) -> Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else Token("end", "", len(self._sql))

    def _near(self) -> TaosError:
        return syntax(self._sql[self._peek().at :])

    def _word(self, *words: str) -> bool:
        for i, word in enumerate(words):
            token = self._peek(i)
            if token.kind != "name" or token.value.lower() != word:
                return False
        self._at += len(words)
        return True

    def _words(self, *words: str) -> None:
        if not self._word(*words):
            raise self._near()

    def _op(self, sign: str) -> bool:
        if self._peek().kind == "op" and self._peek().value == sign:
            self._at += 1
            return True
        return False

    def _need(self, sign: str) -> None:
        if not self._op(sign):
            raise self._near()

    def _identifier(self) -> str:
        token = self._peek()
        if token.kind not in ("name", "quoted"):
            raise self._near()
        self._at += 1
        return token.value.lower() if token.kind == "name" else token.value

    def _name(self) -> Name:
        first = self._identifier()
        if "." in first:
            raise TaosError(0x2617, "The table name cannot contain '.'")
        if self._op("."):
            second = self._identifier()
            if "." in second:
                raise TaosError(0x2617, "The table name cannot contain '.'")
            return Name(second, first)
        return Name(first)

    def _identifiers(self) -> list[str]:
        self._need("(")
        found = [self._identifier()]
        while self._op(","):
            found.append(self._identifier())
        self._need(")")
        return found

    def _integer(self) -> int:
        token = self._peek()
        if token.kind != "number" or not token.value.isdigit():
            raise self._near()
        self._at += 1
        return int(token.value)

    # definitions

    def _type(self) -> tuple[int, int, int, int]:
        """kind, length, precision, scale"""
        word = self._identifier().upper()
        if self._word("unsigned"):
            word += " UNSIGNED"
        if word not in NUMBERS:
            raise self._near()
        kind = NUMBERS[word]
        length = precision = scale = 0
        if self._op("("):
            length = self._integer()
            if kind == DECIMAL:
                precision, length = length, 0
                scale = self._integer() if self._op(",") else 0
            self._need(")")
        elif kind in SIZED or kind == DECIMAL:
            raise self._near()
        if kind == DECIMAL and precision <= 18:
            kind = DECIMAL64
        return kind, length, precision, scale

    def _column(self) -> Column:
        name = self._identifier()
        kind, length, precision, scale = self._type()
        note = ""
        if self._word("primary", "key") or self._word("composite", "key"):
            if kind not in KEYS:
                raise TaosError(0x2679, "primary key column must be of type int, uint, bigint, ubigint, and varchar")
            note = "COMPOSITE KEY"
        compress, level = self._codec(kind)
        return Column(name, kind, length, precision, scale, note, compress, level)

    def _codec(self, kind: int) -> tuple[str, str]:
        if self._word("encode"):
            self._text()
        compress = self._text().lower() if self._word("compress") else ""
        level = self._text().lower() if self._word("level") else ""
        if compress not in ("", *COMPRESSIONS) or level not in ("", *LEVELS):
            raise TaosError(0x2600, "Invalid compress or level")
        if compress == "tsz" and kind not in (0, FLOAT, DOUBLE):
            raise TaosError(0x2600, "Invalid compress param")
        return compress, LEVELS.get(level, "")

    def _text(self) -> str:
        token = self._peek()
        if token.kind != "text":
            raise self._near()
        self._at += 1
        return token.value

    def _columns(self) -> list[Column]:
        self._need("(")
        found = [self._column()]
        while self._op(","):
            found.append(self._column())
        self._need(")")
        return found

    def _options(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._peek().kind == "name":
            word = self._identifier()
            found[word] = self._setting()
        if self._peek().kind != "end" and not self._op(";"):
            raise self._near()
        return found

    def _setting(self) -> str:
        """The value of an option; of KEEP there may be three."""
        token = self._peek()
        if token.kind not in ("number", "text", "name"):
            raise self._near()
        self._at += 1
        return f"{token.value},{self._setting()}" if token.kind == "number" and self._op(",") else token.value

    def _create(self) -> Create:
        self._words("create")
        what = self._identifier()
        lenient = self._word("if", "not", "exists")
        if what == "database":
            name = self._identifier()
            return Create("database", Name(name), lenient, options=self._options())
        if what not in ("stable", "table"):
            raise self._near()
        lenient = lenient or self._word("if", "not", "exists")
        name = self._name()
        if self._word("using"):
            using = self._name()
            names = self._identifiers() if self._peek().value == "(" else None
            self._words("tags")
            values = self._tuple()
            return Create("child", name, lenient, using=using, values=values, options={"names": ",".join(names or [])})
        columns = self._columns()
        tags = self._columns() if self._word("tags") else []
        return Create("stable" if tags else "table", name, lenient, columns, tags, self._options())

    def _drop(self) -> Drop:
        self._words("drop")
        what = self._identifier()
        lenient = self._word("if", "exists")
        return Drop(what, self._name(), lenient)

    def _alter(self) -> Alter:
        self._words("alter")
        what = self._identifier()
        if what not in ("database", "stable", "table"):
            raise self._near()
        name = self._name()
        if what == "database":
            return Alter(name, "option", value=self._options())
        change = self._alteration(name)
        change.stable = what == "stable"
        if self._peek().kind != "end" and not self._op(";"):
            raise self._near()
        return change

    def _alteration(self, name: Name) -> Alter:
        if self._word("comment"):
            return Alter(name, "comment", value=self._text())
        if self._word("set", "tag"):
            found = []
            while True:
                tag = self._identifier()
                self._need("=")
                found.append((tag, self._value()))
                if not self._op(","):
                    return Alter(name, "set tag", value=found)
        verb, noun = self._identifier(), self._identifier()
        if noun not in ("column", "tag"):
            raise self._near()
        if verb == "rename":
            return Alter(name, f"rename {noun}", Column(self._identifier(), 0), self._identifier())
        if verb not in ("add", "drop", "modify"):
            raise self._near()
        if verb == "drop":
            return Alter(name, f"drop {noun}", Column(self._identifier(), 0))
        if verb == "modify" and noun == "column" and self._peek(1).value.lower() in ("encode", "compress", "level"):
            column = Column(self._identifier(), 0)
            compress, level = self._codec(0)
            return Alter(name, "compress", column, (compress, level))
        return Alter(name, f"{verb} {noun}", self._column())

    # rows

    def _value(self) -> Expr:
        if self._op("?"):
            return ("mark",)
        return self._sum()

    def _tuple(self) -> list[Expr]:
        self._need("(")
        found = [self._value()]
        while self._op(","):
            found.append(self._value())
        self._need(")")
        return found

    def _insert(self) -> Insert:
        self._words("insert", "into")
        blocks = []
        while self._peek().kind != "end" and not self._op(";"):
            block = Block(None if self._op("?") else self._name())
            if self._word("using"):
                block.using = self._name()
                if self._peek().value == "(":
                    block.tag_names = self._identifiers()
                self._words("tags")
                block.tags = self._tuple()
            if self._peek().value == "(":
                block.columns = self._identifiers()
            self._words("values")
            while self._peek().value == "(":
                block.rows.append(self._tuple())
                self._op(",")
            blocks.append(block)
        if not blocks:
            raise self._near()
        return Insert(blocks)

    # queries

    def _select(self) -> Select:
        self._words("select")
        found = Select([])
        found.distinct = self._word("distinct")
        found.tags = self._word("tags")
        while True:
            start = self._peek().at
            expr: Expr = ("star",) if self._op("*") else self._expr()
            label = self._sql[start : self._peek().at].strip().strip("`")
            if self._word("as") or (self._peek().kind in ("name", "quoted") and not self._clause()):
                label = self._identifier()
            elif expr[0] == "col":
                label = expr[1]
            found.columns.append((expr, label))
            if not self._op(","):
                break
        if self._word("from"):
            found.table = self._name()
        if self._word("where"):
            found.where = self._expr()
        if self._word("partition", "by") or self._word("group", "by"):
            found.group = self._list()
        if self._word("order", "by"):
            while True:
                expr = self._expr()
                down = self._word("desc")
                if not down:
                    self._word("asc")
                found.order.append((expr, down))
                if not self._op(","):
                    break
        if self._word("limit"):
            found.limit = self._integer()
            if self._op(","):
                found.offset, found.limit = found.limit, self._integer()
        if self._word("offset"):
            found.offset = self._integer()
        if self._peek().kind != "end" and not self._op(";"):
            raise self._near()
        return found

    def _clause(self) -> bool:
        words = ("from", "where", "group", "partition", "order", "limit", "offset")
        return self._peek().kind == "name" and self._peek().value.lower() in words

    def _list(self) -> list[Expr]:
        found = [self._expr()]
        while self._op(","):
            found.append(self._expr())
        return found

    def _expr(self) -> Expr:
        left = self._and()
        while self._word("or"):
            left = ("op", "or", left, self._and())
        return left

    def _and(self) -> Expr:
        left = self._not()
        while self._word("and"):
            left = ("op", "and", left, self._not())
        return left

    def _not(self) -> Expr:
        return ("not", self._not()) if self._word("not") else self._comparison()

    def _comparison(self) -> Expr:
        left = self._sum()
        for sign in ("=", "<>", "!=", "<=", ">=", "<", ">"):
            if self._op(sign):
                return ("op", "<>" if sign == "!=" else sign, left, self._sum())
        if self._word("is"):
            negated = self._word("not")
            self._words("null")
            return ("not", ("null", left)) if negated else ("null", left)
        negated = self._word("not")
        if self._word("in"):
            self._need("(")
            found: Expr = ("in", left, self._list())
            self._need(")")
        elif self._word("between"):
            low = self._sum()
            self._words("and")
            found = ("op", "and", ("op", ">=", left, low), ("op", "<=", left, self._sum()))
        elif self._word("like"):
            found = ("like", left, self._peek().value)
            self._at += 1
        elif negated:
            raise self._near()
        else:
            return left
        return ("not", found) if negated else found

    def _sum(self) -> Expr:
        left = self._product()
        while True:
            for sign in ("+", "-"):
                if self._op(sign):
                    left = ("op", sign, left, self._product())
                    break
            else:
                return left

    def _product(self) -> Expr:
        left = self._primary()
        while True:
            for sign in ("*", "/", "%"):
                if self._op(sign):
                    left = ("op", sign, left, self._primary())
                    break
            else:
                return left

    def _primary(self) -> Expr:
        if self._op("-"):
            inner = self._primary()
            return ("lit", -inner[1]) if inner[0] == "lit" else ("neg", inner)
        if self._op("+"):
            return self._primary()
        if self._op("("):
            inner = self._expr()
            self._need(")")
            return inner
        if self._op("?"):
            return ("mark",)
        token = self._peek()
        if token.kind == "text":
            self._at += 1
            return ("lit", token.value)
        if token.kind == "number":
            self._at += 1
            if token.value[-1].isalpha():
                return ("lit", ("span", int(token.value[:-1]), token.value[-1]))
            return ("lit", int(token.value) if token.value.isdigit() else float(token.value))
        if token.kind == "name":
            word = token.value.lower()
            if word in ("null", "true", "false"):
                self._at += 1
                return ("lit", {"null": None, "true": True, "false": False}[word])
            if self._peek(1).value == "(" and self._peek(1).kind == "op":
                self._at += 2
                return self._call(word)
        name = self._identifier()
        return ("col", self._identifier() if self._op(".") else name)

    def _call(self, word: str) -> Expr:
        if word == "cast":
            inner = self._expr()
            self._words("as")
            kind, length, _, _ = self._cast_type()
            self._need(")")
            return ("cast", inner, kind, length)
        if self._op("*"):
            self._need(")")
            return ("call", word, [("star",)])
        if self._op(")"):
            return ("call", word, [])
        found = self._list()
        self._need(")")
        return ("call", word, found)

    def _cast_type(self) -> tuple[int, int, int, int]:
        if self._peek().value.upper() in ("VARCHAR", "NCHAR", "BINARY") and self._peek(1).value != "(":
            self._at += 1
            return NUMBERS[self._peek(-1).value.upper()], 64, 0, 0
        return self._type()
