"""The door by which bounces come: SMTP and LMTP.

For: `door.py`, which listens; `dialogue.py`, commands to replies; `sessions.py`, what all sessions share; and the pure pieces `command`,
`reply`, `mail_data` and `sources`. Never: another door, or a judgement.
"""
