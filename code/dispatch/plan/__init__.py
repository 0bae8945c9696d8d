"""What is dispatched and what is not, as a person reads it: in a line, a table, a terminal, a page.

It knows assets, files and tasks by what they are, and asks no service.
"""
