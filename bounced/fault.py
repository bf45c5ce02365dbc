"""Whose fault an error is, and so what a door answers.

For: every error that a door must turn into a reply or an exit code. Never: errors that stay inside one module.
"""


class Fault(Exception):
    """An error whose owner is known."""


class PeerFault(Fault):
    """The other side did wrong; repeating the same will not help. Answered 5xx on SMTP, 4xx on HTTP."""


class OwnFault(Fault):
    """We could not do our part; the peer should try again. Answered 4xx on SMTP, 503 on HTTP, "temporary" on sockets."""


class OperatorFault(Fault):
    """The installation is wrong and cannot be served until somebody mends it: exit code 78 (sysexits EX_CONFIG).

    `hint` is the next step for the operator, one sentence.
    """

    def __init__(self, problem: str, hint: str) -> None:
        """Say what is wrong and where (`problem`), and what to do next (`hint`)."""
        super().__init__(problem)
        self.hint = hint
