"""The bounce handler for people who send mail from their own servers.

The package reads in the order a bounce travels: smtp -> returnpath -> report -> outcome -> policy -> store -> query.
Start with intake.py, the story of one bounce.
"""

__version__ = "0.1.0"
