"""What run_capsule.py stands on: a room for each concern, which imports only those below it."""
