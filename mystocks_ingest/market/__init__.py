"""The market itself, pure: symbols, datasets, calendar, checks. No IO, no clock, no driver."""
