"""What only the taking of bounces needs of the files that the configuration names: the rules and the certificate.

For: the daemon, at its start and at each reload, and the commands that judge or check without it. Never: the configuration itself.
"""

from bounced.fault import OperatorFault
from bounced.outcome.rows import RuleError
from bounced.outcome.ruleset import RuleSet
from bounced.settings import Config
from bounced.smtp.certificate import Certificate
from bounced.smtp.certificate import load as load_certificate


def certificate_of(config: Config) -> Certificate | None:
    """Return the certificate for STARTTLS, if there is to be one. Raises OperatorFault."""
    settings = config.smtp
    return load_certificate(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None


def rules_of(config: Config) -> RuleSet:
    """Return the rules that come with us, with the operator's own rows over them. Raises OperatorFault."""
    rules = RuleSet.builtin()
    directory = config.rules.directory
    if directory is None:
        return rules
    try:
        # glob() finds nothing where there is no directory, or none that may be read: rules would be missed in silence.
        return rules.with_rules({path.name: path.read_text("utf-8") for path in sorted(directory.iterdir()) if path.suffix == ".toml"})
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the rules in {directory}: {error}",
            "Check rules.directory, and whether the daemon's user may read it; empty it for our rules alone.",
        ) from error
    except RuleError as error:
        raise OperatorFault(str(error), f"mend the rows in {directory}") from error
