"""Backups: the database, the stored files and MLflow in one archive that is verified before anything is restored.

The database is dumped from one snapshot, while jobs go on. Stored files are written before the row that names them and
never change, so those that are there after the snapshot hold all that it names.
"""
