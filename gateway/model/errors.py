"""Error tree: values and limits travel in attributes; the command line prints them."""

from __future__ import annotations


class GatewayError(Exception):
    """Anything the gateway raises on purpose."""

    retryable = False


class ConfigError(GatewayError):
    """A file a person wrote is wrong; nothing was loaded."""


class ContractError(GatewayError):
    """The market sent something outside its contract."""


class DeviceError(GatewayError):
    """A device did not do as asked; ``device`` and ``what`` say which and how."""

    def __init__(self, device: str, what: str) -> None:
        super().__init__(f"{device}: {what}")
        self.device = device
        self.what = what


class DeviceNotSent(DeviceError):  # noqa: N818 - the four outcomes are words of the design
    """The request never left; nothing can have happened."""

    retryable = True


class DeviceRefused(DeviceError):  # noqa: N818
    """The device answered no; ``code`` is its exception or acknowledgement code."""

    def __init__(self, device: str, what: str, code: int) -> None:
        super().__init__(device, what)
        self.code = code


class OutcomeUnknown(DeviceError):  # noqa: N818
    """The request left, no answer came, it may have been carried out: read back, never repeat."""


class BadAnswer(DeviceError):  # noqa: N818
    """An answer came that does not belong to the request; the connection was dropped."""


class JournalError(GatewayError):
    """The ledger cannot be written or does not check: the gateway stops."""
