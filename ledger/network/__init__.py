"""Ordering of blocks between gateways, countersignatures, witnesses."""
