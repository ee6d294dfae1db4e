"""What a table file says beside its tables: servers, monitoring, maintenance, quality rules, alerts."""

from __future__ import annotations

import subprocess
import sys
from datetime import time
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.document import AlertRule, Document, QualityRules, Task
from mystocks_ingest.schema.tables import load

ROOT = Path(__file__).parents[2]
WHOLE = """\
version: '2.0'
metadata: {project: MyStocks, created: 2025-09-21, stores: [TDengine, Redis]}
databases:
  postgresql:
    host: '${POSTGRESQL_HOST:localhost}'
    port: 5432
    user: '${POSTGRESQL_USER}'
    password: '${POSTGRESQL_PASSWORD:s3cret-default}'
    pool_size: 15
  redis: {host: nas, password: 'pla1n-secret', db: '${REDIS_DB:1}'}
  mysql: {host: nas, password: '${MYSQL_PASSWORD:}'}
monitoring:
  enable: true
  monitor_database: db_monitor
  log_retention_days: 30
  alert_channels:
    - {type: email, recipients: [a@b.cn]}
    - {type: webhook, url: 'https://h00k/secret'}
maintenance:
  auto_create_tables: true
  safe_mode: true
  daily_tasks:
    - {name: cleanup, time: 4:30, enabled: false}
  weekly_tasks:
    - {name: validate, day: sunday, time: '05:00'}
  backup: {enable: true, schedule: '0 2 * * *', retention_days: 7, backup_path: /backup}
data_quality_rules:
  completeness: {threshold: 0.95, required_columns: [symbol]}
  freshness: {daily_data_hours: 24, realtime_data_minutes: 5}
  accuracy: {price_range: {min: 0, max: 10000}, volume_range: {min: 0}}
  consistency: {ohlc_check: true}
alert_rules:
  data_freshness: {threshold: 24, unit: hours, action: send_email_alert}
  error_rate: {threshold: 0.05, unit: ratio}
tables: []
"""


def document(folder: Path, text: str) -> Document:
    path = folder / "tables.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path).document


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        document(folder, text)
    return str(caught.value)


def test_every_block_becomes_plain_typed_values(tmp_path: Path) -> None:
    said = document(tmp_path, WHOLE)
    assert said.version == "2.0"
    assert dict(said.metadata) == {"project": "MyStocks", "created": "2025-09-21", "stores": ("TDengine", "Redis")}
    assert said.maintenance.create_tables is True
    assert dict(said.maintenance.options) == {"safe_mode": True}
    assert said.maintenance.tasks == (
        Task("cleanup", enabled=False, at=time(4, 30)),
        Task("validate", at=time(5), weekday=6),
        Task("backup", cron="0 2 * * *", options=(("retention_days", 7), ("backup_path", "/backup"))),
    )
    ranges = (("price", 0, 10000), ("volume", 0, None))
    assert said.data_quality_rules == QualityRules(0.95, ("symbol",), 24, 5, ranges, ohlc_check=True)
    assert said.alert_rules == (
        AlertRule("data_freshness", 24, "hours", "send_email_alert"),
        AlertRule("error_rate", 0.05, "ratio"),
    )
    assert (said.monitoring.database, said.monitoring.retention_days) == ("db_monitor", (("", 30),))
    assert [c.kind for c in said.monitoring.channels] == ["email", "webhook"]


def test_a_file_of_tables_alone_has_an_empty_document(tmp_path: Path) -> None:
    assert document(tmp_path, "tables: []\n") == Document()


def test_places_are_filled_from_the_environment_with_their_defaults(tmp_path: Path) -> None:
    said = document(tmp_path, WHOLE)
    server, mysql = said.database("postgresql"), said.database("mysql")
    assert server is not None
    assert mysql is not None
    assert server.host is not None
    assert server.host.resolved({}) == "localhost"
    assert server.host.resolved({"POSTGRESQL_HOST": "nas"}) == "nas"
    assert server.user is not None
    assert server.user.resolved({}) is None  # not set, and no default
    assert mysql.password is not None
    assert mysql.password.resolved({}) == ""  # an empty default is one
    assert dict(server.options) == {"pool_size": 15}


def test_no_secret_is_shown_in_a_value_or_in_a_complaint(tmp_path: Path) -> None:
    shown = repr(document(tmp_path, WHOLE))
    for secret in ("s3cret-default", "pla1n-secret", "h00k"):
        assert secret not in shown
    wrong = WHOLE.replace("'pla1n-secret'", "['pla1n-secret']").replace("s3cret-default}", "s3cret-default")
    said = complaint(tmp_path, wrong)
    assert ":8:15: `password`" in said
    assert ":10:32: `password`" in said
    assert "pla1n" not in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("good", "bad", "where", "says"),
    [
        ("port: 5432", "port: 99999", "6:11", "no port"),
        ("redis: {", "reddis: {", "10:3", "unknown database 'reddis'; known: mysql"),
        ("log_retention_days: 30", "log_retention_days: 0", "15:23", "greater than 0"),
        ("{type: email,", "{tipe: email,", "17:8", "unknown entry `tipe`, is `type` meant?; known: type, recip"),
        ("time: 4:30", "time: 24:30", "23:29", "no time of day"),
        ("day: sunday", "day: funday", "25:29", "no day of the week"),
        ("'0 2 * * *'", "'0 2 * *'", "26:36", "five fields"),
        ("'0 2 * * *'", "'0 25 * * *'", "26:36", "'25' in the cron expression"),
        ("threshold: 0.95", "threshold: 95", "28:29", "less than or equal to 1"),
        ("{min: 0, max: 10000}", "{min: 9, max: 1}", "30:27", "is more than the greatest"),
        ("threshold: 24, ", "", "33:19", "`threshold` is missing"),
        ("unit: ratio", "unit: percents", "34:39", "`unit`"),
        ("0.05, unit: ratio", "5, unit: ratio", "34:15", "at most 1"),
        ("safe_mode: true", "safe_mode: [{a: 1}]", "21:14", "must stand here"),
        ("version:", "versoin:", "1:1", "unknown entry 'versoin'"),
    ],
)
def test_a_mistake_in_a_block_is_reported_with_its_place(
    tmp_path: Path, good: str, bad: str, where: str, says: str
) -> None:
    said = complaint(tmp_path, WHOLE.replace(good, bad, 1))
    assert f"tables.yaml:{where}: " in said
    assert says in said
    assert "\n" not in said


def test_the_values_are_imported_without_pydantic_and_yaml() -> None:
    code = "import sys, mystocks_ingest.schema.document; sys.exit(bool({'pydantic', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
