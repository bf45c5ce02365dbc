-- The truth: every event, in the order of its commit. An address's history is walked by `previous`, from standing.last_event down,
-- so that no index on addresses has to grow with the events. `detail` is JSON in the words of bounced/record.py.
CREATE TABLE event (
    id       INTEGER PRIMARY KEY,
    previous INTEGER,                -- the event of the same address before this one
    at       INTEGER NOT NULL,       -- Unix seconds
    kind     TEXT NOT NULL,          -- bounced, complained, noticed, delivered, blocked, released
    address  TEXT NOT NULL,
    scope    TEXT NOT NULL,
    token    ANY,                    -- the seal, packed, its time first: new ones are neighbours in the index (see rows.py)
    detail   TEXT NOT NULL
) STRICT;

CREATE INDEX event_token ON event (token) WHERE token IS NOT NULL;

-- What the events add up to. Every known address has a row for the scope '*', which holds the end of its history.
CREATE TABLE standing (
    address     TEXT NOT NULL,
    scope       TEXT NOT NULL,
    cause       TEXT,                -- h(ard), s(oft), c(omplaint), m(anual); NULL: clear
    category    ANY,                 -- the word for why, most by a number (see rows.py)
    since       INTEGER,
    strikes     INTEGER NOT NULL,
    released_at INTEGER,
    last_event  INTEGER,             -- event.id, where scope is '*'
    PRIMARY KEY (address, scope)
) STRICT, WITHOUT ROWID;

-- Whom an opaque return path means.
CREATE TABLE opaque (
    id      ANY NOT NULL PRIMARY KEY,
    address TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How often something was refused or repeated.
CREATE TABLE tally (
    day    TEXT NOT NULL,
    what   TEXT NOT NULL,
    source TEXT NOT NULL,
    times  INTEGER NOT NULL,
    PRIMARY KEY (day, what, source)
) STRICT, WITHOUT ROWID;
