"""Where records come from: the live database or a file of them, and in which shapes they come.

It knows how each is asked and what an answer must be like, and not what an asset is.
"""
