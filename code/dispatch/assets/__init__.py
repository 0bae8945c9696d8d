"""Which assets a run is about: what a record says of one, lists and groups of them, the latest.

It knows databases by what they answer, helps where nothing matches, and knows no task.
"""
