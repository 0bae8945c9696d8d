"""The process and those who watch it: messages without secrets, progress, signals, waiting.

It stands on nothing of ours, and knows no service, no file and no record.
"""
