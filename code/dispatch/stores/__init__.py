"""Where files lie: S3 as AWS's own tools ask it, and local folders, a page of names at a time.

It knows what locations there are and how each is asked, and not which names count.
"""
