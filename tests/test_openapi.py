"""The OpenAPI document against the door that it describes: schemathesis asks whatever the document allows, and what it does not."""

import asyncio

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup
from starlette.applications import Starlette

from bounced.http import HttpDoor
from tests.asking import consult_over, with_dead


def described() -> Starlette:
    """The application behind the door, with one address on the list."""
    return HttpDoor(asyncio.run(with_dead(consult_over()))).app


# The library does not count 413 among refusals: a list of a thousand long addresses is too long as a body first.
_REFUSED = {"checks": {"negative_data_rejection": {"expected-statuses": ["400", "404", "405", "413"]}}}
schema = schemathesis.openapi.from_asgi("/openapi.json", described(), config=schemathesis.Config.from_dict(_REFUSED))


@schema.include(path_regex="^/v1/(?!backup)").parametrize()
@settings(max_examples=8, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
def test_every_answer_is_described(case: schemathesis.Case) -> None:
    """Whatever is asked, well or badly, the answer has a status, a content type and a form that the document names; never a 500."""
    if case.query.get("wait"):
        case.query["wait"] = 0  # nothing will happen
    # To the document an address is any text; what is no mailbox is refused though it fits.
    case.call_and_validate(excluded_checks=[CHECKS.get_one("positive_data_acceptance")])


def test_an_answer_that_is_not_described_is_found_out() -> None:
    """Control: a document that promises another type is contradicted by the answer."""
    document = schema.raw_schema
    wrong = {**document, "components": {"schemas": {**document["components"]["schemas"], "Health": {"type": "array"}}}}
    lying = schemathesis.openapi.from_dict(wrong)
    lying.app = described()
    case = lying["/v1/health"]["GET"].Case()
    with pytest.raises(FailureGroup):
        case.call_and_validate()
