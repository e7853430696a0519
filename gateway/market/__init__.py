"""Settled trades in, acknowledgements and deliveries out."""
