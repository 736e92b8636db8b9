"""Settings of tracing: to whom spans are sent, and how many of them. Keys are Dragonfly's.

The same section stands in every program that traces. It connects to nobody.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from odonata.settings.section import Section
from odonata.settings.value import HostPort

Ratio = Annotated[float, Field(ge=0, le=1)]
UrlPath = Annotated[str, Field(pattern=r"^/\S*$")]

Protocol = Literal["grpc", "http", "https"]
_EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)


class TracingSettings(Section):
    """Where spans go, by OTLP. Jaeger, Tempo and the OpenTelemetry collector take them."""

    protocol: Annotated[Protocol | None, _EMPTY_IS_NONE] = None
    """"grpc" (collectors listen on port 4317), "http" or "https" (4318). With "grpc" the connection
    is plain."""
    endpoint: Annotated[HostPort | None, _EMPTY_IS_NONE] = None
    """The collector's host:port. None: nothing is traced. Dragonfly's default."""
    path: UrlPath = "/v1/traces"
    """Of the collector's URL, for "http" and "https". Dragonfly's default, and OTLP's."""
    service_name: str = ""
    """What the program is called in traces (`service-name` in Dragonfly's files). "":
    odonata-scheduler, odonata-daemon."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with each export: credentials of the collector."""
    sampling_ratio: Ratio = 1.0
    """Share of the traces that begin here and are recorded. One that began elsewhere is recorded if
    its beginner says so. All, as in Dragonfly; lower it on a busy swarm."""

    @model_validator(mode="after")
    def _an_endpoint_needs_a_protocol(self) -> Self:
        if self.endpoint is not None and self.protocol is None:
            raise ValueError(
                f"tracing.endpoint is {self.endpoint}, but tracing.protocol is not set: say grpc "
                "(port 4317, as a rule), http or https (4318)"
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether there is a collector."""
        return self.endpoint is not None

    def header(self) -> dict[str, str]:
        """The headers in plain text, for the request itself; never for a log."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}
