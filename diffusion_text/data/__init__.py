"""Corpora as LightningDataModules."""
