"""`ecotone traces`: requests as OpenTelemetry traces to a collector."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from ecotone.cli.client import note


def traces(
    data: Annotated[Path | None, typer.Option(help="Data folder (ECOTONE_DATA), default ./data")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Collector (ECOTONE_OTLP_ENDPOINT), OTLP over HTTP")] = None,
    share: Annotated[float | None, typer.Option(help="Share of requests, 0 to 1 (ECOTONE_TRACES_SHARE)")] = None,
) -> None:
    """Send requests as OpenTelemetry traces, until stopped.

    `ecotone up` does it by itself where ECOTONE_OTLP_ENDPOINT is set; this is for a gateway that runs alone.
    """
    import os

    from ecotone.app.tracing import Exporter, alone
    from ecotone.settings import Settings, with_file

    settings = Settings.from_environment(
        with_file(os.environ, data), data=data, otlp_endpoint=endpoint, traces_share=share
    )
    exporter = Exporter(settings)

    def stop(_number: int, _frame: Any) -> None:
        exporter.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with alone(settings.data):
        note(f"sending a share of {settings.traces_share:g} of the requests to {settings.otlp_endpoint}")
        exporter.run()
    note(f"{exporter.sent} spans were sent, {exporter.refused} refused")


def add_to(app: typer.Typer) -> None:
    app.command()(traces)
