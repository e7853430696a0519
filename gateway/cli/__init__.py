"""Command groups of sopgw, one file each, imported only when used."""
