"""The configuration: what it means, what is told of a broken one, and that the texts about it are those of the schema."""

import os
import re
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced import config
from bounced.config import load, settings
from bounced.fault import OperatorFault
from bounced.policy import Effect
from bounced.settings import CATEGORIES, Config, Endpoint, Treated

_ROOT = Path(__file__).parents[1]
_GOOD = '[return_path]\ndomains = ["bounces.example.net"]\n'


def _load(directory: Path, text: str | bytes, **more: str) -> Config:
    """Load `text` as bounced.toml, with `more` files in conf.d."""
    file = directory / "bounced.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, content in more.items():
        (directory / "conf.d").mkdir(exist_ok=True)
        (directory / "conf.d" / f"{name}.toml").write_text(content)
    return load(file)


def _problems(directory: Path, text: str | bytes, **more: str) -> list[str]:
    with pytest.raises(OperatorFault) as caught:
        _load(directory, text, **more)
    assert "bounced config reference" in caught.value.hint
    return str(caught.value).replace(f"{directory}/", "").split("\n")


def test_least_configuration_has_the_defaults(tmp_path: Path) -> None:
    """With the domain alone, everything else is as the reference says."""
    found = _load(tmp_path, _GOOD)
    assert found.return_path.domains == ("bounces.example.net",)
    assert found.return_path.scopes == ("default",)
    assert found.return_path.max_age == 30 * 86400
    assert found.smtp.listen == (Endpoint("0.0.0.0", 25), Endpoint("::", 25))
    assert found.smtp.max_message == 10 * 1024 * 1024
    assert found.lmtp.socket is None
    assert found.query.socketmap == Path("/run/bounced/socketmap.sock")
    assert found.query.socket_mode == 0o660
    assert found.store.database == Path("/var/lib/bounced/bounced.db")
    assert found.policy.soft_limit == 5
    assert config.show(found, only_changed=True) == 'return_path.domains = ["bounces.example.net"]\n'


def test_every_setting_is_read(tmp_path: Path) -> None:
    """Each setting of the schema takes effect; paths begin at the file's directory, empty ones turn off."""
    text = """
        [return_path]
        domains = ["Bounces.Example.NET", "b\\u00fccher.example"]
        scopes = ["news", "receipts"]
        key_file = "keys"
        max_age = "12h"
        unsigned = ["Bounce+", "list-"]
        [smtp]
        listen = ["127.0.0.1:2525", "[2001:DB8::0:1]:25"]
        hostname = "mx.example.net"
        max_message = "65536B"
        tls_certificate = "mx.pem"
        tls_key = "mx.key"
        proxy_from = ["192.0.2.7", "2001:DB8::/32"]
        min_free = "0B"
        [lmtp]
        socket = "../run/lmtp.sock"
        [query]
        socketmap = ""
        policy = "p.sock"
        line = "/l.sock"
        milter = "/m.sock"
        milter_signs = true
        http = "h.sock"
        writer = "w.sock"
        text = "no mail for you: {cause}"
        socket_mode = "0666"
        socket_group = "mail"
        [metrics]
        listen = ["127.0.0.1:9825"]
        [store]
        database = "d.db"
        [policy]
        soft_limit = 3
        silence = "5d"
        pass_complaints = ["receipts"]
        outage_guard = false
        outage_least = 100
        [feedback]
        mailboxes = ["fbl"]
        trusted = ["192.0.2.0/24", "2001:db8::1"]
        [kept]
        postmaster = "pm"
        unread = "ur"
        quota = "1GiB"
        archive = "ar"
        archive_quota = "2GiB"
        retention = "5d"
        [ours]
        hosts = ["Mail.Example.NET", "2001:DB8::0:1"]
        domains = ["example.net"]
        [rules]
        directory = "rules.d"
        [log]
        format = "json"
        level = "debug"
        addresses = "hashed"
        [category]
    """ + "".join(f'{name} = {{ action = "ignore" }}\n' for name in CATEGORIES)
    found = _load(tmp_path, text)
    shown = config.show(found, only_changed=True)
    assert shown.count("\n") == len(settings())
    assert found.return_path.domains == ("bounces.example.net", "xn--bcher-kva.example")
    assert found.return_path.key_file == tmp_path / "keys"
    assert found.return_path.max_age == 12 * 3600
    assert found.smtp.listen == (Endpoint("127.0.0.1", 2525), Endpoint("2001:db8::1", 25))
    assert (found.smtp.tls_certificate, found.smtp.tls_key) == (tmp_path / "mx.pem", tmp_path / "mx.key")
    assert found.smtp.proxy_from == (IPv4Network("192.0.2.7/32"), IPv6Network("2001:db8::/32"))
    assert found.smtp.min_free == 0
    assert found.lmtp.socket == tmp_path.parent / "run" / "lmtp.sock"
    assert (found.query.socketmap, found.query.line) == (None, Path("/l.sock"))
    assert (found.query.milter, found.query.milter_signs) == (Path("/m.sock"), True)
    assert (found.query.socket_mode, found.query.socket_group) == (0o666, "mail")
    assert found.kept.quota == 1 << 30
    assert (found.policy.silence, found.policy.pass_complaints, found.policy.outage_least) == (5 * 86400, ("receipts",), 100)
    assert not found.policy.outage_guard
    assert set(found.category.values()) == {Treated(action=Effect.IGNORE)}
    assert found.ours.hosts == ("mail.example.net", "2001:db8::1")
    assert found.ours.domains == ("example.net",)
    assert found.rules.directory == tmp_path / "rules.d"
    assert (found.log.format, found.log.level, found.log.addresses) == ("json", "debug", "hashed")
    assert _load(tmp_path, shown) == found


def test_schema_test_above_is_whole() -> None:
    """Each setting has a sentence, and a default that reads back as itself unless it must be given."""
    for path, setting in settings().items():
        assert re.fullmatch(r"[^\n]+\.", setting.says), path
        if setting.default is None:
            assert path == "return_path.domains"
            continue
        value = setting.kind.read(tomllib.loads(f"value = {setting.default}")["value"], Path("/elsewhere"))
        assert setting.kind.write(value) == setting.default


def test_later_files_win(tmp_path: Path) -> None:
    """Files of conf.d come after the main one in the order of their names, setting by setting; others are not read."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "notes.txt").write_text("no TOML")
    main = _GOOD + '[policy]\nsoft_limit = 2\n[log]\nlevel = "error"\n'
    found = _load(tmp_path, main, b="policy.soft_limit = 4\n", a='policy.soft_limit = 3\nlog.format = "json"\nstore.database = "x.db"\n')
    assert (found.policy.soft_limit, found.log.level, found.log.format) == (4, "error", "json")
    assert found.store.database == tmp_path / "x.db"


def test_relative_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration named by a relative path gives absolute paths all the same."""
    _load(tmp_path, _GOOD + '[store]\ndatabase = "x.db"\n')
    monkeypatch.chdir(tmp_path)
    assert load(Path("bounced.toml")).store.database == tmp_path / "x.db"


def test_all_errors_at_once(tmp_path: Path) -> None:
    """Everything that is wrong is told in one go: file, line, exact path, what was expected, what may have been meant."""
    text = """[return_path]
domain = ["bounces.example.net"]
max_age = 30
[smtp]
max_message = "10MB"
"listen" = ["localhost:25"]
hostnam = ""
[stor]
[log]
soft_limit = 3
level = "loud"
"""
    problems = _problems(tmp_path, text, z='query.socket_mode = "660 "\nkept = 1\n')
    assert problems == [
        "bounced.toml:2: return_path.domain: no such setting; did you mean return_path.domains?",
        'bounced.toml:3: return_path.max_age: expected a duration such as "30d" or "12h" (s, m, h, d), not 30',
        "bounced.toml:5: smtp.max_message: expected a size such as \"10MiB\" (B, KiB, MiB, GiB), not '10MB'",
        'bounced.toml:6: smtp.listen: expected an IP address and a port such as "192.0.2.1:25" or "[2001:db8::1]:25", not \'localhost:25\'',
        "bounced.toml:7: smtp.hostnam: no such setting; did you mean smtp.hostname?",
        "bounced.toml:8: stor: no such section; did you mean store?",
        "bounced.toml:10: log.soft_limit: no such setting; did you mean policy.soft_limit?",
        'bounced.toml:11: log.level: expected one of "debug", "info", "warning", "error", not \'loud\'',
        "conf.d/z.toml:1: query.socket_mode: expected octal permissions in quotes such as \"0660\", not '660 '",
        "conf.d/z.toml:2: kept: expected a table, written [kept], not 1",
    ]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """A file without the required setting, a file that is not there and one that cannot be read are each told."""
    assert _problems(tmp_path, "") == ["bounced.toml: return_path.domains: is missing, and has no default"]
    with pytest.raises(OperatorFault, match=r"nowhere\.toml: cannot be read: No such file"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(OperatorFault, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_one_value_instead_of_a_list_is_told_how_to_write_it(tmp_path: Path) -> None:
    """Who forgets the brackets is shown them around his own word."""
    (problem,) = _problems(tmp_path, '[return_path]\ndomains = "b.example"\n')
    assert problem == "bounced.toml:2: return_path.domains: expected a list of domains, written ['b.example'], not 'b.example'"


def test_a_category_is_a_table_inline_or_of_its_own(tmp_path: Path) -> None:
    """A category's treatment is written in the section or as a table; what is left out is as the category is by itself."""
    table = _load(tmp_path, _GOOD + '[category.mailbox-full]\nthreshold = 3\nexpiry = "90d"\ngrowth = 2\n')
    inline = _load(tmp_path, _GOOD + '[category]\nmailbox-full = { threshold = 3, expiry = "90d", growth = 2 }\n')
    assert inline == table
    assert table.category["mailbox-full"] == Treated(action=Effect.STRIKE, threshold=3, expiry=90 * 86400, growth=2)
    assert table.category["spam-content"] == CATEGORIES["spam-content"] == Treated(action=Effect.TELL)
    assert config.show(table, only_changed=True).splitlines()[1:] == [
        'category.mailbox-full = { action = "strike", threshold = 3, expiry = "90d", growth = 2 }'
    ]


def test_a_wrong_category_is_told_with_its_line(tmp_path: Path) -> None:
    """A misspelt category, and a misspelt word of one, are told with line, exact path and what may have been meant."""
    text = _GOOD + '[category.mailbox-ful]\naction = "strike"\n[category.moved]\ntreshold = 3\n[category.network]\nexpiry = 90\n'
    assert _problems(tmp_path, text) == [
        "bounced.toml:3: category.mailbox-ful: no such setting; did you mean category.mailbox-full?",
        "bounced.toml:5: category.moved: 'treshold' is no word of it; did you mean threshold?",
        'bounced.toml:7: category.network: expiry: expected a duration such as "30d" or "12h" (s, m, h, d), not 90',
    ]


def test_two_settings_of_one_path(tmp_path: Path) -> None:
    """Two things at one path would overwrite one another."""
    text = _GOOD + '[query]\nline = "x"\nhttp = "./x"\n[store]\ndatabase = "/run/bounced/policy.sock"\n'
    assert _problems(tmp_path, text) == [
        "bounced.toml: query.http: is the same path as query.line",
        "bounced.toml: store.database: is the same path as query.policy",
    ]


def test_a_key_in_the_file_of_its_certificate(tmp_path: Path) -> None:
    """Certificate and key may be one file, named once or twice; a key alone is told."""
    for key in ("", 'tls_key = "mx.pem"\n'):
        assert _load(tmp_path, f'{_GOOD}[smtp]\ntls_certificate = "mx.pem"\n{key}').smtp.tls_certificate == tmp_path / "mx.pem"
    assert _problems(tmp_path, _GOOD + '[smtp]\ntls_key = "mx.key"\n') == [
        "bounced.toml: smtp.tls_key: is given, and no smtp.tls_certificate that it belongs to"
    ]


_WRONG = [
    "7", "-1", "true", "1.5", "nan", "9" * 400, "1979-05-27", "{ a = 1 }", "[1]", "[[]]", '"\\u0000"', '"\\u001b[31m"', '["", ""]',
]  # fmt: skip
_WRONG_FOR = {
    "return_path.domains": ["[]", '"a.example"', '["-"]', '["a b"]', '["a..b"]', '["[192.0.2.1]"]', '["x@y"]', '["a.b", "A.b"]'],
    "return_path.scopes": ["[]", '["News"]', '["*"]', '["a", "a"]', '["ü"]'],
    "return_path.max_age": ['"30"', '"30 d"', '"1w"', '"-1d"', '"59m"', '"181d"', '"' + "9" * 20 + 'd"', '"\u0663d"', '""'],
    "return_path.key_file": ['""'],
    "smtp.listen": [
        '["25"]', '[":25"]', '["0.0.0.0:0"]', '["0.0.0.0:65536"]', '["::1:25"]', '["[127.0.0.1]:25"]', '["1.1:25"]', '["[fe80::1%lo]:25"]',
    ],
    "smtp.hostname": ['"a b"', '"a\\r\\nb"', '"-a"', '"' + "a" * 300 + '"'],
    "smtp.proxy_from": ['["x"]', '["192.0.2.1/24"]', '["192.0.2.0/33"]', '["[::1]"]', '["::1%lo"]', '["192.0.2.1", "192.0.2.1/32"]'],
    "smtp.min_free": ['"-1B"', '"2048GiB"', '"10%"', '""'],
    "smtp.max_message": ['"1MiB "', '"0B"', '"63KiB"', '"2GiB"', '"1kb"', '"10"'],
    "query.milter_signs": ["1", '"yes"'],
    "query.socket_mode": ['"660x"', '"0999"', '"99"', '"01777"', '""', "432", "0o660"],
    "query.socket_group": ['"a b"', '"-g"', '"1x"', '"a:b"'],
    "store.database": ['""'],
    "policy.soft_limit": ["0", "1001", '"5"', "true", "5.0"],
    "policy.silence": ['"23h"', '"31d"', '""'],
    "policy.pass_complaints": ['["News"]', '["nowhere"]', '["default", "default"]'],
    "policy.outage_guard": ["1", '"on"'],
    "policy.outage_least": ["29", "1000001"],
    "category.complaint": ['{ action = "strike" }'],
    "category.mailbox-full": [
        '"strike"', '{ action = "Strike" }', '{ action = "" }', "{ threshold = 0 }", '{ threshold = "5" }', '{ expiry = "" }',
        '{ expiry = "30" }', "{ growth = 0 }", "{ growth = 1.5 }", '{ "a\\nb" = 1 }', "{ actions = 1 }",
    ],
    "kept.quota": ['"1023KiB"', '"2048GiB"'],
    "log.format": ['"xml"', '""', '"JSON"'],
    "log.addresses": ['"none"'],
}  # fmt: skip
_BROKEN_TOML = [
    "[", "[smtp", "[smtp]]", "a", "a =", "= 1", "[[smtp]]\n[smtp]", "a.b = 1\na = 2", "a = 'x", 'a = "\\q"', "[smtp]\n[smtp]",
    "a = 1\na = 2", "a = [1,", "a = {b = 1,}", "\x00", "a = 08",
    "[smtp]\nlisten = 1\n[smtp.listen]", "\ufeff[smtp]", "a = " + "[" * 5000,
    "a = 1 b = 2", '"""', "a = 2020-13-01",
]  # fmt: skip


def _broken() -> Iterator[tuple[str, str | bytes, str]]:
    """Give broken files by kind: a name, the content, and what must stand in what is told."""
    for path, setting in settings().items():
        section, _, name = path.partition(".")
        head = "" if section == "return_path" else _GOOD
        domains = 'domains = ["b.example"]\n' if section == "return_path" and name != "domains" else ""
        right = {"policy.soft_limit": {"7"}, "policy.outage_guard": {"true"}, "query.milter_signs": {"true"}}.get(path, set())
        for number, value in enumerate([*_WRONG, *_WRONG_FOR.get(path, [])]):
            if value not in right:
                yield f"{path}-{number}", f"{head}[{section}]\n{domains}{name} = {value}\n", path
        yield f"{path}-misspelt", f"{head}[{section}]\n{domains}{name}x = {setting.default or '[]'}\n", f"did you mean {path}?"
    for section in {path.partition(".")[0] for path in settings()}:
        yield f"{section}-misspelt", f"{_GOOD}[{section}s]\n", f"did you mean {section}?"
        yield f"{section}-list", f"{_GOOD}[[{section}s]]\n", f"did you mean {section}?"
        yield f"{section}-value", f'{section} = "x"\n', f"{section}: expected a table"
    for number, text in enumerate(_BROKEN_TOML):
        yield f"toml-{number}", text, "is no TOML|nested too deep"
    for number, octets in enumerate([b"\xff", b"[smtp]\n# caf\xe9\n", b"\xed\xa0\x80", b"a = '\xc3'"]):
        yield f"octets-{number}", octets, "is not UTF-8"
    yield "digits", f"{_GOOD}[policy]\nsoft_limit = {'9' * 5000}\n", "a number with too many digits"
    yield "unknown", f'{_GOOD}["a\\nb"]\n', r"'a\\nb': no such section"


_CASES = list(_broken())


def test_there_are_200_broken_files() -> None:
    """The generated files are as many as are promised."""
    assert len(_CASES) >= 200


@pytest.mark.parametrize(("text", "told"), [(text, told) for _, text, told in _CASES], ids=[name for name, _, _ in _CASES])
def test_broken_file_gives_a_clear_line(text: str | bytes, told: str, tmp_path: Path) -> None:
    """A broken file is told in one line that names the file and the setting or line; it never starts, and never gives a traceback."""
    problems = _problems(tmp_path, text)
    assert len(problems) == 1
    assert re.match(r"bounced\.toml(:[0-9]+)?: ", problems[0])
    assert re.search(told.replace(".", r"\."), problems[0])
    assert problems[0].isprintable()
    assert len(problems[0]) < 400


def test_control_of_the_broken_files(tmp_path: Path) -> None:
    """Control: what the broken files are made from loads when it is not broken."""
    for path, setting in settings().items():
        section, _, name = path.partition(".")
        if setting.default:
            head = "" if section == "return_path" else _GOOD
            domains = 'domains = ["b.example"]\n' if section == "return_path" else ""
            _load(tmp_path, f"{head}[{section}]\n{domains}{name} = {setting.default}\n")


def test_syntax_errors_name_the_line(tmp_path: Path) -> None:
    """A syntax error is told with its line, also at the end of the file."""
    assert _problems(tmp_path, _GOOD + "\n[smtp]\nlisten = [\n")[0].startswith("bounced.toml:5: is no TOML")
    assert _problems(tmp_path, _GOOD + "oops\n[smtp]\n")[0].startswith("bounced.toml:3: is no TOML")


@given(st.text(alphabet=st.sampled_from('[]=".\n#{}a smtplogen,\\1\t\x1bü'), max_size=60))
def test_any_text_loads_or_is_told(text: str) -> None:
    """Whatever stands in the file, it is loaded or told of as the operator's fault."""
    file = Path(os.environ["PYTEST_TMP_CONFIG"])
    file.write_text(text)
    told = ""
    try:
        load(file)
    except OperatorFault as fault:
        told = str(fault)
    assert all(line.isprintable() for line in told.split("\n"))


@pytest.fixture(autouse=True, scope="module")
def _place_for_texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_TMP_CONFIG", str(tmp_path_factory.mktemp("texts") / "bounced.toml"))
        yield


def test_reference_is_the_file_that_is_installed() -> None:
    """config/bounced.toml is what the schema says: `bounced config reference > config/bounced.toml` makes it so."""
    assert (_ROOT / "config" / "bounced.toml").read_text() == config.reference()


def test_reference_says_the_defaults(tmp_path: Path) -> None:
    """With every # before a setting removed, the reference loads and changes nothing but the domain."""
    as_defaults = _load(tmp_path, re.sub(r"^#(?=\w)", "", config.reference(), flags=re.MULTILINE))
    assert config.show(as_defaults, only_changed=True) == 'return_path.domains = ["bounces.example.net"]\n'
    assert all(len(line) <= 130 for line in config.reference().splitlines())


def test_every_setting_is_documented() -> None:
    """docs/CONFIGURATION.md has a row for each setting, with default and sentence, and no other row."""
    rows = [
        f"| `{path}` | {f'`{setting.default}`' if setting.default else 'must be given'} | {setting.says} |"
        for path, setting in settings().items()
    ]
    found = [line for line in (_ROOT / "docs" / "CONFIGURATION.md").read_text().splitlines() if re.match(r"\| `\w+\.[\w-]+` \|", line)]
    assert found == rows
