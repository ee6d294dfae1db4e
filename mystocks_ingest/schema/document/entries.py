"""What may stand in ``tables:``: types and spellings. What makes sense together is the business of ``checks``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from mystocks_ingest.schema.document.fields import SHORT, Name, Names, Span, Text, text
from mystocks_ingest.schema.document.places import SPELLINGS
from mystocks_ingest.schema.document.values import VARIABLE, Template
from mystocks_ingest.schema.keyspace import Kind
from mystocks_ingest.schema.tables import Database, Route


def _word(value: object) -> object:
    return " ".join(value.split()) if isinstance(value, str) else value


def _database(value: object) -> object:
    known = {d.value.lower(): d.value for d in Database} | {"postgres": "PostgreSQL", "timescaledb": "PostgreSQL"}
    return known.get(value.lower(), value) if isinstance(value, str) else value


def _filled(value: object, info: ValidationInfo) -> object:
    """``${NAME}`` in a name is filled at once: the name belongs to the structure."""
    given = text(value)
    if not isinstance(given, str) or "${" not in given:
        return given
    filled = Template(given).resolved((info.context or {}).get("environment", {}))
    if filled is None or VARIABLE.search(filled):
        raise ValueError(
            f"an environment variable of {given!r} is not set: set it, or give a default, ${{NAME:default}}"
        )
    return filled


def _flagged(value: object) -> object:
    """``true``, ``zstd`` or a mapping."""
    if isinstance(value, bool):
        return {"enabled": value}
    return {"codec": value} if isinstance(value, str) else value


def _indexed(value: object) -> object:
    """A text, a list of columns, or a mapping."""
    return {"columns": value} if isinstance(value, str | list) else value


@dataclass(frozen=True, eq=False)
class _Or:
    """For editors: the entry may be written in one of these short forms too."""

    short: tuple[Mapping[str, Any], ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(core), *(dict(form) for form in self.short)]}


_Codec = Annotated[str, BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)]


class Entry(BaseModel):
    """A mapping of the file. ``spellings`` names the entries that have other words in ``places.SPELLINGS``."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    spellings: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With the other spellings, which an editor must not take for mistakes."""
        reference = handler(core)
        found = handler.resolve_ref_schema(reference)
        for word in cls.spellings:
            for other in SPELLINGS[word]:
                found["properties"].setdefault(other, found["properties"][word])
        return reference

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, value: object) -> object:
        if not isinstance(value, dict) or not cls.spellings:
            return value
        renamed = dict(value)
        for word in cls.spellings:
            for other in SPELLINGS[word]:
                if other in renamed and other not in cls.model_fields:
                    if word in renamed:
                        raise ValueError(f"`{other}` and `{word}` say the same: keep one of them")
                    renamed[word] = renamed.pop(other)
        return renamed


class ColumnEntry(Entry):
    """A column, or a tag of ``tags``."""

    spellings = ("auto_increment",)

    name: Name
    type: Annotated[str, BeforeValidator(_word), WithJsonSchema(SHORT)]
    length: PositiveInt | None = None
    precision: PositiveInt | None = None
    scale: Annotated[int, "digits after the point"] | None = None
    nullable: bool | None = None
    default: Any = None
    primary_key: bool = False
    is_tag: bool = False
    auto_increment: bool = False
    unsigned: bool = False
    unique: bool = False
    index: bool = False
    on_update: str | bool | None = None
    values: tuple[Text, ...] = ()
    comment: Text = ""
    description: Text = ""
    encoding: str | None = None


class IndexEntry(Entry):
    """An index: ``columns`` read ``trade_date`` or ``trade_date DESC``."""

    columns: Names
    name: Name | None = None
    unique: bool = False
    primary_key: bool = False
    type: str | None = None
    comment: Text = ""
    description: Text = ""


class CompressionEntry(Entry):
    """How old rows are compressed; segments and order are TimescaleDB's, codec and level TDengine's."""

    spellings = ("enabled", "compress_after", "segment_by", "order_by", "level")

    enabled: bool = True
    compress_after: Span | None = None
    segment_by: Names = ()
    order_by: Names = ()
    codec: _Codec | None = None
    level: _Codec | None = None


Compression = Annotated[
    CompressionEntry, BeforeValidator(_flagged), _Or(({"type": "boolean"}, {"type": "string", "minLength": 1}))
]


class TimescaleEntry(Entry):
    """What TimescaleDB is to do with the table."""

    spellings = (
        *("enabled", "time_column", "chunk_interval"),
        *("compress_after", "segment_by", "order_by", "retention_days"),
    )

    enabled: bool = True
    is_hypertable: bool = True
    time_column: str | None = None
    chunk_interval: Span | None = None
    compression: Compression | None = None
    compress: bool | None = None
    compress_after: Span | None = None
    segment_by: Names = ()
    order_by: Names = ()
    retention_days: Span | None = None


class TdengineEntry(Entry):
    """What TDengine is to do with the table."""

    spellings = ("retention_days", "level")

    is_super_table: bool = True
    tags: tuple[ColumnEntry, ...] = ()
    retention_days: Span | None = None
    compression: Compression | None = None
    level: _Codec | None = None


class RedisEntry(Entry):
    """Where a Redis table's rows lie; see KeySpace."""

    pattern: Annotated[str, StringConstraints(min_length=1)]
    kind: Kind = Kind.HASH
    expire_seconds: NonNegativeInt | None = None
    channel: str | None = None
    stream: str | None = None
    stream_length: PositiveInt = 10_000


_SHORT_INDEX = ({"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1})
_KINDS = [*(d.value for d in Database), *(d.value.lower() for d in Database), "postgres", "timescaledb"]


class TableEntry(Entry):
    """A table."""

    spellings = ("key", "timescaledb", "tdengine", "classification", "retention_days", "chunk_interval")

    database_type: Annotated[Database, BeforeValidator(_database), WithJsonSchema({"enum": _KINDS})]
    database_name: Annotated[str, BeforeValidator(_filled), WithJsonSchema({"type": ["string", "integer"]})]
    table_name: Name
    columns: Annotated[tuple[ColumnEntry, ...], "at least one"]
    tags: tuple[ColumnEntry, ...] = ()
    dataset: str | None = None
    key: tuple[str, ...] | None = None
    newest_by: Names | None = None
    route: Route = Route.REQUIRED
    time_column: str | None = None
    is_super_table: bool | None = None
    is_timescale_hypertable: bool | None = None
    indexes: tuple[Annotated[IndexEntry, BeforeValidator(_indexed), _Or(_SHORT_INDEX)], ...] = ()
    timescaledb: TimescaleEntry | None = None
    tdengine: TdengineEntry | None = None
    compression: Compression | None = None
    chunk_interval: Span | None = None
    retention_days: Span | None = None
    redis: RedisEntry | None = None
    engine: str | None = None
    charset: str | None = None
    collation: str | None = None
    classification: str | None = None
    comment: Text = ""
    description: Text = Field("", description="in place of `comment`")
