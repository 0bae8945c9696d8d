"""What a user gives: flags, filters and input files, and values as JSON and MongoDB have them.

It knows how these are written and what is wrong with them, and not what they are for.
"""
