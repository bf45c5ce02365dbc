"""From the configuration to the policy that every event is judged by."""

from pathlib import Path

from bounced.config import load, policy_of
from bounced.outcome import Category
from bounced.policy import Effect, Policy, Treatment

_GOOD = '[return_path]\ndomains = ["bounces.example.net"]\nscopes = ["default", "resets"]\n'


def _policy(directory: Path, text: str) -> Policy:
    file = directory / "bounced.toml"
    file.write_text(_GOOD + text)
    return policy_of(load(file))


def test_without_a_word_it_is_the_policy_itself(tmp_path: Path) -> None:
    """The defaults of the configuration are those of the policy."""
    assert _policy(tmp_path, "") == Policy()


def test_every_setting_arrives(tmp_path: Path) -> None:
    """Each setting of [policy] and [category] is that of the policy; a threshold that is left out is the soft limit."""
    text = """
        [policy]
        soft_limit = 3
        silence = "5d"
        pass_complaints = ["resets"]
        outage_guard = false
        outage_least = 100
        [category.mailbox-full]
        expiry = "90d"
        growth = 2
        [category]
        network = { action = "tell" }
        complaint = { action = "block", expiry = "365d" }
        expired = { threshold = 9 }
        moved = { action = "block" }
    """
    assert _policy(tmp_path, text) == Policy(
        soft_limit=3,
        silence=5 * 86400,
        pass_complaints=frozenset({"resets"}),
        outage_guard=False,
        outage_least=100,
        categories={
            Category.MAILBOX_FULL: Treatment(action=Effect.STRIKE, threshold=3, expiry=90 * 86400, growth=2),
            Category.NETWORK: Treatment(action=Effect.TELL, threshold=3),
            Category.COMPLAINT: Treatment(action=Effect.BLOCK, threshold=3, expiry=365 * 86400),
            Category.EXPIRED: Treatment(action=Effect.STRIKE, threshold=9),
        },
    )
