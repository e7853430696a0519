"""How a broker is reached: the same words wherever the site file names one."""

from __future__ import annotations

from gateway.config.secret_shape import Secret
from gateway.config.shape import Shape, described
from gateway.config.site_words import BrokerUrl, Title


class BrokerShape(Shape):
    """An MQTT broker and how we prove to each other who we are."""

    broker: BrokerUrl = described(
        "MQTT broker", trust="engineer", example="mqtts://broker.example:8883"
    )
    username: Title | None = described("Name at the broker", trust="engineer", default=None)
    password: Secret | None = described(
        "Where the password at the broker lies",
        trust="engineer",
        default=None,
        example="{secret: mqtt_password}",
    )
    ca: str | None = described(
        "Certificates that may sign the broker's; the system's when left out",
        trust="engineer",
        default=None,
    )
    certificate: str | None = described(
        "Our certificate for the broker, PEM", trust="secadm", default=None
    )
    key: Secret | None = described("Where its private key lies", trust="secadm", default=None)
