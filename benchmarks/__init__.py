"""How fast the site is, beside a reference peer and the machine's own floors (docs/performance.md)."""
