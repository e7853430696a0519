"""Root at work in the folders of the service makes nothing that the service cannot replace."""

from ledger.log.owner import as_owner, owner_of

__all__ = ["as_owner", "owner_of"]
