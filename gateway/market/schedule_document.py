"""The settled trade as the market writes it: a Schedule_MarketDocument in JSON.

Source: IEC 62325-451-2 (CIM European style market profile), dotted names. ``in_Domain`` is the
buyer's, receiving feeder; ``out_Domain`` the seller's, delivering feeder. Numbers are integers
or decimal strings, instants are UTC. ``docs/trade-document.md`` explains every field.

This module is the door; reading and writing stand in modules of their own.
"""

from gateway.market.schedule_model import Document, Series
from gateway.market.schedule_reader import claimed, parse, read
from gateway.market.schedule_writer import write, write_document

__all__ = ["Document", "Series", "claimed", "parse", "read", "write", "write_document"]
