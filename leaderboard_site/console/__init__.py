"""The console: the Django admin with a status page and actions that are looked at before they are done."""
