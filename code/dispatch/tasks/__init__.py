"""What one worker is to do: a task's name and JSON, its code and result, its place in the output.

It knows assets and files as they were found, and not how that was done.
"""
