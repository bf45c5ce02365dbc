"""Telling the operator of an incident: one line of the log when it opens, one when it closes.

For: whoever recorded what turned it. Never: a line for each bounce, or a stranger's text as the name of an event.
"""

from collections.abc import Iterable

import structlog

from bounced.incident import Incident, advice


def tell(turned: Iterable[Incident]) -> None:
    """Log each incident that just opened or closed."""
    for incident in turned:
        words: dict[str, str | int | None] = {
            "id": incident.id,
            "kind": incident.kind.value,
            "subject": incident.subject,
            "count": incident.count,
        }
        words |= {"sample": incident.sample, "delisting": incident.delisting, "advice": advice(incident.kind)}
        log = structlog.get_logger("alarm")
        if incident.closed_at is None:
            log.warning("incident.opened", **words)
        else:
            log.info("incident.closed", **words)
