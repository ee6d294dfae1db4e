"""Desired tables: the YAML file, its types, and the routes from dataset to table. Pure."""
