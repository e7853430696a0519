"""Local signed ledger, its contracts and its network; an auditor runs it without the gateway."""
