"""Metrics: what is counted, that each is documented, and that rules and dashboard speak of metrics that there are."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bounced import metrics
from bounced.consult import Consult
from bounced.doctor.machine import LONG_LOG
from bounced.http import HttpDoor
from bounced.policy import Policy
from bounced.store import StoreFault
from bounced.store.memory import MemoryStore
from bounced.store.sqlite import LOG_LIMIT
from tests.asking import DEAD, LIVE, ask_for_text, bound, consult_over, http_door, with_dead
from tests.test_intake import DEAD as DEAD_REPORT
from tests.test_intake import House, dsn, recipient

ROOT = Path(__file__).resolve().parents[1]
MONITORING = ROOT / "config" / "monitoring"


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def declared() -> dict[str, tuple[str, frozenset[str]]]:
    """Return every metric of ours: its kind and its labels."""
    found = {}
    for metric in metrics.REGISTRY.collect():
        if metric.name.startswith("bounced_"):
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            found[name] = (metric.type, labels_of(metric.name) | {label for sample in metric.samples for label in sample.labels} - {"le"})
    return found


def labels_of(name: str) -> frozenset[str]:
    collector = metrics.REGISTRY._names_to_collectors.get(name)  # a child without samples shows its labels nowhere else
    return frozenset(collector.labels if isinstance(collector, metrics.Counted) else getattr(collector, "_labelnames", ()))


def undocumented(text: str) -> list[str]:
    """Return the metrics that have no row in `text` with their kind and labels, and rows without a metric."""
    rows = {}
    for name, kind, labels in re.findall(r"^\| `(bounced_\w+)` \| (\w+) \| ([^|]*) ?\|", text, re.MULTILINE):
        rows[name] = (kind, frozenset(re.findall(r"`(\w+)`", labels)))
    ours = declared()
    return sorted(name for name in ours.keys() | rows.keys() if rows.get(name) != ours.get(name))


@pytest.fixture(autouse=True)
def watching(tmp_path: Path) -> Iterator[None]:
    """Measure a database of this test."""
    (tmp_path / "bounced.db").write_bytes(b"x" * 100)
    (tmp_path / "bounced.db-wal").write_bytes(b"x" * 7)
    metrics.watch(tmp_path / "bounced.db", lambda: 3)
    metrics.certificate_ends(1_800_000_000)
    yield
    metrics.certificate_ends(None)


def test_every_metric_is_documented() -> None:
    """docs/METRICS.md has a row for each metric with its kind and labels, and none for others."""
    assert undocumented((ROOT / "docs" / "METRICS.md").read_text()) == []


def test_without_a_certificate_there_is_no_word_of_one() -> None:
    """The end of the certificate is told while there is one; none is not one that ended in 1970."""
    name = "bounced_certificate_ends_timestamp_seconds"
    assert metrics.REGISTRY.get_sample_value(name) == 1_800_000_000
    metrics.certificate_ends(None)
    assert metrics.REGISTRY.get_sample_value(name) is None
    assert name.encode() not in metrics.rendered()


def test_an_undocumented_metric_is_noticed() -> None:
    """The check fails for a text that lacks a metric, and for one that lacks a label."""
    text = (ROOT / "docs" / "METRICS.md").read_text()

    assert undocumented(text.replace("| `bounced_addresses` ", "| `bounced_people` ")) == ["bounced_addresses", "bounced_people"]
    assert undocumented(text.replace("`class`, `reason`, ", "`class`, ")) == ["bounced_bounces_total"]


async def test_a_bounce_is_counted_once(tmp_path: Path) -> None:
    """A bounce counts by class, reason and reader; its copy counts as repeated and as no bounce."""
    house = House(tmp_path)
    bounces = {"class": "hard", "reason": "no-such-user", "source": "rfc3464"}
    before = value("bounced_bounces_total", **bounces)
    taken, repeated = (value("bounced_messages_received_total", result=result) for result in ("bounced", "repeated"))

    signed = house.signed()
    await house.bounce(DEAD_REPORT, signed)
    await house.bounce(DEAD_REPORT, signed)

    assert value("bounced_bounces_total", **bounces) == before + 1
    assert value("bounced_messages_received_total", result="bounced") == taken + 1
    assert value("bounced_messages_received_total", result="repeated") == repeated + 1


async def test_refusals_and_faults_are_counted(tmp_path: Path) -> None:
    """What is refused at RCPT counts by reason, and what cannot be stored as failed."""

    class Broken(MemoryStore):
        async def record(self, event: Any) -> Any:
            raise StoreFault("no room")

    house = House(tmp_path, Broken(Policy()))
    foreign, failed = value("bounced_token_failures_total", why="foreign"), value("bounced_messages_received_total", result="failed")

    house.admit("joe@bounces.example.net")
    with pytest.raises(StoreFault):
        await house.bounce(DEAD_REPORT)

    assert value("bounced_token_failures_total", why="foreign") == foreign + 1
    assert value("bounced_messages_received_total", result="failed") == failed + 1


async def test_no_stranger_names_a_label(tmp_path: Path) -> None:
    """A list that no rule knows counts as other, whatever the text of the bounce calls it."""
    house = House(tmp_path)
    other = value("bounced_blocked_ip_total", list="other")

    await house.bounce(dsn(recipient("joe@example.org", "5.7.1", "554 5.7.1 192.0.2.9 blocked using made-up.evil.example")))

    assert value("bounced_blocked_ip_total", list="other") == other + 1
    assert b"made-up" not in metrics.rendered()


async def test_lookups_are_counted_by_protocol_and_answer(tmp_path: Path) -> None:
    """A question over HTTP counts under its answer."""
    counts = [value("bounced_lookups_total", protocol="http", result=result) for result in ("suppressed", "clear")]
    consult = await with_dead(consult_over(MemoryStore(Policy())))
    async with http_door(consult, tmp_path / "s"):
        for address in (DEAD, LIVE, LIVE):
            await ask_for_text(tmp_path / "s", f"/v1/check?address={address}")

    assert [value("bounced_lookups_total", protocol="http", result=result) for result in ("suppressed", "clear")] == [
        counts[0] + 1,
        counts[1] + 2,
    ]


async def test_files_and_dropped_lines_are_measured_when_asked(tmp_path: Path) -> None:
    """Sizes and the count of dropped lines are those of now; a file that is gone has no value."""
    assert value("bounced_db_bytes") == 100
    assert value("bounced_db_wal_bytes") == 7
    assert value("bounced_log_lines_dropped_total") == 3
    (tmp_path / "bounced.db-wal").unlink()
    assert metrics.REGISTRY.get_sample_value("bounced_db_wal_bytes") is None


async def test_the_socket_for_metrics_serves_nothing_else(tmp_path: Path) -> None:
    """On it /metrics answers, and what would release somebody is not there; on the HTTP socket both are."""
    consult: Consult = consult_over(MemoryStore(Policy()))
    door = HttpDoor(consult)
    await door.listen_for_metrics(bound(tmp_path / "m"))
    await door.listen(bound(tmp_path / "h"))
    try:
        for place in ("m", "h"):
            status, text = await ask_for_text(tmp_path / place, "/metrics")
            assert status == 200
            assert "\nbounced_build_info{" in text
        assert (await ask_for_text(tmp_path / "m", f"/v1/check?address={LIVE}"))[0] == 404
        assert (await ask_for_text(tmp_path / "h", f"/v1/check?address={LIVE}"))[0] == 200
    finally:
        await door.drain(5)


def test_prometheus_has_nothing_against_what_is_told(need_program: Callable[[str], str]) -> None:
    """`promtool check metrics` accepts names, kinds and helps."""
    said = check_metrics(need_program("promtool"), metrics.rendered())
    assert said == ""
    assert check_metrics(need_program("promtool"), b"# TYPE bounced_things counter\nbounced_things 1\n") != ""


def check_metrics(promtool: str, text: bytes) -> str:
    # The process metrics are the library's, and promtool complains of some of their names.
    ours = b"\n".join(line for line in text.split(b"\n") if b"bounced_" in line and b"_created" not in line) + b"\n"
    ran = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True, timeout=60)
    return (ran.stdout + ran.stderr).decode() if ran.returncode else ""


def expressions() -> Iterator[tuple[str, str]]:
    """Give every expression of the alerts and of the dashboard, with its place."""
    for alert, expression in re.findall(
        r"- alert: (\w+)\n +expr: (?:\|\n)?(.*?)\n +(?:for|labels):", (MONITORING / "bounced.rules.yml").read_text(), re.DOTALL
    ):
        yield alert, expression.partition(" #")[0]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$job", "bounced")


def dashboard() -> Any:
    return json.loads((MONITORING / "bounced-dashboard.json").read_text())


def test_rules_load(need_program: Callable[[str], str]) -> None:
    """Prometheus takes the alert rules."""
    ran = subprocess.run(
        [need_program("promtool"), "check", "rules", str(MONITORING / "bounced.rules.yml")], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "11 rules found" in ran.stdout


def test_a_held_log_is_told_before_bounces_are_put_off() -> None:
    """The alert and the doctor warn of a length of the log that is reached: at the store's limit calls are refused, and it stays so."""
    alert = dict(expressions())["BouncedLogHeld"]
    assert alert == f"bounced_db_wal_bytes > {LONG_LOG / 1e6:.0f}e6"
    assert LONG_LOG < LOG_LIMIT


def test_alerts_fire(need_program: Callable[[str], str], tmp_path: Path) -> None:
    """An alert fires when what it warns of happens, and is silent before."""
    (tmp_path / "test.yml").write_text(f"""
rule_files: ["{MONITORING / "bounced.rules.yml"}"]
tests:
  - interval: 1m
    input_series:
      - {{ series: 'up{{job="bounced"}}', values: '1x4 0x20' }}
      - {{ series: 'bounced_messages_received_total{{result="failed"}}', values: '0x10 1+1x20' }}
      - {{ series: 'bounced_lookups_total{{protocol="policy",result="clear"}}', values: '0+100x30' }}
      - {{ series: 'bounced_lookups_total{{protocol="policy",result="trouble"}}', values: '0x5 0+5x25' }}
      - {{ series: 'bounced_incidents_open{{kind="outage"}}', values: '0x5 1x25' }}
      - {{ series: 'bounced_certificate_ends_timestamp_seconds', values: '{15 * 86400}x1600' }}
    alert_rule_test:
      - {{ eval_time: 3m, alertname: BouncedDown }}
      - eval_time: 8m
        alertname: BouncedDown
        exp_alerts:
          - exp_labels: {{ severity: critical, job: bounced }}
            exp_annotations:
              summary: bounced does not answer
              description: Senders keep bounces for days, and mailers get no answers. See `systemctl status bounced`.
      - {{ eval_time: 10m, alertname: BouncedCannotStore }}
      - eval_time: 20m
        alertname: BouncedCannotStore
        exp_alerts:
          - exp_labels: {{ severity: critical, result: failed }}
            exp_annotations:
              summary: bounces cannot be stored, and are put off with 451
              description: The disk is full or broken, or another program holds the database. `bounced doctor` looks.
      - {{ eval_time: 5m, alertname: BouncedLookupsFail }}
      - eval_time: 20m
        alertname: BouncedLookupsFail
        exp_alerts:
          - exp_labels: {{ severity: critical }}
            exp_annotations:
              summary: mailers are told "temporary failure"
              description: More than one question in a hundred cannot be answered. The log tells why (query.failed, query.garbled).
      - {{ eval_time: 4m, alertname: BouncedIncident }}
      - eval_time: 8m
        alertname: BouncedIncident
        exp_alerts:
          - exp_labels: {{ severity: warning, kind: outage }}
            exp_annotations:
              summary: "an incident is open: outage"
              description: "`bounced incidents` tells what to do."
      - {{ eval_time: 20h, alertname: BouncedCertificateExpires }}
      - eval_time: 26h
        alertname: BouncedCertificateExpires
        exp_alerts:
          - exp_labels: {{ severity: warning }}
            exp_annotations:
              summary: the certificate for STARTTLS expires within two weeks
              description: Renew it, then `systemctl reload bounced`, which whatever renews it should do each time.
""")
    ran = subprocess.run([need_program("promtool"), "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_expressions_of_the_dashboard_are_promql(need_program: Callable[[str], str], tmp_path: Path) -> None:
    """Prometheus can read every expression of the dashboard; a broken one is noticed."""
    promtool = need_program("promtool")

    def readable(queries: list[str]) -> bool:
        rules = [{"record": f"r{number}", "expr": query} for number, query in enumerate(queries)]
        (tmp_path / "r.yml").write_text(json.dumps({"groups": [{"name": "r", "rules": rules}]}))  # JSON is YAML
        return subprocess.run([promtool, "check", "rules", str(tmp_path / "r.yml")], capture_output=True, timeout=60).returncode == 0

    queries = [expression for _, expression in expressions()]
    assert len(queries) >= 25
    assert readable(queries)
    assert not readable([*queries, "sum by (class rate(x[5m]))"])


def test_rules_and_dashboard_speak_of_metrics_that_there_are() -> None:
    """Every metric that an alert or a panel names is told, and every metric of ours stands in the dashboard."""
    told = set(declared()) | {"up", "process_resident_memory_bytes"}
    named = {
        re.sub(r"_bucket$", "", name)
        for _, expression in expressions()
        for name in re.findall(r"\b(?:bounced_\w+|process_\w+|up)\b(?=[{\[ ])", re.sub(r'"[^"]*"', '""', expression) + " ")
    }
    assert named <= told
    panels = {name for panel in dashboard()["panels"] for target in panel["targets"] for name in re.findall(r"bounced_\w+", target["expr"])}
    assert {re.sub(r"_bucket$", "", name) for name in panels} - {"bounced"} == set(declared())


def test_the_dashboard_has_the_form_that_grafana_imports() -> None:
    """Panels have places that do not overlap, ids of their own, and ask the data source that is chosen on top."""
    board = dashboard()
    assert board["uid"] == board["title"] == "bounced"
    variables = {variable["name"]: variable["type"] for variable in board["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query"}
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(squares) == len(set(squares))
    assert max(x for x, _ in squares) < 24
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in panels for target in panel["targets"])


def test_stock_is_told() -> None:
    """What the daemon counted lately is what the gauges show."""
    metrics.take_stock(12, {"hard": 3, "soft": 0}, {"outage": 1})
    assert value("bounced_addresses") == 12
    assert value("bounced_suppressions", **{"class": "hard"}) == 3
    assert value("bounced_incidents_open", kind="outage") == 1
