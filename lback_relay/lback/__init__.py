"""The only package that knows Lback: its settings, its dispatchers, its middleware, its mails.

Importing it imports no framework; the worker and the command line read settings without it.
"""
