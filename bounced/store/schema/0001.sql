-- The truth: every event, in the order of its commit. An address's history is walked by `previous`, from standing.last_event down,
-- so that no index on addresses has to grow with the events. `detail` is JSON in the words of bounced/record.py.
CREATE TABLE event (
    id       INTEGER PRIMARY KEY,
    previous INTEGER,                -- the event of the same address before this one
    at       INTEGER NOT NULL,       -- Unix seconds
    kind     TEXT NOT NULL,          -- a kind of event (see rows.py)
    address  TEXT NOT NULL,
    scope    TEXT NOT NULL,
    token    ANY,                    -- the seal, packed, its time first: new ones are neighbours in the index (see rows.py)
    detail   TEXT NOT NULL
) STRICT;

CREATE INDEX event_token ON event (token) WHERE token IS NOT NULL;

-- What the events add up to. Every known address has a row for the scope '*', which holds what is known of the address itself.
CREATE TABLE standing (
    address      TEXT NOT NULL,
    scope        TEXT NOT NULL,
    cause        TEXT,               -- h(ard), s(oft), c(omplaint), m(anual); NULL: clear
    category     ANY,                -- the word for why, most by a number (see rows.py)
    since        INTEGER,
    released_at  INTEGER,
    detail       TEXT,               -- JSON of what few standings have: strikes, expiry, holds
    known_since  INTEGER,            -- these where scope is '*'
    delivered_at INTEGER,
    last_event   INTEGER,            -- event.id
    PRIMARY KEY (address, scope)
) STRICT, WITHOUT ROWID;

-- What many bounces have in common; `detail` is JSON in the words of bounced/incident.py.
CREATE TABLE incident (
    id        TEXT NOT NULL PRIMARY KEY,
    kind      TEXT NOT NULL,
    subject   TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    detail    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX incident_open ON incident (kind, subject) WHERE closed_at IS NULL;

-- Whose verdicts an incident holds, or held.
CREATE TABLE hold (
    incident TEXT NOT NULL,
    address  TEXT NOT NULL,
    PRIMARY KEY (incident, address)
) STRICT, WITHOUT ROWID;

-- What the guard remembers of each provider (see rows.py).
CREATE TABLE watch (
    provider TEXT NOT NULL PRIMARY KEY,
    numbers  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whom an opaque return path means.
CREATE TABLE opaque (
    id      ANY NOT NULL PRIMARY KEY,
    address TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Texts of bounces that no rule matched, grouped by what they say (see outcome/similarity.py), with one of them.
CREATE TABLE unmatched (
    key    TEXT NOT NULL PRIMARY KEY,
    times  INTEGER NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    sample TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How often something was refused or repeated.
CREATE TABLE tally (
    day    TEXT NOT NULL,
    what   TEXT NOT NULL,
    source TEXT NOT NULL,
    times  INTEGER NOT NULL,
    PRIMARY KEY (day, what, source)
) STRICT, WITHOUT ROWID;
