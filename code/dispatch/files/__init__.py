"""Which files an asset has: which names count, and how assets are listed side by side.

It knows stores by what they answer, and not how any of them is asked.
"""
