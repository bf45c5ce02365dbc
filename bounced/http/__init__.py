"""The door at which people's commands and mailers of every language ask: JSON over HTTP.

For: `operations.py`, the table of what is offered; `words.py`, questions and answers; `door.py`, which listens. Never: another door.
"""

from bounced.http.door import HttpDoor, openapi
from bounced.http.operations import OPERATIONS

__all__ = ["OPERATIONS", "HttpDoor", "openapi"]
