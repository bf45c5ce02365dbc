"""The door by which bounces come: SMTP and LMTP.

For: `door.py`, which listens; `session.py`, one connection; `dialogue.py`, commands to replies; `sessions.py`, what all sessions share, and
`room.py`, the disk; `certificate.py`; the pure `command`, `proxy`, `reply`, `mail_data` and `sources`. Never: another door, or a judgement.
"""
