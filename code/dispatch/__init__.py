"""The rooms of the program, in folders named for what they stand for; imports go down only."""
