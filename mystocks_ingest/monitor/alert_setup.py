"""What is to be alerted about and where to, as the settings and the table file say."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mystocks_ingest.monitor.alert_rules import Rule, rules
from mystocks_ingest.monitor.channels import Channel, channels
from mystocks_ingest.schema.document.values import Document
from mystocks_ingest.settings import Settings


@dataclass(frozen=True, slots=True)
class AlertSetup:
    """``remarks``: one sentence for each entry of the file that can never alert anybody."""

    rules: tuple[Rule, ...]
    channels: tuple[Channel, ...]
    remarks: tuple[str, ...]


def alert_setup(settings: Settings, document: Document) -> AlertSetup:
    """Raises ConfigError for an address that is none."""
    urls = settings.alert_urls.get_secret_value() if settings.alert_urls is not None else ""
    found = tuple(channels(urls, document.monitoring.channels, environment=os.environ))
    if not document.monitoring.enabled:
        return AlertSetup((), found, ("monitoring: enabled is false in the table file, so nothing alerts",))
    in_force, remarks = rules(document.alert_rules)
    return AlertSetup(in_force, found, remarks)
